//! The task that keeps roots: makes issuers, takes steps, tells what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use osm_api::{MeshRootCertificate, MeshRootCertificateReason as Reason, ObjectRef, Role as ApiRole};
use osm_issuer::rotation::{
    Availability, Evidence, Holding, Participant, Plan, Record, Role, Root, RootName, Roots, Standing, Step,
    check_roles, plan,
};
use osm_issuer::{CertificateStore, Clock, StoreConfig};
use osm_mesh::{Parsed, RootFacts, RootRemoval, mesh_root_certificate};
use osm_model::{Aspect, Finding, Severity};
use osm_xds::{Cache, Epoch, Server};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::deliveries::{Bundles, Deliveries, names_of};
use super::issuers::{self, BuiltIn};
use super::provider::{Built, Factory, RootProblem};
use super::proxies::Watched;
use super::record::{RecordDocument, RecordFile, RecordedName, RecordedRoot};
use super::status::{self, Circumstances, RootEvent, RootStatus, RootsNews};
use super::{Timing, page};
use crate::publish::snapshot_key;

/// How often evidence is gathered while something is under way.
const BUSY: Duration = Duration::from_millis(50);
/// How often it is gathered while nothing is.
const IDLE: Duration = Duration::from_secs(1);
/// How often the number of connected proxies is written down at the most.
const WRITE_COUNT_EVERY: Duration = Duration::from_secs(2);
/// How often a status tells of another time of renewal at the most.
const TELL_RENEWAL_EVERY: Duration = Duration::from_secs(600);
/// More steps than any rotation has.
const MOST_STEPS: usize = 16;

/// Changed MeshRootCertificates; `None` for those that are gone.
pub(crate) type RootObjects = Vec<(ObjectRef, Option<MeshRootCertificate>)>;

/// What a keeper is made from.
#[derive(Debug)]
pub(crate) struct KeeperInputs {
    /// Namespace of the control plane: MeshRootCertificates elsewhere have no effect.
    pub(crate) namespace: String,
    /// Trust domain of the mesh.
    pub(crate) trust_domain: String,
    /// Makes issuers.
    pub(crate) factory: Factory,
    /// The authority that the control plane is started with.
    pub(crate) built_in: BuiltIn,
    /// Where what is in force is written down.
    pub(crate) record: RecordFile,
    /// How long to wait for what nothing tells.
    pub(crate) timing: Timing,
    /// The time.
    pub(crate) clock: Clock,
}

/// What is known of one root.
#[derive(Debug, Default)]
struct Known {
    /// Its object; `None` for the built-in authority and for objects that were deleted.
    object: Option<RootObject>,
    /// The issuer that is used, or could be.
    built: Option<Built>,
    /// Why it cannot be used, or could not be renewed; and when to look again.
    problem: Option<(RootProblem, OffsetDateTime)>,
    trusted_since: Option<OffsetDateTime>,
}

#[derive(Debug)]
struct RootObject {
    reference: ObjectRef,
    object: MeshRootCertificate,
    parsed: Parsed<RootFacts>,
}

/// See the module.
pub(crate) struct Keeper {
    inputs: KeeperInputs,
    store: Arc<CertificateStore>,
    deliveries: Arc<Deliveries>,
    roots: BTreeMap<RootName, Known>,
    record: Record,
    watched: Watched,
    told: BTreeMap<ObjectRef, RootStatus>,
    next_renewal: Option<(OffsetDateTime, Instant)>,
    written: (RecordDocument, Instant),
    shown: Arc<ArcSwap<Value>>,
    bundles: Arc<ArcSwap<Bundles>>,
    events: Vec<RootEvent>,
}

