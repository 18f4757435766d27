//! The API of the mesh: the types of all custom resources, their schemas and validation rules, their conditions, and decoding.
//!
//! What this is: the vocabulary that users write (and that OSM accepted), as Rust types. What it is not: a client, or a judge.
//! Nothing here talks to an API server or reads a clock, and a value that a schema lets pass but that makes no sense is kept as
//! it is, for the resolver to report on the object.
//!
//! The path through it: [`decode`] turns JSON into an [`Object`], by the list of kinds in [`for_each_kind!`]; the types are in
//! the groups [`MeshConfig`] and [`MeshRootCertificate`], [`TrafficTarget`], [`HttpRouteGroup`], [`TcpRoute`] and
//! [`TrafficSplit`], and [`ProxySnapshot`]; their accessor functions apply OSM's defaults; [`merge`] turns desired conditions
//! into what is written to a status; [`custom_resource_definitions`] and the program `crdgen` make the CRDs.

mod conditions;
mod config;
mod crd;
mod decode;
mod kinds;
mod object;
mod reasons;
mod smi;
mod snapshot;
mod status;
mod value;

pub use k8s_openapi;

pub use conditions::{
    Condition, ConditionStatus, ConditionType, DesiredCondition, MAX_MESSAGE_BYTES, merge, with_summary,
};
pub use config::{
    AzureAuth, AzureClientSecret, AzureKeyVaultProvider, AzureManagedIdentity, AzureWorkloadIdentity,
    CertManagerProvider, CertificateSpec, ComponentStatuses, ExternalAuthorizationSpec, FeatureFlags,
    IngressGatewayCertificateSpec, IngressGatewayStatus, LocalProxyMode, MeshConfig, MeshConfigSpec, MeshConfigStatus,
    MeshRootCertificate, MeshRootCertificateProvider, MeshRootCertificateSpec, MeshRootCertificateState,
    MeshRootCertificateStatus, ObservabilitySpec, Provider, ProviderError, REMOVE_ROOT_NOW_ANNOTATION,
    REMOVE_ROOT_NOW_VALUE, ResourceRequirements, Role, SecretKeyReference, SecretReference, SidecarLogLevel,
    SidecarSpec, TlsProtocolVersion, TracingSpec, TrafficSpec, TresorCa, TresorProvider, VaultKubernetesAuth,
    VaultProtocol, VaultProvider, VaultServerCa, VaultToken, WAIVE_PROXIES_ANNOTATION, v1alpha1,
};
pub use crd::{custom_resource_definition, custom_resource_definitions};
pub use decode::{DecodeError, Strictness, UnknownField, decode};
pub use kinds::{Kind, Ownership, Scope};
pub use object::{MeshObject, Object, ObjectRef, ObjectRefError};
pub use reasons::{
    EndpointSliceReason, HttpRouteGroupReason, MeshConfigReason, MeshRootCertificateReason, NamespaceReason, PodReason,
    ProxySnapshotReason, ServiceReason, TcpRouteReason, TrafficSplitReason, TrafficTargetReason,
};
pub use smi::{
    HttpMatch, HttpMethod, HttpRouteGroup, HttpRouteGroupSpec, IdentityReference, TcpMatch, TcpRoute, TcpRouteSpec,
    TrafficSplit, TrafficSplitBackend, TrafficSplitMatch, TrafficSplitMatchKind, TrafficSplitSpec, TrafficTarget,
    TrafficTargetRule, TrafficTargetRuleKind, TrafficTargetSpec,
};
pub use snapshot::{
    MAX_CONTRIBUTORS, ProxyCounts, ProxySnapshot, ProxySnapshotSpec, ProxySnapshotStatus, ResourceCounts,
};
pub use status::{MAX_REFUSALS, PolicyStatus, Propagation, Refusal};
pub use value::{Complaint, DurationError, Effective, Port, Seconds, parse_duration};
