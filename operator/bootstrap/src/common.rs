//! What every bootstrap has.

use serde_json::{Value, json};

use crate::scoped_routes;

/// Cluster of the control plane's xDS (OSM's name).
pub(crate) const CONTROL_PLANE_CLUSTER: &str = "osm-controller";

/// The part of a bootstrap that differs between kinds.
pub(crate) struct Parts {
    /// `node.id`
    pub(crate) node: String,
    /// `node.cluster`
    pub(crate) cluster: String,
    /// Port of the admin interface, on loopback.
    pub(crate) admin_port: u16,
    /// Static clusters, [`CONTROL_PLANE_CLUSTER`] among them.
    pub(crate) clusters: Vec<Value>,
    /// Static listeners beside the one that every bootstrap has.
    pub(crate) listeners: Vec<Value>,
}

/// The bootstrap: everything but `parts` by ADS.
pub(crate) fn bootstrap(parts: Parts) -> Value {
    // An Envoy that waits for its configuration is not ready; one that gave up waiting would be, with nothing.
    let from_ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    let mut listeners = vec![scoped_routes::listener()];
    listeners.extend(parts.listeners);
    json!({
        "node": { "id": parts.node, "cluster": parts.cluster },
        "admin": { "address": socket_address("127.0.0.1", parts.admin_port) },
        "dynamic_resources": {
            "ads_config": grpc_source(CONTROL_PLANE_CLUSTER),
            "cds_config": from_ads,
            "lds_config": from_ads,
        },
        "static_resources": { "clusters": parts.clusters, "listeners": listeners },
        "layered_runtime": { "layers": [{ "name": "static", "static_layer": {
            // Expressions in policies may be long; Envoy's own limit is 100.
            "re2.max_program_size.error_level": 1024,
            "re2.max_program_size.warn_level": 1024,
        } }] },
        "stats_config": { "stats_matcher": { "inclusion_list": { "patterns": stats_patterns() } } },
    })
}

/// A source of configuration by gRPC on a static cluster (`envoy.config.core.v3.ApiConfigSource`).
pub(crate) fn grpc_source(cluster: &str) -> Value {
    json!({
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": true,
        "grpc_services": [{ "envoy_grpc": {
            "cluster_name": cluster,
            // Without it a proxy waits up to 30 s after the control plane is back.
            "retry_policy": { "retry_back_off": { "base_interval": "0.1s", "max_interval": "1s" } },
        } }],
    })
}

/// A secret out of a file that holds an SDS response (`envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig`).
pub(crate) fn file_secret(name: &str, file: &str) -> Value {
    json!({ "name": name, "sds_config": { "path_config_source": { "path": file }, "resource_api_version": "V3" } })
}

/// How the control plane is found.
pub(crate) enum Discovery<'a> {
    /// At this address.
    Address(std::net::SocketAddr),
    /// By its name.
    Name(&'a str, u16),
}

/// How the control plane is spoken to.
pub(crate) struct Connection<'a> {
    /// Name of the cluster.
    pub(crate) name: &'a str,
    /// Where it is.
    pub(crate) discovery: Discovery<'a>,
    /// The name its certificate must have.
    pub(crate) server_name: String,
    /// `TlsParameters`
    pub(crate) tls_parameters: Value,
    /// The certificate that is shown to it, if any.
    pub(crate) certificate: Option<Value>,
    /// The roots that verify it.
    pub(crate) roots: Value,
    /// Filters on the way to it, if any.
    pub(crate) http_filters: Option<Value>,
}

/// A cluster of the control plane (`envoy.config.cluster.v3.Cluster`): HTTP/2 by TLS, its name verified.
pub(crate) fn control_plane_cluster(connection: Connection<'_>) -> Value {
    let Connection { name, server_name, .. } = connection;
    let (host, port) = match connection.discovery {
        Discovery::Address(address) => (address.ip().to_string(), address.port()),
        Discovery::Name(host, port) => (host.to_owned(), port),
    };
    let mut protocol = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {
            "connection_keepalive": { "interval": "30s", "timeout": "10s" },
        } },
    });
    if let Some(filters) = connection.http_filters {
        protocol["http_filters"] = filters;
    }
    let mut tls = json!({
        "tls_params": connection.tls_parameters,
        "alpn_protocols": ["h2"],
        "combined_validation_context": {
            "default_validation_context": { "match_typed_subject_alt_names": [
                { "san_type": "DNS", "matcher": { "exact": server_name } },
            ] },
            "validation_context_sds_secret_config": connection.roots,
        },
    });
    if let Some(certificate) = connection.certificate {
        tls["tls_certificate_sds_secret_configs"] = json!([certificate]);
    }
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address(&host, port) } }] }],
        },
        "upstream_connection_options": {
            "tcp_keepalive": { "keepalive_probes": 5, "keepalive_time": 60, "keepalive_interval": 5 },
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol,
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": server_name,
                "common_tls_context": tls,
            },
        },
    });
    if let Discovery::Name(..) = connection.discovery {
        // The Service's address stays: looking it up often would load the cluster's DNS with the number of pods. A
        // lookup that fails, as while a node starts, is repeated soon.
        cluster["type"] = json!("LOGICAL_DNS");
        cluster["dns_lookup_family"] = json!("V4_PREFERRED");
        cluster["dns_refresh_rate"] = json!("30s");
        cluster["dns_jitter"] = json!("10s");
        cluster["dns_failure_refresh_rate"] = json!({ "base_interval": "0.2s", "max_interval": "2s" });
    }
    cluster
}

/// A cluster of one address on loopback.
pub(crate) fn loopback_cluster(name: &str, port: u16, connect_timeout: &str) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": connect_timeout,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address("127.0.0.1", port) } }] }],
        },
    })
}

/// The name in the control plane's certificate that proxies verify.
pub(crate) fn control_plane_name(trust_domain: &osm_model::TrustDomain) -> String {
    format!("ads.{trust_domain}")
}

/// `envoy.config.core.v3.Address`
pub(crate) fn socket_address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

/// What Envoy keeps statistics of: what dashboards and alerts read. Without it every route, filter and code adds series.
fn stats_patterns() -> Vec<Value> {
    let expression = |regex: &str| json!({ "safe_regex": { "regex": regex } });
    vec![
        expression(r"server\.(live|state|uptime|memory_allocated|concurrency)"),
        expression(
            r"listener_manager\.(listener_create_failure|total_listeners_(active|warming)|lds\.update_(rejected|success))",
        ),
        expression(r"cluster_manager\.((active|warming)_clusters|cds\.update_(rejected|success))"),
        expression(r"control_plane\.(connected_state|rate_limit_enforced)"),
        expression(concat!(
            r"cluster\..*\.(upstream_rq_([1-5]xx|total|timeout|rx_reset|retry.*|pending_(failure_eject|overflow))",
            r"|upstream_cx_(active|total|(tx|rx)_bytes_total|connect_(timeout|fail)|destroy_(local|remote)_with_active_rq)",
            r"|health_check\..*|membership_(total|healthy)|ssl\.(fail_verify_san|connection_error))"
        )),
        expression(
            r"listener\..*\.ssl\.(fail_verify_error|fail_verify_san|fail_verify_no_cert|connection_error|handshake)",
        ),
        expression(r"(http|tcp)\..*\.?rbac\.(allowed|denied)"),
        expression(r".*rds-inbound.*\.downstream_rq_[1-5]xx"),
        json!({ "prefix": "osm_" }),
    ]
}
