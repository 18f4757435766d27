//! Access logs: one JSON line per request or connection on standard output, with OSM's field names.

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType};
use osm_model::{AccessLog as AccessLogSetting, MeshSettings};

use crate::deterministic::{JsonFormat, StdoutAccessLog, TextFields, TextValue};
use crate::message::any;

/// Field name and Envoy command operator. The names are OSM's, so that log pipelines keep working; `route_name` and
/// `connection_termination_details` are ours: they name the object that allowed or refused.
const FIELDS: [(&str, &str); 21] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("time_to_first_byte", "%RESPONSE_DURATION%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// The loggers that the settings ask for.
pub(crate) fn access_logs(settings: &MeshSettings) -> Vec<AccessLog> {
    match settings.access_log {
        AccessLogSetting::Off => Vec::new(),
        AccessLogSetting::Stdout => vec![AccessLog {
            name: "envoy.access_loggers.stdout".to_owned(),
            config_type: Some(ConfigType::TypedConfig(any(&stdout()))),
            ..Default::default()
        }],
    }
}

fn stdout() -> StdoutAccessLog {
    let fields = FIELDS
        .into_iter()
        .map(|(name, operator)| (name.to_owned(), TextValue { string_value: operator.to_owned() }))
        .collect();
    StdoutAccessLog { log_format: Some(JsonFormat { json_format: Some(TextFields { fields }) }) }
}
