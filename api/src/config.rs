//! Group `config.openservicemesh.io`: the mesh itself and its roots of trust.

mod mesh_config;
mod mesh_config_v1alpha1;
mod mesh_root_certificate;

pub use mesh_config::{
    CertificateSpec, ExternalAuthorizationSpec, FeatureFlags, IngressGatewayCertificateSpec, LocalProxyMode,
    MeshConfig, MeshConfigSpec, MeshConfigStatus, ObservabilitySpec, ResourceRequirements, SecretReference,
    SidecarLogLevel, SidecarSpec, TlsProtocolVersion, TracingSpec, TrafficSpec,
};
pub use mesh_root_certificate::{
    CertManagerProvider, ComponentStatuses, MeshRootCertificate, MeshRootCertificateProvider, MeshRootCertificateSpec,
    MeshRootCertificateState, MeshRootCertificateStatus, Provider, ProviderError, Role, SecretKeyReference, TresorCa,
    TresorProvider, VaultProtocol, VaultProvider, VaultToken,
};

/// MeshConfig as version v1alpha1 had it; converts into the current [`MeshConfig`] without loss.
pub mod v1alpha1 {
    pub use super::mesh_config_v1alpha1::{FeatureFlags, MeshConfig, MeshConfigSpec, SidecarSpec, TrafficSpec};
}
