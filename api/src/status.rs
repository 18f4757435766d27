//! What the status of every kind has in common: how far an object has come among the proxies it concerns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::value::Seconds;

/// Most refusals that are stored in one status. The counters tell how many there are.
pub const MAX_REFUSALS: usize = 5;

/// How far the newest generation of an object has come among the proxies it concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Propagation {
    /// Connected proxies whose configuration the object contributes to.
    pub targeted: u32,
    /// Of those, how many have acknowledged all that came of this object.
    pub acknowledged: u32,
    /// Of those, how many have refused something that came of this object, and run what they had before.
    pub refused: u32,
    /// Acknowledged of targeted, for example 3/4, as the column ACKED shows it.
    pub acked: String,
    /// Seconds from the moment the change was seen to the acknowledgement of the last proxy; absent until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_to_propagate: Option<Seconds>,
    /// Version of the mesh's configuration that holds this generation: a hash of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_version: Option<String>,
    /// A few of the proxies that refused, with Envoy's own words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub refusals: Vec<Refusal>,
}

impl Propagation {
    /// Counters, with the text of the column ACKED made from them.
    pub fn new(targeted: u32, acknowledged: u32, refused: u32) -> Self {
        Self { targeted, acknowledged, refused, acked: format!("{acknowledged}/{targeted}"), ..Self::default() }
    }

    /// The same counters with the first [`MAX_REFUSALS`] of these refusals.
    #[must_use]
    pub fn with_refusals(mut self, refusals: impl IntoIterator<Item = Refusal>) -> Self {
        self.refusals = refusals.into_iter().take(MAX_REFUSALS).collect();
        self
    }
}

/// A proxy's refusal of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The proxy, as namespace/pod, or the id it connected with when there is no pod.
    pub proxy: String,
    /// The Envoy resource that was refused, as type/name; absent if Envoy did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Envoy's words.
    pub message: String,
}

/// Status of the policy kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// The generation of the object (metadata.generation) that this status was computed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted, ResolvedRefs, Programmed; Reconciling and Stalled only while true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far this generation has come among the proxies it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
}
