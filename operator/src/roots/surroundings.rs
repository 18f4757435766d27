//! Where the control plane runs, as far as changes of roots go: alone, or as one of the replicas in a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use osm_api::ObjectRef;
use osm_kubernetes::{EventRecorder, EventType, Leadership};
use osm_xds::ProxyName;
use tokio::sync::watch;

use super::provider::RootProblem;
use super::report::RootsReport;
use crate::driver::KnownPods;
use crate::gateway::GatewayState;
use crate::written_roots::WrittenRoots;

/// See the module.
#[derive(Debug)]
pub(crate) enum Surroundings {
    /// Without a cluster.
    Alone,
    /// Among replicas.
    Cluster(ClusterSurroundings),
}

/// What a replica hears and says.
#[derive(Debug)]
pub(crate) struct ClusterSurroundings {
    /// Name of this replica's pod.
    pub(crate) replica: String,
    /// Whether this replica decides.
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// What the other replicas say.
    pub(crate) others: watch::Receiver<OtherReplicas>,
    /// What this one says.
    pub(crate) report: watch::Sender<Arc<RootsReport>>,
    /// Since when which roots are in the ConfigMaps that proxies verify the control plane against.
    pub(crate) trust_bundles: watch::Receiver<WrittenRoots>,
    /// Since when which roots are in the webhook configurations.
    pub(crate) webhooks: watch::Receiver<WrittenRoots>,
    /// What the ingress gateway may trust and show.
    pub(crate) gateway: watch::Receiver<GatewayState>,
    /// The pods that are there.
    pub(crate) pods: KnownPods,
    /// Where steps are told of.
    pub(crate) events: EventRecorder,
}

/// What the other replicas say of roots.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum OtherReplicas {
    /// It is not known which there are.
    #[default]
    Unknown,
    /// By the name of the pod; `None` of one that is there and has not said anything, or is not heard any more.
    Known(BTreeMap<String, Option<Arc<RootsReport>>>),
}

impl OtherReplicas {
    fn problem(&self, revision: u64) -> Option<RootProblem> {
        let Self::Known(replicas) = self else { return None };
        replicas.iter().find_map(|(pod, report)| {
            let report = report.as_ref().filter(|report| report.record == Some(revision))?;
            Some(report.problem.as_ref()?.of(pod))
        })
    }
}

/// What a replica does about roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Decides, writes down, and tells what came of it.
    Leads,
    /// Follows what is written down.
    Follows,
}

impl Surroundings {
    /// What this process does now.
    pub(super) fn part(&self) -> Part {
        match self {
            Self::Alone => Part::Leads,
            Self::Cluster(cluster) if *cluster.leadership.borrow() == Leadership::Leader => Part::Leads,
            Self::Cluster(_) => Part::Follows,
        }
    }

    /// Whether a proxy will not come back, because its pod is not there any more. Without a cluster nobody knows.
    pub(super) fn has_left(&self, proxy: &ProxyName) -> bool {
        match self {
            Self::Alone => false,
            Self::Cluster(cluster) => cluster.pods.has_left(proxy),
        }
    }

    /// This process among the participants of a change.
    pub(super) fn replica(&self) -> Arc<str> {
        match self {
            Self::Alone => "(this process)".into(),
            Self::Cluster(cluster) => cluster.replica.as_str().into(),
        }
    }

    /// What another replica that goes by the record of this revision says is wrong with the root that signs.
    pub(super) fn problem_elsewhere(&self, revision: u64) -> Option<RootProblem> {
        match self {
            Self::Alone => None,
            Self::Cluster(cluster) => cluster.others.borrow().problem(revision),
        }
    }

    /// Waits until this process is to do something else.
    pub(super) async fn changed(&mut self) {
        if let Self::Cluster(cluster) = self
            && cluster.leadership.changed().await.is_ok()
        {
            return;
        }
        // Alone nothing changes, and the election ends with the process.
        std::future::pending().await
    }

    /// Tells people of a step.
    pub(super) fn record(&self, object: &ObjectRef, type_: EventType, reason: &str, note: &str) {
        if let Self::Cluster(cluster) = self {
            cluster.events.record(object, type_, reason, note);
        }
    }
}

#[cfg(test)]
mod tests {
    use osm_api::MeshRootCertificateReason as Reason;

    use super::*;

    #[test]
    fn what_fails_at_another_replica_is_told_by_its_name_if_it_is_about_the_root_that_signs() {
        let problem = RootProblem::new(Reason::ProviderRefused, "spec.provider.vault", "HTTP 403", "change the token");
        let report = |record, problem: Option<&RootProblem>| {
            Some(Arc::new(RootsReport {
                record,
                problem: problem.map(|problem| Box::new(problem.into())),
                ..RootsReport::default()
            }))
        };
        let replicas = |other| OtherReplicas::Known([("a".to_owned(), None), ("b".to_owned(), other)].into());
        let expected = RootProblem { message: "control plane b: HTTP 403".to_owned(), ..problem.clone() };
        assert_eq!(replicas(report(Some(7), Some(&problem))).problem(7), Some(expected));
        assert_eq!(replicas(report(Some(6), Some(&problem))).problem(7), None, "it signs with another root yet");
        assert_eq!(replicas(report(Some(7), None)).problem(7), None);
        assert_eq!(OtherReplicas::Unknown.problem(7), None);
    }
}
