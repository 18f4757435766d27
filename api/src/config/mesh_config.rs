//! MeshConfig: the settings of the whole mesh. One object named `osm-mesh-config` in the namespace of the control plane.

mod certificate;
mod feature_flags;
mod observability;
mod sidecar;
mod traffic;

pub use certificate::{CertificateSpec, IngressGatewayCertificateSpec, IngressGatewayStatus, SecretReference};
pub use feature_flags::FeatureFlags;
pub use observability::{ObservabilitySpec, TracingSpec};
pub use sidecar::{LocalProxyMode, ResourceRequirements, SidecarLogLevel, SidecarSpec, TlsProtocolVersion};
pub use traffic::{ExternalAuthorizationSpec, TrafficSpec};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::status::Propagation;
use crate::value::{Complaint, is_default};

/// The settings of the whole mesh. Every section may be left out.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "config.openservicemesh.io",
    version = "v1alpha2",
    kind = "MeshConfig",
    namespaced,
    status = "MeshConfigStatus",
    derive = "PartialEq",
    shortname = "meshconfig",
    category = "mesh",
    doc = "Settings of the whole mesh. The mesh reads the object osm-mesh-config in the namespace of its control plane."
)]
#[serde(rename_all = "camelCase")]
pub struct MeshConfigSpec {
    /// The Envoy proxy beside each workload and the containers that come with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sidecar: SidecarSpec,
    /// Which traffic the mesh takes over and what it does with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub traffic: TrafficSpec,
    /// Logs, tracing and debugging.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observability: ObservabilitySpec,
    /// Certificates of workloads and of the ingress gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSpec>,
    /// Switches for features that not every mesh wants.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feature_flags: FeatureFlags,
}

impl MeshConfigSpec {
    /// How long a workload's certificate is valid: `spec.certificate.serviceCertValidityDuration`, 24 hours when it is
    /// missing or no duration, at least 10 minutes.
    pub fn service_certificate_validity(&self) -> crate::Effective<std::time::Duration> {
        CertificateSpec::service_validity(self.certificate.as_ref())
    }

    /// Size of RSA keys of workloads in bits: `spec.certificate.certKeyBitSize`, 2048 when it is not within 2048 to 4096.
    /// `None` when the section is missing: nobody asked for RSA, and the mesh is free to use another kind of key.
    pub fn rsa_key_bits(&self) -> crate::Effective<Option<u16>> {
        CertificateSpec::rsa_key_bits(self.certificate.as_ref())
    }

    /// All that is wrong with values that the schema accepts, each with the value that is used instead.
    pub fn complaints(&self) -> Vec<Complaint> {
        let mut complaints = self.sidecar.complaints();
        complaints.extend(self.traffic.complaints());
        complaints.extend(self.observability.complaints());
        complaints.extend(self.service_certificate_validity().complaint);
        complaints.extend(self.rsa_key_bits().complaint);
        if let Some(gateway) = self.certificate.as_ref().and_then(|certificate| certificate.ingress_gateway.as_ref()) {
            complaints.extend(gateway.validity().complaint);
        }
        complaints
    }
}

/// What became of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfigStatus {
    /// The generation of the object (metadata.generation) that this status was computed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted, ResolvedRefs, Programmed; Reconciling and Stalled only while true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far this generation has come among all connected proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// Version of the control plane that applies these settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The certificate of the ingress gateway that spec.certificate.ingressGateway asks for; missing while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_gateway: Option<IngressGatewayStatus>,
}

#[cfg(test)]
mod tests;
