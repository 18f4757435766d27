//! What is known of everyone who uses roots: proxies and the server of this process, what other replicas tell of theirs, and
//! what was written to where proxies and the API server read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use osm_issuer::rotation::{Evidence, Holding, Participant, Record, RootName};
use osm_xds::{ProxyName, Server};
use time::OffsetDateTime;

use super::Keeper;
use super::known::Known;
use crate::gateway::GatewayState;
use crate::roots::deliveries::{Bundles, names_of};
use crate::roots::provider::RootProblem;
use crate::roots::proxies::joined;
use crate::roots::report::{ReportedProblem, RootsReport, alike, root_name};
use crate::roots::surroundings::{ClusterSurroundings, OtherReplicas, Surroundings};
use crate::written_roots::WrittenRoots;

/// How long after a change a replica may start that has not heard of it, and is not known to the one that leads.
const REPLICAS_START_WITHIN: Duration = Duration::from_secs(5);
/// How long it takes at most until the API server verifies webhooks by what was written.
const WEBHOOKS_DELAY: Duration = Duration::from_secs(10);

/// What was told to the other replicas.
pub(super) struct Reported {
    own: Evidence,
    record: Option<u64>,
    problem: Option<RootProblem>,
}

impl Keeper {
    /// Of everyone.
    pub(super) fn evidence(&mut self, server: &Server, now: OffsetDateTime) -> Evidence {
        let mut evidence = self.own_evidence(server, now);
        self.report(&evidence);
        match &self.inputs.surroundings {
            Surroundings::Alone => {
                evidence.holdings.insert(Participant::TrustBundles, self.bundles_after_delay(now).into());
            }
            Surroundings::Cluster(cluster) => self.add_cluster(&mut evidence, cluster, now),
        }
        evidence.leaves.retain(|root, _| self.record.signing.as_ref() != Some(root));
        self.watched.see(evidence.holdings.keys(), now);
        let has_left = |proxy: &ProxyName| self.inputs.surroundings.has_left(proxy);
        evidence.absent = self.watched.absent(now, self.inputs.timing.proxy_grace, has_left);
        evidence
    }

    /// Of what is connected to this process.
    pub(super) fn own_evidence(&mut self, server: &Server, now: OffsetDateTime) -> Evidence {
        let bundles = self.bundles.load_full();
        let mut evidence = self.watched.evidence(server, &self.deliveries, &bundles, &self.record, now);
        // Nothing is known of anybody until what was decided last is on its way.
        let is_on_its_way = self.is_enforced() && self.deliveries.is_published(&self.record.trusted, &bundles);
        let holding = if is_on_its_way { self.deliveries.server(&bundles) } else { Holding::Unknown };
        evidence.holdings.insert(Participant::ControlPlane(self.inputs.surroundings.replica()), holding.into());
        for (roots, until) in self.store.roots_in_use() {
            for root in names_of(&roots, &bundles) {
                note(&mut evidence.leaves, root, until);
            }
        }
        evidence
    }

    /// Tells the other replicas what is known here.
    pub(super) fn report(&mut self, own: &Evidence) {
        let Surroundings::Cluster(cluster) = &self.inputs.surroundings else { return };
        let record = self.is_enforced().then_some(self.written.0.revision);
        let problem = self.own_problem();
        let told = self.reported.as_ref();
        if told.is_some_and(|told| told.own == *own && (told.record, &told.problem) == (record, &problem)) {
            return;
        }
        let replica = Participant::ControlPlane(self.inputs.surroundings.replica());
        let proxies = own.holdings.iter().filter_map(|(participant, holding)| match participant {
            Participant::Proxy(name) => Some((&**name, &**holding)),
            _ => None,
        });
        let leaves = own.leaves.iter().map(|(root, until)| (root.to_string(), until.unix_timestamp()));
        let report = RootsReport {
            record,
            control_plane: own.holdings.get(&replica).map(|holding| (&**holding).into()).unwrap_or_default(),
            proxies: alike(proxies),
            leaves: leaves.collect(),
            problem: problem.as_ref().map(|problem| Box::new(ReportedProblem::from(problem))),
        };
        cluster.report.send_if_modified(|told| {
            let differs = **told != report;
            if differs {
                *told = Arc::new(report);
            }
            differs
        });
        self.reported = Some(Reported { own: own.clone(), record, problem });
    }

