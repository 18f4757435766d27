//! Group `config.openservicemesh.io`: the mesh itself and its roots of trust.

mod mesh_config;
mod mesh_config_v1alpha1;
mod mesh_root_certificate;

pub use mesh_config::{
    CertificateSpec, ExternalAuthorizationSpec, FeatureFlags, IngressGatewayCertificateSpec, IngressGatewayStatus,
    LocalProxyMode, MeshConfig, MeshConfigSpec, MeshConfigStatus, ObservabilitySpec, ResourceRequirements,
    SecretReference, SidecarLogLevel, SidecarSpec, TlsProtocolVersion, TracingSpec, TrafficSpec,
};
pub use mesh_root_certificate::{
    AzureAuth, AzureClientSecret, AzureKeyVaultProvider, AzureManagedIdentity, AzureWorkloadIdentity,
    CertManagerProvider, ComponentStatuses, MeshRootCertificate, MeshRootCertificateProvider, MeshRootCertificateSpec,
    MeshRootCertificateState, MeshRootCertificateStatus, Provider, ProviderError, REMOVE_ROOT_NOW_ANNOTATION,
    REMOVE_ROOT_NOW_VALUE, Role, SecretKeyReference, TresorCa, TresorProvider, VaultKubernetesAuth, VaultProtocol,
    VaultProvider, VaultServerCa, VaultToken, WAIVE_PROXIES_ANNOTATION,
};

/// MeshConfig as version v1alpha1 had it; converts into the current [`MeshConfig`] without loss.
pub mod v1alpha1 {
    pub use super::mesh_config_v1alpha1::{FeatureFlags, MeshConfig, MeshConfigSpec, SidecarSpec, TrafficSpec};
}
