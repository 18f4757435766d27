//! `spec.sidecar` of MeshConfig.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::value::{Complaint, Effective, is_default, non_empty, parse_duration};

/// Shortest interval of `configResyncInterval`; OSM ignores a shorter one.
const SHORTEST_RESYNC: Duration = Duration::from_secs(30);

/// The Envoy proxy beside each workload and the containers that come with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.tlsMinProtocolVersion) || !has(self.tlsMaxProtocolVersion) \
        || self.tlsMinProtocolVersion == 'TLS_AUTO' || self.tlsMaxProtocolVersion == 'TLS_AUTO' \
        || self.tlsMinProtocolVersion <= self.tlsMaxProtocolVersion",
    "message": "tlsMinProtocolVersion must not be newer than tlsMaxProtocolVersion"
}]))]
pub struct SidecarSpec {
    /// Runs the init container privileged; without it the container has only the capabilities it needs. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_privileged_init_container: Option<bool>,
    /// Envoy's log level in pods created from now on. Default error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<SidecarLogLevel>,
    /// Most proxies that one replica of the control plane serves; 0, the default, is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_data_plane_connections: Option<i64>,
    /// Image of Envoy on Linux; empty is the image the control plane was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_image: Option<String>,
    /// Image of Envoy on Windows; empty is the image the control plane was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_windows_image: Option<String>,
    /// Image of the init container that redirects traffic; empty is the image the control plane was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_container_image: Option<String>,
    /// Compute resources of the Envoy container. Default none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: ResourceRequirements,
    /// How often every proxy is sent its configuration again without a change, for example 10m; at least 30s. Default 0s, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_resync_interval: Option<String>,
    /// Oldest TLS version that proxies accept. Default TLSv1_2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "TLSv1_2"))]
    pub tls_min_protocol_version: Option<TlsProtocolVersion>,
    /// Newest TLS version that proxies accept. Default TLSv1_3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "TLSv1_3"))]
    pub tls_max_protocol_version: Option<TlsProtocolVersion>,
    /// Cipher suites for TLS up to 1.2, by their OpenSSL names; TLS 1.3 has its own fixed set. Default Envoy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// Curves for the TLS key exchange, by their names in Envoy. Default Envoy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ecdh_curves: Vec<String>,
    /// Where the proxy reaches its application: on 127.0.0.1 (Localhost) or on the pod's address (PodIP). Default Localhost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Localhost"))]
    pub local_proxy_mode: Option<LocalProxyMode>,
}

impl SidecarSpec {
    /// `enablePrivilegedInitContainer`, default false.
    pub fn enable_privileged_init_container(&self) -> bool {
        self.enable_privileged_init_container.unwrap_or(false)
    }

    /// `logLevel`, default error.
    pub fn log_level(&self) -> SidecarLogLevel {
        self.log_level.unwrap_or(SidecarLogLevel::Error)
    }

    /// `maxDataPlaneConnections`; `None` is no limit.
    pub fn max_data_plane_connections(&self) -> Option<u64> {
        let most = u64::try_from(self.max_data_plane_connections?).ok()?;
        (most > 0).then_some(most)
    }

    /// `envoyImage`; `None` is the image the control plane was installed with.
    pub fn envoy_image(&self) -> Option<&str> {
        non_empty(self.envoy_image.as_deref())
    }

    /// `envoyWindowsImage`; `None` is the image the control plane was installed with.
    pub fn envoy_windows_image(&self) -> Option<&str> {
        non_empty(self.envoy_windows_image.as_deref())
    }

    /// `initContainerImage`; `None` is the image the control plane was installed with.
    pub fn init_container_image(&self) -> Option<&str> {
        non_empty(self.init_container_image.as_deref())
    }

