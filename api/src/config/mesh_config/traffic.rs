//! `spec.traffic` of MeshConfig.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::value::{Complaint, Effective, Port, non_empty, parse_duration};

/// Time an external authorization service has by default.
const AUTHORIZATION_TIMEOUT: Duration = Duration::from_secs(1);

/// Which traffic the mesh takes over and what it does with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSpec {
    /// Lets workloads reach any destination outside the mesh. Default false; the chart sets true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_egress: Option<bool>,
    /// IP ranges, as CIDR, that workloads reach without the proxy.
    #[serde(default, rename = "outboundIPRangeExclusionList", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ip_ranges")]
    pub outbound_ip_range_exclusion_list: Vec<String>,
    /// If not empty, the only IP ranges, as CIDR, that workloads reach through the proxy.
    #[serde(default, rename = "outboundIPRangeInclusionList", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ip_ranges")]
    pub outbound_ip_range_inclusion_list: Vec<String>,
    /// Ports that workloads reach without the proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound_port_exclusion_list: Vec<Port>,
    /// Ports of workloads that are reached without the proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbound_port_exclusion_list: Vec<Port>,
    /// Network interfaces whose traffic, in both directions, does not pass the proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_interface_exclusion_list: Vec<String>,
    /// Lets every workload of the mesh reach every service of the mesh; TrafficTargets are not looked at. Default false; the
    /// chart sets true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_permissive_traffic_policy_mode: Option<bool>,
    /// Asks a service about every HTTP request that comes in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_external_authorization: Option<ExternalAuthorizationSpec>,
}

/// OSM accepts a text that ends in an IPv4 range; IPv6 ranges are accepted as well.
fn ip_ranges(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "string",
            "description": "An IP range, for example 10.0.0.0/8 or fd00::/8.",
            "pattern": r"(((?:\d{1,3}\.){3}\d{1,3})\/(\d{1,2})|[0-9a-fA-F:]*:[0-9a-fA-F:.]*\/\d{1,3})$",
        },
    })
}

impl TrafficSpec {
    /// `enableEgress`, default false.
    pub fn enable_egress(&self) -> bool {
        self.enable_egress.unwrap_or(false)
    }

    /// `enablePermissiveTrafficPolicyMode`, default false.
    pub fn enable_permissive_traffic_policy_mode(&self) -> bool {
        self.enable_permissive_traffic_policy_mode.unwrap_or(false)
    }

    /// `inboundExternalAuthorization`, if it is there and enabled.
    pub fn inbound_external_authorization(&self) -> Option<&ExternalAuthorizationSpec> {
        self.inbound_external_authorization.as_ref().filter(|authorization| authorization.enable.unwrap_or(false))
    }

    pub(super) fn complaints(&self) -> Vec<Complaint> {
        let Some(authorization) = self.inbound_external_authorization() else {
            return Vec::new();
        };
        let missing = |field: &str| Complaint {
            field: format!("spec.traffic.inboundExternalAuthorization.{field}"),
            value: String::new(),
            problem: "is missing while enable is true".to_owned(),
            remedy: "name the service to ask, or set enable to false; nobody is asked until then".to_owned(),
        };
        let mut complaints = Vec::new();
        if authorization.address().is_none() {
            complaints.push(missing("address"));
        }
        if authorization.port.is_none() {
            complaints.push(missing("port"));
        }
        complaints.extend(authorization.timeout().complaint);
        complaints
    }
}

/// A service that is asked about every HTTP request that comes in, by Envoy's gRPC authorization protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAuthorizationSpec {
    /// Whether to ask. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// Host name or address of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Prefix of the metrics about it. Default inboundExtAuthz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "inboundExtAuthz"))]
    pub stat_prefix: Option<String>,
    /// How long to wait for an answer, for example 500ms. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "1s"))]
    pub timeout: Option<String>,
    /// Lets a request pass when the service does not answer. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_mode_allow: Option<bool>,
}

impl ExternalAuthorizationSpec {
    /// `address`, unless it is missing or empty.
    pub fn address(&self) -> Option<&str> {
        non_empty(self.address.as_deref())
    }

    /// `statPrefix`, default `inboundExtAuthz`.
    pub fn stat_prefix(&self) -> &str {
        self.stat_prefix.as_deref().unwrap_or("inboundExtAuthz")
    }

    /// `timeout`, 1 second when it is missing or no duration.
    pub fn timeout(&self) -> Effective<Duration> {
        let Some(text) = self.timeout.as_deref() else {
            return Effective::good(AUTHORIZATION_TIMEOUT);
        };
        match parse_duration(text) {
            Ok(timeout) => Effective::good(timeout),
            Err(error) => Effective::instead(
                AUTHORIZATION_TIMEOUT,
                Complaint {
                    field: "spec.traffic.inboundExternalAuthorization.timeout".to_owned(),
                    value: text.to_owned(),
                    problem: error.to_string(),
                    remedy: "write a duration such as 500ms; 1s is used until then".to_owned(),
                },
            ),
        }
    }

    /// `failureModeAllow`, default false.
    pub fn failure_mode_allow(&self) -> bool {
        self.failure_mode_allow.unwrap_or(false)
    }
}
