//! MeshRootCertificate: a root of trust of the mesh, and the part it plays in a rotation.

mod provider;

pub use provider::{
    AzureAuth, AzureClientSecret, AzureKeyVaultProvider, AzureManagedIdentity, AzureWorkloadIdentity,
    CertManagerProvider, MeshRootCertificateProvider, Provider, ProviderError, SecretKeyReference, TresorCa,
    TresorProvider, VaultKubernetesAuth, VaultProtocol, VaultProvider, VaultServerCa, VaultToken,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::{Condition, time_schema};
use crate::status::Propagation;
use crate::value::non_empty;

const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// A root of trust of the mesh.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "config.openservicemesh.io",
    version = "v1alpha2",
    kind = "MeshRootCertificate",
    namespaced,
    status = "MeshRootCertificateStatus",
    derive = "PartialEq",
    shortname = "mrc",
    category = "mesh",
    doc = "A root of trust of the mesh: who issues certificates from it, and the part it plays in a rotation. \
           Lives in the namespace of the control plane."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.trustDomain) ? self.trustDomain : 'cluster.local') \
            == (has(oldSelf.trustDomain) ? oldSelf.trustDomain : 'cluster.local')",
        "message": "trustDomain cannot be changed; create another MeshRootCertificate and rotate to it",
    },
    {
        "rule": "(has(self.spiffeEnabled) && self.spiffeEnabled) \
            == (has(oldSelf.spiffeEnabled) && oldSelf.spiffeEnabled)",
        "message": "spiffeEnabled cannot be changed; create another MeshRootCertificate and rotate to it",
    },
    {
        "rule": "self.provider == oldSelf.provider",
        "message": "provider cannot be changed; create another MeshRootCertificate and rotate to it",
    },
    {
        "rule": "!(has(self.role) && self.role == 'inactive') || (has(oldSelf.role) && oldSelf.role != 'active')",
        "message": "an active root must become passive before it becomes inactive",
    },
    {
        "rule": "!(has(oldSelf.role) && oldSelf.role == 'inactive') || (has(self.role) && self.role != 'active')",
        "message": "an inactive root must become passive before it becomes active",
    },
]))]
pub struct MeshRootCertificateSpec {
    /// The domain that certificates of this root vouch for. Cannot be changed. Default cluster.local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("default" = "cluster.local"))]
    pub trust_domain: Option<String>,
    /// The part the root is to play: active issues certificates, passive is only trusted, inactive is neither. An object
    /// without a role is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether certificates also carry a SPIFFE id. Cannot be changed. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub spiffe_enabled: Option<bool>,
    /// Who issues certificates from this root: exactly one. Cannot be changed.
    pub provider: MeshRootCertificateProvider,
}

impl MeshRootCertificateSpec {
    /// `trustDomain`, default `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        non_empty(self.trust_domain.as_deref()).unwrap_or(DEFAULT_TRUST_DOMAIN)
    }

    /// `role`, default active: OSM 1.2 had no such field, and a single root.
    pub fn role(&self) -> Role {
        self.role.unwrap_or(Role::Active)
    }

    /// `spiffeEnabled`, default false.
    pub fn spiffe_enabled(&self) -> bool {
        self.spiffe_enabled.unwrap_or(false)
    }
}

/// Annotation of a MeshRootCertificate: proxies that no step of a rotation waits for, as
/// `namespace/serviceaccount/node`, separated by commas. Requests to and from them may fail.
pub const WAIVE_PROXIES_ANNOTATION: &str = "openservicemesh.io/waive-proxies";

/// Annotation of a MeshRootCertificate whose key somebody else may have: with the value [`REMOVE_ROOT_NOW_VALUE`] the root
/// is trusted no longer and signs no longer, at once. Requests fail until every proxy has a certificate of another root.
pub const REMOVE_ROOT_NOW_ANNOTATION: &str = "openservicemesh.io/remove-root-now";

/// The one value of [`REMOVE_ROOT_NOW_ANNOTATION`] that counts: it says what happens.
pub const REMOVE_ROOT_NOW_VALUE: &str = "breaks-traffic";

/// The part a root plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = crate::value::plain_enum)]
pub enum Role {
    /// Issues certificates, and is trusted.
    Active,
    /// Is trusted.
    Passive,
    /// Neither issues certificates nor is trusted.
    Inactive,
}

/// How far a root has come. Values that OSM wrote are kept as they are, hence the texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshRootCertificateStatus {
    /// The generation of the object (metadata.generation) that this status was computed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted, ResolvedRefs, Programmed; Reconciling and Stalled only while true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far the newest step has come among all connected proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// The step of the rotation: validatingRollout, issuingRollout, active, issuingRollback, validatingRollback, inactive or
    /// error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What the control plane has decided to use the root for: issuing, validating or unused. A control plane that starts
    /// again goes on from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["issuing", "unused", "validating"]))]
    pub usage: Option<String>,
    /// What the next step waits for, a few of it, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub waits_for: Vec<String>,
    /// How many things the next step waits for in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for_count: Option<u32>,
    /// When the next certificate of the root is due for renewal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub next_renewal: Option<Time>,
    /// No further step before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub transition_after: Option<Time>,
    /// What each part of the mesh uses the root for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component_statuses: Option<ComponentStatuses>,
    /// When the root certificate ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub expires: Option<Time>,
}

/// What each part of the mesh uses a root for: issuing, validating, unused or unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ComponentStatuses {
    /// The webhook that checks objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validating_webhook: Option<String>,
    /// The webhook that injects proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutating_webhook: Option<String>,
    /// The server that proxies get their configuration from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xds_control_plane: Option<String>,
    /// The proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<String>,
    /// The identities with which proxies reach the control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<String>,
    /// The ingress gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// The values of `status.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MeshRootCertificateState {
    /// Proxies are being told to trust the root.
    ValidatingRollout,
    /// Certificates are being issued from the root in place of another.
    IssuingRollout,
    /// The root issues all certificates.
    Active,
    /// Certificates of the root are being replaced.
    IssuingRollback,
    /// Proxies are being told to trust the root no longer.
    ValidatingRollback,
    /// The root is not used.
    Inactive,
    /// The root cannot be used; the conditions say why.
    Error,
}

impl MeshRootCertificateState {
    /// The state as `status.state` holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidatingRollout => "validatingRollout",
            Self::IssuingRollout => "issuingRollout",
            Self::Active => "active",
            Self::IssuingRollback => "issuingRollback",
            Self::ValidatingRollback => "validatingRollback",
            Self::Inactive => "inactive",
            Self::Error => "error",
        }
    }
}

#[cfg(test)]
mod tests;
