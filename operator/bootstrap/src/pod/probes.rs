//! Listeners of rewritten probes. The kubelet has no certificate of the mesh, so the sidecar asks the application for it.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::listen;
use crate::common;
use crate::probe::{ProbeKind, ProbeProtocol, ProbeRoute, Probes};

/// One listener for each kind that has a probe.
pub(super) fn listeners(probes: &Probes, addresses: &[IpAddr]) -> Vec<Value> {
    ProbeKind::ALL.into_iter().filter_map(|kind| listener(kind, probes, addresses)).collect()
}

/// One cluster for each probe: the application on loopback. Where the application listens on the pod's address alone, the
/// redirect rules lead there.
pub(super) fn clusters(probes: &Probes) -> impl Iterator<Item = Value> {
    let limit = |probe: &ProbeRoute| format!("{}s", probe.timeout_seconds);
    probes.routes().iter().map(move |probe| common::loopback_cluster(&cluster(probe), probe.port, &limit(probe)))
}

fn cluster(probe: &ProbeRoute) -> String {
    format!("{}_{}_cluster", probe.container, probe.kind.name())
}

fn listener(kind: ProbeKind, probes: &Probes, addresses: &[IpAddr]) -> Option<Value> {
    let name = format!("{}_listener", kind.name());
    let routes: Vec<Value> = probes.of(kind).filter_map(route).collect();
    let https = probes.of(kind).find(|probe| probe.protocol == ProbeProtocol::Https);
    let http_chain = (!routes.is_empty()).then(|| json!({ "filters": [listen::http_filter(&name, &routes)] }));
    let https_chain = https.map(|probe| json!({ "filters": [pass_on(&name, probe)] }));
    let listener = match (http_chain, https_chain) {
        (None, None) => return None,
        (Some(only), None) | (None, Some(only)) => listen::listener(&name, addresses, kind.port(), &json!([only])),
        // The kubelet's first bytes say which of the two it speaks.
        (Some(http), Some(mut https)) => {
            https["filter_chain_match"] = json!({ "transport_protocol": "tls" });
            let mut listener = listen::listener(&name, addresses, kind.port(), &json!([https, http]));
            listener["listener_filters"] = json!([{
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
                },
            }]);
            listener
        }
    };
    Some(listener)
}

fn route(probe: &ProbeRoute) -> Option<Value> {
    let ProbeProtocol::Http { path } = &probe.protocol else { return None };
    Some(json!({
        "match": { "path": probe.sidecar_path() },
        "route": {
            "cluster": cluster(probe),
            // Of a path that is matched as a whole this replaces the whole.
            "prefix_rewrite": path,
            "timeout": format!("{}s", probe.timeout_seconds),
        },
    }))
}

fn pass_on(name: &str, probe: &ProbeRoute) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": cluster(probe),
            "idle_timeout": format!("{}s", probe.timeout_seconds),
        },
    })
}
