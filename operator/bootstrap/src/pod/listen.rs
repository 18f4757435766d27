//! Listeners in the families of the pod's addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::common;

/// A listener on `port` in each family of `addresses`, on all addresses of the pod. Binding in a family that the kernel
/// lacks would keep Envoy from starting.
pub(super) fn listener(name: &str, addresses: &[IpAddr], port: u16, filter_chains: &Value) -> Value {
    let mut every: Vec<IpAddr> = Vec::new();
    if addresses.iter().any(IpAddr::is_ipv4) || addresses.is_empty() {
        every.push(Ipv4Addr::UNSPECIFIED.into());
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        every.push(Ipv6Addr::UNSPECIFIED.into());
    }
    let address = |address: &IpAddr| common::socket_address(&address.to_string(), port);
    let additional: Vec<Value> = every[1..].iter().map(|other| json!({ "address": address(other) })).collect();
    json!({
        "name": name,
        "address": address(&every[0]),
        "additional_addresses": additional,
        "traffic_direction": "INBOUND",
        "filter_chains": filter_chains,
    })
}

/// A connection manager with these routes, all hosts, and nothing else.
pub(super) fn http_filter(stat_prefix: &str, routes: &[Value]) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": stat_prefix,
            "stream_idle_timeout": "0s",
            "generate_request_id": false,
            "use_remote_address": true,
            "route_config": {
                "name": stat_prefix,
                "virtual_hosts": [{ "name": stat_prefix, "domains": ["*"], "routes": routes }],
            },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "dynamic_stats": false,
                },
            }],
        },
    })
}
