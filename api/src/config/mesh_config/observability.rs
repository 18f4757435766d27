//! `spec.observability` of MeshConfig.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::value::{Complaint, Effective, Port, is_default, non_empty};

const DEFAULT_TRACING_PORT: i64 = 9411;

/// Logs, tracing and debugging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservabilitySpec {
    /// Log level of the control plane: trace, debug, info, warn, error or disabled. Takes effect at once. Default info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub osm_log_level: Option<String>,
    /// Serves dumps of the mesh's state on the control plane's debug port. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_debug_server: Option<bool>,
    /// Where proxies send traces.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tracing: TracingSpec,
}

impl ObservabilitySpec {
    /// `osmLogLevel`, default `info`. The text may be no level.
    pub fn osm_log_level(&self) -> &str {
        non_empty(self.osm_log_level.as_deref()).unwrap_or("info")
    }

    /// `enableDebugServer`, default false.
    pub fn enable_debug_server(&self) -> bool {
        self.enable_debug_server.unwrap_or(false)
    }

    pub(super) fn complaints(&self) -> Vec<Complaint> {
        self.tracing.port().complaint.into_iter().collect()
    }
}

/// Where proxies send traces, by Zipkin's protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TracingSpec {
    /// Whether to send traces. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// Port of the collector; 0 is the default, 9411.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "port_or_default")]
    pub port: Option<i64>,
    /// Host name or address of the collector. Default is jaeger in the namespace of the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Path at the collector. Default /api/v2/spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

fn port_or_default(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0, "maximum": 65535 })
}

impl TracingSpec {
    /// `enable`, default false.
    pub fn enable(&self) -> bool {
        self.enable.unwrap_or(false)
    }

    /// `port`, 9411 when it is missing, 0 or no port. Every port up to 65535 can be used.
    pub fn port(&self) -> Effective<Port> {
        let default = Port::new(DEFAULT_TRACING_PORT).expect("9411 is a port");
        let number = match self.port {
            None | Some(0) => return Effective::good(default),
            Some(number) => number,
        };
        match Port::new(number) {
            Some(port) => Effective::good(port),
            None => Effective::instead(
                default,
                Complaint {
                    field: "spec.observability.tracing.port".to_owned(),
                    value: number.to_string(),
                    problem: "is not a port".to_owned(),
                    remedy: "write a number from 1 to 65535; 9411 is used until then".to_owned(),
                },
            ),
        }
    }

    /// `address`, default `jaeger.<namespace>.svc.cluster.local` where the namespace is the control plane's.
    pub fn address(&self, control_plane_namespace: &str) -> String {
        match non_empty(self.address.as_deref()) {
            Some(address) => address.to_owned(),
            None => format!("jaeger.{control_plane_namespace}.svc.cluster.local"),
        }
    }

    /// `endpoint`, default `/api/v2/spans`.
    pub fn endpoint(&self) -> &str {
        non_empty(self.endpoint.as_deref()).unwrap_or("/api/v2/spans")
    }
}