    fn add_cluster(&self, evidence: &mut Evidence, cluster: &ClusterSurroundings, now: OffsetDateTime) {
        let unknown = |name: &str| (Participant::ControlPlane(name.into()), Arc::new(Holding::Unknown));
        if self.record_since.elapsed() < REPLICAS_START_WITHIN {
            evidence.holdings.extend([unknown("(replicas that may have just started)")]);
        }
        match &*cluster.others.borrow() {
            OtherReplicas::Unknown => evidence.holdings.extend([unknown("(other replicas)")]),
            OtherReplicas::Known(replicas) => {
                for (pod, report) in replicas {
                    match report {
                        Some(report) => add_replica(evidence, pod, report, self.written.0.revision),
                        None => evidence.holdings.extend([unknown(pod)]),
                    }
                }
            }
        }
        let delay = self.inputs.timing.trust_bundle_delay;
        for (participant, written, delay) in [
            (Participant::TrustBundles, &cluster.trust_bundles, delay),
            (Participant::Webhooks, &cluster.webhooks, WEBHOOKS_DELAY),
        ] {
            let holding = holding_of_written(&written.borrow(), &self.bundles.load(), delay, now);
            evidence.holdings.extend(holding.map(|holding| (participant, holding.into())));
        }
        let holding = holding_of_gateway(&cluster.gateway.borrow(), &self.bundles.load(), &self.record, delay, now);
        evidence.holdings.extend(holding.map(|holding| (Participant::IngressGateway, holding.into())));
    }

    /// Without a cluster nothing tells of the files that proxies verify the control plane against: they hold a root once it has
    /// been trusted for long enough.
    fn bundles_after_delay(&self, now: OffsetDateTime) -> Holding {
        let delay = self.inputs.timing.trust_bundle_delay;
        let there = |known: &Known| known.trusted_since.is_some_and(|since| since + delay <= now);
        let alone = self.record.trusted.len() == 1;
        let names = self.record.trusted.iter();
        let trusts: BTreeSet<RootName> =
            names.filter(|name| alone || self.roots.get(*name).is_some_and(there)).cloned().collect();
        Holding::settled(trusts, BTreeSet::new())
    }
}

/// What another replica tells, if it goes by the record of this revision.
fn add_replica(evidence: &mut Evidence, pod: &str, report: &RootsReport, revision: u64) {
    let mut control_plane = match report.record == Some(revision) {
        true => Holding::from(&report.control_plane),
        false => Holding::Unknown,
    };
    for (named, until) in &report.leaves {
        match (root_name(named), OffsetDateTime::from_unix_timestamp(*until)) {
            (Some(root), Ok(until)) => note(&mut evidence.leaves, root, until),
            // It could hide the use of a root.
            _ => control_plane = Holding::Unknown,
        }
    }
    evidence.holdings.insert(Participant::ControlPlane(pod.into()), control_plane.into());
    for alike in &report.proxies {
        let holding = Arc::new(Holding::from(&alike.holding));
        for name in &alike.names {
            let participant = Participant::Proxy(name.as_str().into());
            let both = match evidence.holdings.remove(&participant) {
                Some(other) => Arc::new(joined(&other, &holding)),
                None => Arc::clone(&holding),
            };
            evidence.holdings.insert(participant, both);
        }
    }
}

fn note(leaves: &mut BTreeMap<RootName, OffsetDateTime>, root: RootName, until: OffsetDateTime) {
    let latest = leaves.entry(root).or_insert(until);
    *latest = (*latest).max(until);
}

/// What is known of the ingress gateway, which reads a Secret, late by up to `delay`; `None` where there is none.
fn holding_of_gateway(
    gateway: &GatewayState,
    bundles: &Bundles,
    record: &Record,
    delay: Duration,
    now: OffsetDateTime,
) -> Option<Holding> {
    let (trusted, shown) = match gateway {
        GatewayState::Unknown => return Some(Holding::Unknown),
        GatewayState::Nowhere => return None,
        GatewayState::Known { trusted, shown } => (trusted, shown),
    };
    let mut holding = holding_of_written(trusted, bundles, delay, now)?;
    if let Holding::Known { may_show, .. } = &mut holding {
        *may_show = match shown.at(delay, now) {
            Some(shown) => shown.into_iter().flat_map(|roots| names_of(roots, bundles)).collect(),
            None => record.trusted.clone(),
        };
    }
    Some(holding)
}

/// What is known of whoever reads what was written, late by up to `delay`; `None` where there is nobody.
fn holding_of_written(
    written: &WrittenRoots,
    bundles: &Bundles,
    delay: Duration,
    now: OffsetDateTime,
) -> Option<Holding> {
    match written {
        WrittenRoots::Unknown => Some(Holding::Unknown),
        WrittenRoots::Nowhere => None,
        WrittenRoots::Known(_) => {
            let since = bundles.iter().filter_map(|(name, bundle)| Some((name, written.since(bundle)?)));
            let (mut trusts, mut may_trust) = (BTreeSet::new(), BTreeSet::new());
            for (name, since) in since {
                may_trust.insert(name.clone());
                if since + delay <= now {
                    trusts.insert(name.clone());
                }
            }
            Some(Holding::Known { trusts, may_trust, may_show: BTreeSet::new(), connected_with: BTreeSet::new() })
        }
    }
}