impl Keeper {
    /// Takes up what is in force according to the record. Without a record the MeshRootCertificates in `objects` are, or
    /// else the built-in authority, which also is when it was there before.
    ///
    /// # Errors
    /// No root can sign, or the record cannot be read.
    pub(crate) async fn open(inputs: KeeperInputs, objects: RootObjects) -> anyhow::Result<Self> {
        let now = inputs.clock.now();
        let document = inputs.record.read()?;
        let (record, built) = match &document {
            Some(document) => {
                (document.record(), issuers::of_record(document, &inputs.built_in, &inputs.factory, now).await?)
            }
            None => first(&inputs, &objects, now).await?,
        };
        let issuers = issuers::issuers(&record, &built).context("find out which root signs")?;
        let store = CertificateStore::new(issuers, StoreConfig::default(), inputs.clock.clone());
        let document = document.unwrap_or_default();
        let since: BTreeMap<RootName, i64> =
            document.trusted.iter().map(|root| (RootName::from(&root.root), root.trusted_since)).collect();
        let mut roots: BTreeMap<RootName, Known> = BTreeMap::new();
        for (name, built) in built {
            let since = since.get(&name).and_then(|since| OffsetDateTime::from_unix_timestamp(*since).ok());
            let known = Known { built: Some(built), trusted_since: since.or(Some(now)), ..Known::default() };
            roots.insert(name, known);
        }
        let watched = Watched::new(document.proxies, now + inputs.timing.proxy_grace);
        let mut keeper = Self {
            store: Arc::new(store),
            deliveries: Arc::default(),
            roots,
            record,
            watched,
            told: BTreeMap::new(),
            next_renewal: None,
            written: (document, Instant::now()),
            shown: Arc::default(),
            bundles: Arc::default(),
            events: Vec::new(),
            inputs,
        };
        keeper.write_down()?;
        keeper.share_bundles();
        Ok(keeper)
    }

    /// The store that it keeps the issuers of.
    pub(crate) fn store(&self) -> &Arc<CertificateStore> {
        &self.store
    }

    /// Where publications have to be noted.
    pub(crate) fn deliveries(&self) -> &Arc<Deliveries> {
        &self.deliveries
    }

