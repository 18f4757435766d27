//! Where the control plane runs, as far as changes of roots go: alone, or as one of the replicas in a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use osm_api::ObjectRef;
use osm_kubernetes::{EventRecorder, EventType, Leadership};
use tokio::sync::watch;

use super::report::RootsReport;
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

    /// This process among the participants of a change.
    pub(super) fn replica(&self) -> Arc<str> {
        match self {
            Self::Alone => "(this process)".into(),
            Self::Cluster(cluster) => cluster.replica.as_str().into(),
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
