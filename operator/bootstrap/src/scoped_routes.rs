//! A listener nobody connects to, which keeps the subscription to scoped routes alive for as long as the proxy runs.
//!
//! All listeners of HTTP services share one subscription, which begins with the first of them. Envoy before 1.38 never begins
//! it for a listener that arrives after the start (envoyproxy/envoy#43392), as with the first grant of a workload. With a
//! listener in the bootstrap it begins at the start, whatever is granted later.

use osm_translate::naming;
use serde_json::{Value, json};

use crate::common;

/// An address that no connection is redirected from: loopback is not intercepted, and nothing is bound to it.
const ADDRESS: (&str, u16) = ("127.0.0.1", 1);

/// The listener. Envoy shares a subscription by its configuration, so `scoped_routes` must be what other listeners have.
pub(crate) fn listener() -> Value {
    let (address, port) = ADDRESS;
    json!({
        "name": naming::SCOPED_ROUTES,
        "address": common::socket_address(address, port),
        "bind_to_port": false,
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": naming::SCOPED_ROUTES,
                "scoped_routes": scoped_routes(),
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                }],
            },
        }] }],
    })
}

fn scoped_routes() -> Value {
    let from_ads = json!({ "ads": {}, "resource_api_version": "V3" });
    json!({
        "name": naming::SCOPED_ROUTES,
        "scope_key_builder": { "fragments": [
            { "header_value_extractor": { "name": naming::DESTINATION_HEADER, "index": 0 } },
        ] },
        "rds_config_source": from_ads,
        "scoped_rds": { "scoped_rds_config_source": from_ads },
    })
}

#[cfg(test)]
mod tests {
    use osm_model::{AccessLog, Egress, LocalProxyMode, MeshSettings, TlsParameters, TlsVersion, TrustDomain};

    use super::*;

    #[test]
    fn the_subscription_is_the_one_of_the_listeners_of_services() {
        let settings = MeshSettings {
            trust_domain: TrustDomain::new("cluster.local").unwrap(),
            cluster_domain: "cluster.local".into(),
            permissive: true,
            egress: Egress::Refuse,
            local_proxy_mode: LocalProxyMode::Localhost,
            tls: TlsParameters {
                minimum: TlsVersion::V1_2,
                maximum: TlsVersion::V1_3,
                cipher_suites: Vec::new(),
                ecdh_curves: Vec::new(),
            },
            tracing: None,
            external_authorization: None,
            access_log: AccessLog::Off,
            service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
        };
        let resource = osm_translate::outbound_http_listener(80, &settings);
        let sent = osm_xds_json::to_json(resource.kind.type_url(), &resource.body).unwrap();
        let mut kept = listener();
        kept["@type"] = resource.kind.type_url().into();
        let kept = osm_xds_json::from_json(&kept).unwrap();
        let kept = osm_xds_json::to_json(&kept.type_url, &kept.value).unwrap();
        let of = |listener: &Value| {
            let manager = listener["filterChains"][0]["filters"][0]["typedConfig"].clone();
            manager["scopedRoutes"].clone()
        };
        assert!(of(&sent).is_object());
        assert_eq!(of(&kept), of(&sent));
    }
}
