//! Whether the sidecar is configured, for its own startup probe.
//!
//! A static listener accepts connections only once Envoy's first complete configuration is in use, and Envoy's own answer
//! is passed on, so that a proxy that drains is not ready.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::listen;
use crate::{common, names};

const CLUSTER: &str = "envoy-admin-cluster";
const NAME: &str = "proxy_readiness";

pub(super) fn cluster() -> Value {
    common::loopback_cluster(CLUSTER, osm_translate::naming::ADMIN_PORT, "1s")
}

/// Passes one path of the admin interface on, and only to be read.
pub(super) fn listener(addresses: &[IpAddr]) -> Value {
    let route = json!({
        "match": {
            "path": names::PROXY_READINESS_PATH,
            "headers": [{ "name": ":method", "string_match": { "exact": "GET" } }],
        },
        "route": { "cluster": CLUSTER, "timeout": "1s" },
    });
    let chains = json!([{ "filters": [listen::http_filter(NAME, &[route])] }]);
    listen::listener(&format!("{NAME}_listener"), addresses, names::PROXY_READINESS_PORT, &chains)
}
