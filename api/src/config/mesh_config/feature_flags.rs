//! `spec.featureFlags` of MeshConfig.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Switches for features that not every mesh wants. A switch that is not written is off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureFlags {
    /// Metrics per request with source and destination workload. The chart sets true.
    #[serde(default, rename = "enableWASMStats", skip_serializing_if = "Option::is_none")]
    pub enable_wasm_stats: Option<bool>,
    /// Deprecated: Egress policies count whenever spec.traffic.enableEgress is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_egress_policy: Option<bool>,
    /// Deprecated: without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_multicluster_mode: Option<bool>,
    /// Deprecated: without effect; configuration is always served from snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_snapshot_cache_mode: Option<bool>,
    /// Deprecated: without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_async_proxy_service_mapping: Option<bool>,
    /// Whether IngressBackend policies count. The chart sets true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_ingress_backend_policy: Option<bool>,
    /// Lets proxies probe the proxies of the services they use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_envoy_active_health_checks: Option<bool>,
    /// Whether Retry policies count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_retry_policy: Option<bool>,
    /// Takes the mesh's roots of trust from MeshRootCertificate objects and lets them be rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_mesh_root_certificate: Option<bool>,
}

impl FeatureFlags {
    /// `enableWASMStats`, default false.
    pub fn enable_wasm_stats(&self) -> bool {
        self.enable_wasm_stats.unwrap_or(false)
    }

    /// `enableIngressBackendPolicy`, default false.
    pub fn enable_ingress_backend_policy(&self) -> bool {
        self.enable_ingress_backend_policy.unwrap_or(false)
    }

    /// `enableEnvoyActiveHealthChecks`, default false.
    pub fn enable_envoy_active_health_checks(&self) -> bool {
        self.enable_envoy_active_health_checks.unwrap_or(false)
    }

    /// `enableRetryPolicy`, default false.
    pub fn enable_retry_policy(&self) -> bool {
        self.enable_retry_policy.unwrap_or(false)
    }

    /// `enableMeshRootCertificate`, default false.
    pub fn enable_mesh_root_certificate(&self) -> bool {
        self.enable_mesh_root_certificate.unwrap_or(false)
    }
}
