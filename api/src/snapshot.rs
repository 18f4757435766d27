//! Group `snapshot.openservicemesh.io`: what the mesh has made of all policies, seen from one workload identity.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::status::{MAX_REFUSALS, Refusal};

/// Most contributing objects that are named in one status; `contributorCount` tells how many there are.
pub const MAX_CONTRIBUTORS: usize = 64;

/// The identity that a snapshot is for.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "snapshot.openservicemesh.io",
    version = "v1alpha1",
    kind = "ProxySnapshot",
    namespaced,
    status = "ProxySnapshotStatus",
    derive = "PartialEq",
    shortname = "psnap",
    category = "mesh",
    doc = "What the mesh sends to the proxies of one workload identity, and what became of it. Written by the control plane, \
           one object per ServiceAccount that has proxies; changing it changes nothing."
)]
#[serde(rename_all = "camelCase")]
pub struct ProxySnapshotSpec {
    /// Name of the ServiceAccount, in the namespace of this object.
    pub service_account: String,
}

/// The snapshot and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxySnapshotStatus {
    /// The generation of the object (metadata.generation) that this status was computed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Programmed; Reconciling and Stalled only while true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Hash of the content: equal on every replica of the control plane, and across restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many resources of each type the version has.
    pub resources: ResourceCounts,
    /// The proxies of this identity.
    pub proxies: ProxyCounts,
    /// A few of the refusals, with Envoy's own words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub rejections: Vec<Refusal>,
    /// Objects that the version comes from, as kind/namespace/name; at most 64 are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub contributors: Vec<String>,
    /// How many objects the version comes from.
    pub contributor_count: u32,
}

impl ProxySnapshotStatus {
    /// Sets the rejections, of which the first [`MAX_REFUSALS`] are kept.
    pub fn set_rejections(&mut self, rejections: impl IntoIterator<Item = Refusal>) {
        self.rejections = rejections.into_iter().take(MAX_REFUSALS).collect();
    }

    /// Sets the contributing objects and their number; the first [`MAX_CONTRIBUTORS`] are named.
    pub fn set_contributors(
        &mut self,
        contributors: impl IntoIterator<Item = crate::ObjectRef, IntoIter: ExactSizeIterator>,
    ) {
        let contributors = contributors.into_iter();
        self.contributor_count = u32::try_from(contributors.len()).unwrap_or(u32::MAX);
        self.contributors = contributors.take(MAX_CONTRIBUTORS).map(|object| object.to_string()).collect();
    }
}

/// How many resources of each type a snapshot has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceCounts {
    /// Listeners.
    pub listeners: u32,
    /// Scoped route configurations.
    pub scoped_routes: u32,
    /// Route configurations.
    pub routes: u32,
    /// Clusters, with those that are sent only when a proxy first uses them.
    pub clusters: u32,
    /// Endpoint assignments.
    pub endpoints: u32,
    /// Secrets: certificates and trust bundles.
    pub secrets: u32,
}

/// How many proxies of an identity are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyCounts {
    /// Proxies that are connected.
    pub connected: u32,
    /// Of those, how many have acknowledged this version.
    pub synced: u32,
    /// Of those, how many have refused a part of this version.
    pub rejected: u32,
    /// Synced of connected, for example 3/4, as the column SYNCED shows it.
    pub summary: String,
}

impl ProxyCounts {
    /// Counters, with the text of the column SYNCED made from them.
    pub fn new(connected: u32, synced: u32, rejected: u32) -> Self {
        Self { connected, synced, rejected, summary: format!("{synced}/{connected}") }
    }
}