    /// Answers the pages `roots` and `certificates` of the admin endpoint.
    pub(crate) fn pages(&self) -> impl Fn(&str) -> Option<Value> + Send + Sync + 'static {
        let (store, shown, bundles) = (Arc::clone(&self.store), Arc::clone(&self.shown), Arc::clone(&self.bundles));
        move |page| match page {
            "roots" => Some(Value::clone(&shown.load())),
            "certificates" => Some(page::certificates(&store, &bundles.load())),
            _ => None,
        }
    }

    /// Runs for ever.
    pub(crate) async fn run(
        mut self,
        server: Server,
        mut objects: mpsc::UnboundedReceiver<RootObjects>,
        news: mpsc::UnboundedSender<RootsNews>,
    ) -> Infallible {
        let cache = server.cache().clone();
        let mut wait = BUSY;
        loop {
            tokio::select! {
                Some(changes) = objects.recv() => self.take(changes),
                () = tokio::time::sleep(wait) => {}
            }
            // Before everything was read, an object that is not there yet would look deleted.
            if !cache.is_ready() {
                continue;
            }
            self.build().await;
            let (plan, evidence) = self.step(&server).await;
            self.watched.reconnect(&server, &self.record, &self.wanted(), Instant::now());
            self.forget(&cache, &evidence);
            self.shown.store(Arc::new(page::roots(&plan, &evidence)));
            let told = self.tell(&plan);
            if !(told.statuses.is_empty() && told.events.is_empty()) && news.send(told).is_err() {
                tracing::debug!("the loop of the mesh has ended");
            }
            wait = if plan.is_complete() && self.watched.is_settled() { IDLE } else { BUSY };
        }
    }

    fn take(&mut self, changes: RootObjects) {
        for (reference, object) in changes {
            let name = RootName::new(reference.namespace.as_str(), reference.name.as_str());
            let known = self.roots.entry(name).or_default();
            known.object = object.map(|object| RootObject {
                parsed: self.inputs.parse(&object),
                reference: reference.clone(),
                object,
            });
            // Whatever was wrong may be mended.
            if let Some((_, at)) = &mut known.problem {
                *at = OffsetDateTime::UNIX_EPOCH;
            }
            if known.object.is_none() {
                known.problem = None;
            }
        }
    }

    /// Makes the issuers that are missing. The last good one of a root stays whatever becomes of its object.
    async fn build(&mut self) {
        let now = self.inputs.clock.now();
        for (name, known) in &mut self.roots {
            let Some(object) = &known.object else { continue };
            let due = known.problem.as_ref().is_none_or(|(_, at)| *at <= now);
            let usable = known.built.as_ref().is_some_and(|built| built.signs);
            if object.parsed.value.is_none() || usable || !due {
                continue;
            }
            match self.inputs.factory.build(&object.object.spec.provider, now).await {
                Ok(built) if known.built.as_ref().is_none_or(|before| before.bundle == built.bundle) => {
                    tracing::info!(root = %name, not_after = %built.not_after, "the root can be used");
                    (known.built, known.problem) = (Some(built), None);
                }
                Ok(_) => {
                    let problem = RootProblem::new(
                        Reason::InvalidSecret,
                        "spec.provider",
                        "the provider has another certificate than the one that is in force",
                        "restore it, or create another MeshRootCertificate and rotate to it",
                    );
                    known.fail(name, problem, now);
                }
                Err(problem) => known.fail(name, problem, now),
            }
        }
        self.share_bundles();
    }

    /// Takes the steps that nothing holds.
    async fn step(&mut self, server: &Server) -> (Plan, Evidence) {
        for _ in 0..MOST_STEPS {
            let now = self.inputs.clock.now();
            let evidence = self.evidence(server, now);
            let plan = plan(&self.wanted(), &self.record, &evidence, now);
            let Some(step) = plan.step.clone() else { return (plan, evidence) };
            if let Err(error) = self.put_in_force(&step, plan.record.clone()).await {
                tracing::error!(error = format!("{error:#}"), ?step, "a step of a rotation failed; trying again");
                return (plan, evidence);
            }
        }
        let now = self.inputs.clock.now();
        let evidence = self.evidence(server, now);
        (plan(&self.wanted(), &self.record, &evidence, now), evidence)
    }

    async fn put_in_force(&mut self, step: &Step, record: Record) -> anyhow::Result<()> {
        let built = self.built();
        let issuers = issuers::issuers(&record, &built).context("find out who signs")?;
        self.store.set_issuers(issuers).await?;
        let now = self.inputs.clock.now();
        for (name, known) in &mut self.roots {
            match record.trusted.contains(name) {
                true => known.trusted_since = known.trusted_since.or(Some(now)),
                false => known.trusted_since = None,
            }
        }
        self.record = record;
        self.write_down()?;
        self.announce(step);
        Ok(())
    }

    fn announce(&mut self, step: &Step) {
        let (name, reason, message) = match step {
            Step::Begin => return,
            Step::Trust(name) => (name, "ValidatingRollout", format!("{name} is trusted from now on")),
            Step::Sign(name) => {
                (name, "IssuingRollout", format!("{name} signs from now on; certificates are replaced"))
            }
            Step::Retire(name) => {
                (name, "ValidatingRollback", format!("{name} is trusted no longer; nobody used it any more"))
            }
            Step::Remove(name) => (
                name,
                "RemovedAtOnce",
                format!(
                    "{name} is removed at once, as its annotation asks; requests fail until certificates are replaced"
                ),
            ),
        };
        tracing::info!(root = %name, reason, "{message}");
        if let Some(object) = self.roots.get(name).and_then(|known| known.object.as_ref()) {
            self.events.push(RootEvent { object: object.reference.clone(), reason, message });
        }
    }

    fn built(&self) -> BTreeMap<RootName, Built> {
        self.roots.iter().filter_map(|(name, known)| Some((name.clone(), known.built.clone()?))).collect()
    }

    fn share_bundles(&self) {
        let bundles: Bundles = self.built().into_iter().map(|(name, built)| (name, built.bundle)).collect();
        if **self.bundles.load() != bundles {
            self.bundles.store(Arc::new(bundles));
        }
    }

    /// The roots as their objects want them.
    fn wanted(&self) -> Roots {
        let takes_part = |known: &&Known| known.object.as_ref().is_none_or(|object| self.is_ours(object));
        let known = self.roots.iter().filter(|(_, known)| takes_part(known));
        let mut wanted: Roots = known.map(|(name, known)| (name.clone(), known.wanted())).collect();
        let built_in = &self.inputs.built_in.name;
        let of_objects = || wanted.iter().filter(|(name, _)| *name != built_in).map(|(_, root)| root.role);
        // Once another root has taken its place it comes back only when no object is left that could be used.
        let comes_back = self.record.trusted.contains(built_in) || of_objects().all(|role| role == Role::Inactive);
        let role = match comes_back && of_objects().all(|role| role != Role::Active) {
            true => Role::Active,
            false => Role::Inactive,
        };
        if let Some(built_in) = wanted.get_mut(&self.inputs.built_in.name) {
            built_in.role = role;
        }
        wanted
    }

    /// Objects of other namespaces take no part.
    fn is_ours(&self, object: &RootObject) -> bool {
        object.reference.namespace == self.inputs.namespace
    }

    fn evidence(&mut self, server: &Server, now: OffsetDateTime) -> Evidence {
        let bundles = Bundles::clone(&self.bundles.load());
        let mut evidence = self.watched.evidence(server, &self.deliveries, &bundles, &self.record, now);
        evidence.absent = self.watched.absent(now, self.inputs.timing.proxy_grace);
        // Nothing is known of anybody until what was decided last is on its way.
        if !self.deliveries.is_published(&self.record.trusted, &bundles) {
            evidence.holdings.insert(Watched::control_plane(), Holding::Unknown);
        } else {
            evidence.holdings.insert(Watched::control_plane(), self.deliveries.server(&bundles));
        }
        let (participant, holding) = self.trust_bundles(now);
        evidence.holdings.insert(participant, holding);
        for status in self.store.status() {
            let Some(leaf) = status.leaf else { continue };
            for root in names_of(&leaf.roots, &bundles) {
                if self.record.signing.as_ref() != Some(&root) {
                    let latest = evidence.leaves.entry(root).or_insert(leaf.not_after);
                    *latest = (*latest).max(leaf.not_after);
                }
            }
        }
        evidence
    }

    /// The files that proxies verify the control plane against hold a root once it has been trusted for long enough.
    fn trust_bundles(&self, now: OffsetDateTime) -> (Participant, Holding) {
        let delay = self.inputs.timing.trust_bundle_delay;
        let there = |known: &Known| known.trusted_since.is_some_and(|since| since + delay <= now);
        let alone = self.record.trusted.len() == 1;
        let names = self.record.trusted.iter();
        let trusts: BTreeSet<RootName> =
            names.filter(|name| alone || self.roots.get(*name).is_some_and(there)).cloned().collect();
        let holding = Holding::settled(trusts, BTreeSet::new());
        (Participant::TrustBundles, holding)
    }

    fn forget(&mut self, cache: &Cache, evidence: &Evidence) {
        let epoch = self.watched.oldest_acknowledged().unwrap_or(Epoch(0));
        self.deliveries.forget(|workload| cache.current(&snapshot_key(workload)).is_some(), epoch);
        // An object that is deleted is remembered as long as anybody uses what it stood for.
        let used: BTreeSet<RootName> = self.record.trusted.iter().chain(evidence.leaves.keys()).cloned().collect();
        let built_in = &self.inputs.built_in.name;
        self.roots.retain(|name, known| known.object.is_some() || used.contains(name) || name == built_in);
        if let Err(error) = self.write_down() {
            tracing::error!(error = format!("{error:#}"), "what is in force cannot be written down; trying again");
        }
    }

    /// Writes down what is in force if it differs from what was written.
    fn write_down(&mut self) -> anyhow::Result<()> {
        let trusted = self.record.trusted.iter().filter_map(|name| {
            let known = self.roots.get(name)?;
            let recorded = self.written.0.trusted.iter().find(|root| RootName::from(&root.root) == *name);
            let provider = match &known.object {
                Some(object) => Some(object.object.spec.provider.clone()),
                None => recorded.and_then(|root| root.provider.clone()),
            };
            Some(RecordedRoot {
                root: RecordedName::from(name),
                provider: provider.filter(|_| *name != self.inputs.built_in.name),
                certificates: known.built.as_ref()?.bundle.pem(),
                trusted_since: known.trusted_since?.unix_timestamp(),
            })
        });
        let document = RecordDocument {
            signing: self.record.signing.as_ref().map(RecordedName::from),
            trusted: trusted.collect(),
            proxies: self.watched.expected(),
        };
        let (before, at) = &self.written;
        let counted_lately = at.elapsed() < WRITE_COUNT_EVERY;
        let only_counts = RecordDocument { proxies: before.proxies, ..document.clone() } == *before;
        if document == *before || (only_counts && counted_lately) {
            return Ok(());
        }
        self.inputs.record.write(&document)?;
        self.written = (document, Instant::now());
        Ok(())
    }

    fn tell(&mut self, plan: &Plan) -> RootsNews {
        let mut news = RootsNews { statuses: Vec::new(), events: std::mem::take(&mut self.events) };
        let next_renewal = self.next_renewal();
        let mut told = BTreeMap::new();
        for (name, known) in &self.roots {
            let Some(object) = &known.object else { continue };
            let Some(report) = plan.reports.get(name) else {
                let status = RootStatus::without_effect(self.findings(name, known, object, plan));
                if self.told.get(&object.reference) != Some(&status) {
                    news.statuses.push((object.reference.clone(), Some(status.clone())));
                }
                told.insert(object.reference.clone(), status);
                continue;
            };
            let circumstances = Circumstances {
                expires: known.built.as_ref().map(|built| built.not_after),
                next_renewal: next_renewal.filter(|_| self.record.signing.as_ref() == Some(name)),
                waived: object.parsed.value.as_ref().map(|facts| facts.waived.clone()).unwrap_or_default(),
            };
            let status = RootStatus {
                findings: self.findings(name, known, object, plan),
                programmed: status::programmed(report, &circumstances),
                targeted: u32::try_from(report.targeted).unwrap_or(u32::MAX),
                acknowledged: u32::try_from(report.acknowledged).unwrap_or(u32::MAX),
                fields: status::fields(report, &circumstances),
            };
            if self.told.get(&object.reference) != Some(&status) {
                news.statuses.push((object.reference.clone(), Some(status.clone())));
            }
            told.insert(object.reference.clone(), status);
        }
        let gone = self.told.keys().filter(|reference| !told.contains_key(*reference));
        news.statuses.extend(gone.map(|reference| (reference.clone(), None)));
        self.told = told;
        news
    }

    /// What is wrong with a root beyond what its text says.
    fn findings(&self, name: &RootName, known: &Known, object: &RootObject, plan: &Plan) -> Vec<Finding> {
        let finding = |aspect, severity, field: &str, reason: &'static str, message: &str, remedy: &str| Finding {
            object: osm_engine::object_id(&object.reference),
            field: field.into(),
            aspect,
            severity,
            reason,
            message: message.into(),
            remedy: remedy.into(),
        };
        let mut findings = object.parsed.findings.clone();
        if let Some((problem, _)) = &known.problem {
            let RootProblem { reason, field, message, remedy, .. } = problem;
            // One that signs already goes on with what it has.
            let severity = if known.built.is_some() { Severity::Warning } else { Severity::Error };
            findings.push(finding(Aspect::ResolvedRefs, severity, field, reason, message, remedy));
        }
        if let (Err(error), true) = (&plan.roles, self.is_ours(object)) {
            let message = error.to_string();
            let message = message.strip_prefix("spec.role: ").unwrap_or(&message);
            let (what, remedy) = message.split_once("; ").unwrap_or((message, "change the roles"));
            let reason = Reason::InvalidRoles.as_str();
            findings.push(finding(Aspect::Accepted, Severity::Error, "spec.role", reason, what, remedy));
        }
        let now = self.inputs.clock.now();
        if let Some(built) = known.built.as_ref().filter(|built| built.not_after <= now) {
            let message = format!("the root certificate ended at {}", built.not_after);
            let (reason, remedy) = (Reason::Expired.as_str(), "create another MeshRootCertificate and rotate to it");
            findings.push(finding(Aspect::Accepted, Severity::Error, "spec.provider", reason, &message, remedy));
        }
        let removed = object.parsed.value.as_ref().is_some_and(|facts| facts.removal == RootRemoval::Now);
        if removed && !self.record.trusted.contains(name) {
            let (reason, message) = (Reason::Removed.as_str(), "the root is removed for good, as asked for");
            let field = format!("metadata.annotations[{}]", osm_api::REMOVE_ROOT_NOW_ANNOTATION);
            let remedy = "delete the object when every proxy has a certificate of another root";
            findings.push(finding(Aspect::Accepted, Severity::Warning, &field, reason, message, remedy));
        }
        findings
    }

    /// When the next certificate is due; told anew only when that time is over, and not too often.
    fn next_renewal(&mut self) -> Option<OffsetDateTime> {
        let now = self.inputs.clock.now();
        let stale = match self.next_renewal {
            Some((at, since)) => at <= now && since.elapsed() >= TELL_RENEWAL_EVERY,
            None => true,
        };
        if stale {
            self.next_renewal = self.store.next_renewal().map(|at| (at, Instant::now()));
        }
        self.next_renewal.map(|(at, _)| at)
    }
}