    /// `configResyncInterval`; `None` is never. A value that is no duration or shorter than 30 seconds counts as never.
    pub fn config_resync_interval(&self) -> Effective<Option<Duration>> {
        let Some(text) = non_empty(self.config_resync_interval.as_deref()) else {
            return Effective::good(None);
        };
        let problem = match parse_duration(text) {
            Ok(Duration::ZERO) => return Effective::good(None),
            Ok(interval) if interval >= SHORTEST_RESYNC => return Effective::good(Some(interval)),
            Ok(_) => "is shorter than 30s".to_owned(),
            Err(error) => error.to_string(),
        };
        Effective::instead(
            None,
            Complaint {
                field: "spec.sidecar.configResyncInterval".to_owned(),
                value: text.to_owned(),
                problem,
                remedy: "write 30s or more, or 0s for never; it is ignored until then".to_owned(),
            },
        )
    }

    /// `tlsMinProtocolVersion`, default TLS 1.2.
    pub fn tls_min_protocol_version(&self) -> TlsProtocolVersion {
        self.tls_min_protocol_version.unwrap_or(TlsProtocolVersion::TlsV1_2)
    }

    /// `tlsMaxProtocolVersion`, default TLS 1.3.
    pub fn tls_max_protocol_version(&self) -> TlsProtocolVersion {
        self.tls_max_protocol_version.unwrap_or(TlsProtocolVersion::TlsV1_3)
    }

    /// `localProxyMode`, default Localhost.
    pub fn local_proxy_mode(&self) -> LocalProxyMode {
        self.local_proxy_mode.unwrap_or(LocalProxyMode::Localhost)
    }

    pub(super) fn complaints(&self) -> Vec<Complaint> {
        let mut complaints: Vec<_> = self.config_resync_interval().complaint.into_iter().collect();
        let (min, max) = (self.tls_min_protocol_version(), self.tls_max_protocol_version());
        let automatic = TlsProtocolVersion::Auto;
        if min != automatic && max != automatic && min > max {
            complaints.push(Complaint {
                field: "spec.sidecar.tlsMinProtocolVersion".to_owned(),
                value: min.as_str().to_owned(),
                problem: format!("is newer than tlsMaxProtocolVersion {}", max.as_str()),
                remedy: "write an older version; both settings are ignored until then".to_owned(),
            });
        }
        complaints
    }
}

/// Compute resources of a container: name of a resource, such as cpu or memory, to a quantity, such as 100m or 64Mi.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRequirements {
    /// Most that the container may use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
    /// What the container is sure to get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
}

/// A quantity may be a text or any number, also one with a fraction, which `x-kubernetes-int-or-string` would refuse.
fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {
            "description": "Quantity of the resource, for example 100m, 0.5 or 64Mi.",
            "x-kubernetes-preserve-unknown-fields": true,
        },
    })
}

/// Envoy's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are Envoy's and say it all")]
#[schemars(transform = crate::value::plain_enum)]
pub enum SidecarLogLevel {
    Trace,
    Debug,
    Info,
    Warning,
    Warn,
    Error,
    Critical,
    Off,
}

impl SidecarLogLevel {
    /// The level as Envoy's option `--log-level` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }
}

/// TLS versions, from old to new; `Auto` leaves the choice to Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are Envoy's and say it all")]
#[schemars(transform = crate::value::plain_enum)]
pub enum TlsProtocolVersion {
    #[serde(rename = "TLS_AUTO")]
    Auto,
    #[serde(rename = "TLSv1_0")]
    TlsV1_0,
    #[serde(rename = "TLSv1_1")]
    TlsV1_1,
    #[serde(rename = "TLSv1_2")]
    TlsV1_2,
    #[serde(rename = "TLSv1_3")]
    TlsV1_3,
}

impl TlsProtocolVersion {
    /// The version's name in Envoy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "TLS_AUTO",
            Self::TlsV1_0 => "TLSv1_0",
            Self::TlsV1_1 => "TLSv1_1",
            Self::TlsV1_2 => "TLSv1_2",
            Self::TlsV1_3 => "TLSv1_3",
        }
    }
}

/// Where a proxy reaches the application beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::value::plain_enum)]
pub enum LocalProxyMode {
    /// On the loopback address.
    Localhost,
    /// On the address of the pod.
    #[serde(rename = "PodIP")]
    PodIp,
}
