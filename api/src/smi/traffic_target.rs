//! TrafficTarget: who may call a workload, and by which routes.
//!
//! The schema accepts what OSM's accepts. What OSM's webhook or OSM itself refused besides (another namespace than the
//! destination's, no rules, a kind other than ServiceAccount, UDPRoute) is accepted here and reported in the conditions, so that
//! no stored object becomes unreadable.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::PolicyStatus;

/// Who may call a workload, and by which routes.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "access.smi-spec.io",
    version = "v1alpha3",
    kind = "TrafficTarget",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    shortname = "tt",
    category = "mesh",
    doc = "Lets workloads (sources) call another workload (destination) by the routes of its rules. What no TrafficTarget \
           allows is refused, unless the mesh is permissive."
)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTargetSpec {
    /// The identity that may be called. Its namespace must be the namespace of this object.
    pub destination: IdentityReference,
    /// The routes by which it may be called.
    pub rules: Vec<TrafficTargetRule>,
    /// The identities that may call.
    pub sources: Vec<IdentityReference>,
}

/// The identity of workloads: a ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct IdentityReference {
    /// Kind of the identity; only ServiceAccount has a meaning.
    pub kind: String,
    /// Name of the identity.
    pub name: String,
    /// Namespace of the identity. Default is the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl IdentityReference {
    /// `namespace`, default the namespace of the object that refers.
    pub fn namespace<'a>(&'a self, own_namespace: &'a str) -> &'a str {
        crate::value::non_empty(self.namespace.as_deref()).unwrap_or(own_namespace)
    }

    /// Whether `kind` is the only one with a meaning, ServiceAccount.
    pub fn is_service_account(&self) -> bool {
        self.kind == "ServiceAccount"
    }
}

/// Routes, by reference to an object in the namespace of the TrafficTarget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficTargetRule {
    /// Kind of the route object. UDPRoute is accepted for compatibility, but reported: the mesh does not handle UDP.
    pub kind: TrafficTargetRuleKind,
    /// Name of the route object.
    pub name: String,
    /// Names of matches of an HTTPRouteGroup; without any, all its matches count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
}

/// Kinds of route objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::value::plain_enum)]
pub enum TrafficTargetRuleKind {
    /// HTTP routes.
    #[serde(rename = "HTTPRouteGroup")]
    HttpRouteGroup,
    /// TCP ports.
    #[serde(rename = "TCPRoute")]
    TcpRoute,
    /// UDP ports, which the mesh does not handle.
    #[serde(rename = "UDPRoute")]
    UdpRoute,
}

impl TrafficTargetRuleKind {
    /// The kind as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpRouteGroup => "HTTPRouteGroup",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
        }
    }
}