impl Known {
    fn fail(&mut self, name: &RootName, problem: RootProblem, now: OffsetDateTime) {
        let again = self.problem.as_ref().is_some_and(|(before, _)| before.message == problem.message);
        if !again {
            tracing::error!(root = %name, field = problem.field, message = problem.message, remedy = problem.remedy, "the root cannot be used");
        }
        let at = now + problem.retry;
        self.problem = Some((problem, at));
    }

    fn wanted(&self) -> Root {
        let facts = self.object.as_ref().and_then(|object| object.parsed.value.as_ref());
        let availability = match &self.built {
            Some(built) if built.signs => Availability::Usable { not_before: built.not_before },
            Some(_) => Availability::ValidatingOnly,
            None => Availability::Unusable,
        };
        let created = self.object.as_ref().and_then(|object| object.object.metadata.creation_timestamp.as_ref());
        let created = created.and_then(|at| OffsetDateTime::from_unix_timestamp(at.0.as_second()).ok());
        // What cannot be understood keeps the role that its text has, so that it is not retired for a mistake.
        let role = self.object.as_ref().map(|object| object.object.spec.role());
        Root {
            role: match role {
                Some(ApiRole::Active) => Role::Active,
                Some(ApiRole::Passive) => Role::Passive,
                Some(ApiRole::Inactive) | None => Role::Inactive,
            },
            created: created.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            availability,
            standing: match facts.map(|facts| facts.removal) {
                Some(RootRemoval::Now) => Standing::Compromised,
                Some(RootRemoval::WhenUnused) | None => Standing::Good,
            },
            waived: facts.map(|facts| facts.waived.clone()).unwrap_or_default(),
        }
    }
}

