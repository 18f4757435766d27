//! MeshConfig as it was in version v1alpha1, and its conversion into v1alpha2.
//!
//! The sections `observability` and `certificate` never changed; the others grew in v1alpha2.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mesh_config::{
    self, CertificateSpec, ExternalAuthorizationSpec, MeshConfigStatus, ObservabilitySpec, ResourceRequirements,
    SidecarLogLevel,
};
use crate::value::{Port, is_default};

/// The settings of the whole mesh, in the fields that v1alpha1 had.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "config.openservicemesh.io",
    version = "v1alpha1",
    kind = "MeshConfig",
    namespaced,
    status = "MeshConfigStatus",
    derive = "PartialEq"
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

/// `spec.sidecar` of v1alpha1. Fields mean what they mean in the current version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented at the fields of the current version")]
pub struct SidecarSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_privileged_init_container: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<SidecarLogLevel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_data_plane_connections: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_windows_image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_container_image: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: ResourceRequirements,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_resync_interval: Option<String>,
}

/// `spec.traffic` of v1alpha1. Fields mean what they mean in the current version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented at the fields of the current version")]
pub struct TrafficSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_egress: Option<bool>,
    #[serde(default, rename = "outboundIPRangeExclusionList", skip_serializing_if = "Vec::is_empty")]
    pub outbound_ip_range_exclusion_list: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound_port_exclusion_list: Vec<Port>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbound_port_exclusion_list: Vec<Port>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_permissive_traffic_policy_mode: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_external_authorization: Option<ExternalAuthorizationSpec>,
}

/// `spec.featureFlags` of v1alpha1. Fields mean what they mean in the current version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented at the fields of the current version")]
pub struct FeatureFlags {
    #[serde(default, rename = "enableWASMStats", skip_serializing_if = "Option::is_none")]
    pub enable_wasm_stats: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_egress_policy: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_multicluster_mode: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_snapshot_cache_mode: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_async_proxy_service_mapping: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_ingress_backend_policy: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_envoy_active_health_checks: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_retry_policy: Option<bool>,
}

impl From<MeshConfig> for mesh_config::MeshConfig {
    fn from(old: MeshConfig) -> Self {
        Self { metadata: old.metadata, spec: old.spec.into(), status: old.status }
    }
}

// Every struct below is taken apart by name, so that a field that is not carried over does not compile.
impl From<MeshConfigSpec> for mesh_config::MeshConfigSpec {
    fn from(old: MeshConfigSpec) -> Self {
        let MeshConfigSpec { sidecar, traffic, observability, certificate, feature_flags } = old;
        Self {
            sidecar: sidecar.into(),
            traffic: traffic.into(),
            observability,
            certificate,
            feature_flags: feature_flags.into(),
        }
    }
}

impl From<SidecarSpec> for mesh_config::SidecarSpec {
    fn from(old: SidecarSpec) -> Self {
        let SidecarSpec {
            enable_privileged_init_container,
            log_level,
            max_data_plane_connections,
            envoy_image,
            envoy_windows_image,
            init_container_image,
            resources,
            config_resync_interval,
        } = old;
        Self {
            enable_privileged_init_container,
            log_level,
            max_data_plane_connections,
            envoy_image,
            envoy_windows_image,
            init_container_image,
            resources,
            config_resync_interval,
            ..Self::default()
        }
    }
}

impl From<TrafficSpec> for mesh_config::TrafficSpec {
    fn from(old: TrafficSpec) -> Self {
        let TrafficSpec {
            enable_egress,
            outbound_ip_range_exclusion_list,
            outbound_port_exclusion_list,
            inbound_port_exclusion_list,
            enable_permissive_traffic_policy_mode,
            inbound_external_authorization,
        } = old;
        Self {
            enable_egress,
            outbound_ip_range_exclusion_list,
            outbound_port_exclusion_list,
            inbound_port_exclusion_list,
            enable_permissive_traffic_policy_mode,
            inbound_external_authorization,
            ..Self::default()
        }
    }
}

impl From<FeatureFlags> for mesh_config::FeatureFlags {
    fn from(old: FeatureFlags) -> Self {
        let FeatureFlags {
            enable_wasm_stats,
            enable_egress_policy,
            enable_multicluster_mode,
            enable_snapshot_cache_mode,
            enable_async_proxy_service_mapping,
            enable_ingress_backend_policy,
            enable_envoy_active_health_checks,
            enable_retry_policy,
        } = old;
        Self {
            enable_wasm_stats,
            enable_egress_policy,
            enable_multicluster_mode,
            enable_snapshot_cache_mode,
            enable_async_proxy_service_mapping,
            enable_ingress_backend_policy,
            enable_envoy_active_health_checks,
            enable_retry_policy,
            ..Self::default()
        }
    }
}