impl KeeperInputs {
    /// Reads an object, with what can be said of it only here.
    fn parse(&self, object: &MeshRootCertificate) -> Parsed<RootFacts> {
        let mut parsed = mesh_root_certificate(object);
        let mut refuse = |field: &str, reason: Reason, message: String, remedy: String| {
            parsed.findings.push(Finding {
                object: osm_engine::object_id(&osm_api::MeshObject::reference(object)),
                field: field.into(),
                aspect: Aspect::Accepted,
                severity: Severity::Error,
                reason: reason.as_str(),
                message: message.into(),
                remedy: remedy.into(),
            });
            parsed.value = None;
        };
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        if namespace != self.namespace {
            let message = format!("{namespace:?} is not the namespace of the control plane");
            let remedy = format!("create the object in {}", self.namespace);
            refuse("metadata.namespace", Reason::NotInUse, message, remedy);
        }
        let domain = object.spec.trust_domain();
        if domain != self.trust_domain {
            let message = format!("{domain:?} is not the trust domain of the mesh, {:?}", self.trust_domain);
            let remedy = "use that trust domain, or start the control plane with --trust-domain".to_owned();
            refuse("spec.trustDomain", Reason::TrustDomainMismatch, message, remedy);
        }
        parsed
    }
}

/// What is put in force where no record is.
async fn first(
    inputs: &KeeperInputs,
    objects: &RootObjects,
    now: OffsetDateTime,
) -> anyhow::Result<(Record, BTreeMap<RootName, Built>)> {
    let mut roots: BTreeMap<RootName, Known> = BTreeMap::new();
    // An authority that was there before may have signed already what proxies hold.
    if !inputs.built_in.exists() {
        for (reference, object) in objects {
            let Some(object) = object else { continue };
            let parsed = inputs.parse(object);
            let mut known = Known::default();
            if parsed.value.is_some() {
                match inputs.factory.build(&object.spec.provider, now).await {
                    Ok(built) => known.built = Some(built),
                    Err(problem) => {
                        tracing::error!(object = %reference, message = problem.message, "the root cannot be used")
                    }
                }
            }
            known.object = Some(RootObject { reference: reference.clone(), object: object.clone(), parsed });
            roots.insert(RootName::new(reference.namespace.as_str(), reference.name.as_str()), known);
        }
    }
    let wanted: Roots = roots.iter().map(|(name, known)| (name.clone(), known.wanted())).collect();
    let roles = wanted.iter().map(|(name, root)| (name.clone(), root.role)).collect();
    let record = Record::initial(&wanted);
    if record.signing.is_some() && check_roles(&roles).is_ok() {
        let built = roots.into_iter().filter_map(|(name, known)| Some((name, known.built?)));
        let trusted = record.trusted.clone();
        return Ok((record, built.filter(|(name, _)| trusted.contains(name)).collect()));
    }
    let name = inputs.built_in.name.clone();
    let record = Record { signing: Some(name.clone()), trusted: BTreeSet::from([name.clone()]) };
    Ok((record, BTreeMap::from([(name, inputs.built_in.build(now).await?)])))
}
