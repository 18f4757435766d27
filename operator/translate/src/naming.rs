//! Every name an Envoy sees is built here and only here, so that two resources that refer to each other cannot disagree.
//!
//! Names that users or dashboards see are OSM's. Where a name refers to something that is only fetched on demand, its
//! function says so; every other name that a resource mentions is produced together with it (see the crate root).

use std::net::{IpAddr, SocketAddr};

use osm_model::{Identity, MeshPort, Protocol, ServiceId};

/// Port to which a workload's outgoing connections are redirected.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port to which connections arriving at a workload are redirected.
pub const INBOUND_PORT: u16 = 15003;
/// Port on which Prometheus scrapes a sidecar, in plaintext.
pub const METRICS_PORT: u16 = 15010;
/// Port of Envoy's admin interface, on the loopback address.
pub const ADMIN_PORT: u16 = 15000;

/// Listener on [`OUTBOUND_PORT`].
pub const OUTBOUND_LISTENER: &str = "outbound-listener";
/// Listener on [`INBOUND_PORT`].
pub const INBOUND_LISTENER: &str = "inbound-listener";
/// Listener on [`METRICS_PORT`].
pub const METRICS_LISTENER: &str = "inbound-prometheus-listener";

/// Cluster that connects to wherever the connection was going.
pub const PASSTHROUGH_CLUSTER: &str = "passthrough-outbound";
/// Cluster that reaches Envoy's own admin interface.
pub const METRICS_CLUSTER: &str = "envoy-metrics-cluster";
/// Cluster of the tracing collector.
pub const TRACING_CLUSTER: &str = "envoy-tracing-cluster";
/// Cluster of the external authorizer.
pub const EXTERNAL_AUTHORIZATION_CLUSTER: &str = "envoy-external-authorization-cluster";

/// SDS name of the certificate a workload presents to others. The same for every proxy: the control plane resolves it by
/// who asks, which is what lets one cluster serve all clients.
pub const SERVICE_CERTIFICATE_SECRET: &str = "service-cert";
/// SDS name of the trust bundle against which peers are verified. The same for every proxy.
pub const TRUST_BUNDLE_SECRET: &str = "root-cert-for-mtls";
/// SDS name of the certificate with which a proxy opens its stream (OSM's). In a pod it is served in exchange for the pod's
/// token, outside a cluster it is in a file.
pub const PROXY_CERTIFICATE_SECRET: &str = "tls_sds";

/// Request header that carries a request's original destination from the connection manager to the scope and the cluster
/// it selects. Always overwritten on the way in and removed on the way out, so applications can neither set nor see it.
pub const DESTINATION_HEADER: &str = "x-osm-destination";

/// The table of scoped routes that all outbound HTTP listeners share.
pub const SCOPED_ROUTES: &str = "scoped-rds-outbound";
/// Route table of all destinations that have no rules of their own.
pub const SHARED_ROUTE_TABLE: &str = "rds-outbound";
/// Route table of Services outside the mesh.
pub const OUTSIDE_ROUTE_TABLE: &str = "rds-outbound.passthrough";

/// ALPN between sidecars. Only the client sends it and only the server's choice of filter chain reads it. The server
/// selects no protocol, so both sides still tell HTTP/1.1 from HTTP/2 by the first bytes.
pub const MESH_ALPN: &str = "osm";

/// A service's cluster and its EDS name: OSM's `namespace/service|target port`.
pub fn service_cluster(service: &ServiceId, target_port: u16) -> String {
    format!("{service}|{target_port}")
}

/// A service's cluster as the shared route table finds it, and the key of the destination's scope: the text that Envoy
/// prints for `%DOWNSTREAM_LOCAL_ADDRESS%`, `10.96.0.5:14001` or `[fd00:96::5]:14001`. In permissive mode the cluster of
/// this name is fetched on demand.
pub fn destination(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

/// The cluster of a headless service whose connections go on to the pod that the client chose.
pub fn headless_cluster(service: &ServiceId, target_port: u16) -> String {
    format!("{service}|{target_port}|original-destination")
}

/// The cluster by which a sidecar reaches its own application, after the first service that leads there, or after the
/// workload where no service does.
pub fn local_cluster(service: Option<&ServiceId>, workload: &Identity, target_port: u16) -> String {
    match service {
        Some(service) => format!("{service}|{target_port}|local"),
        None => format!("{workload}|{target_port}|local"),
    }
}

/// The listener of all HTTP services on one port number.
pub fn outbound_http_listener(port: u16) -> String {
    format!("{OUTBOUND_LISTENER}.{port}")
}

/// The listener (and its filter chain) of one service port that is reached by exact addresses.
pub fn exact_listener(service: &ServiceId, port: &MeshPort) -> String {
    format!("outbound_{service}_{}_{}", port.port, protocol(port.protocol))
}

/// The listener of one port of a Service outside the mesh.
pub fn outside_listener(service: &ServiceId, port: u16) -> String {
    format!("outbound_{service}_{port}_passthrough")
}

/// The filter chain of an inbound port.
pub fn inbound_filter_chain(
    service: Option<&ServiceId>,
    workload: &Identity,
    target_port: u16,
    kind: Protocol,
) -> String {
    let kind = protocol(kind);
    match service {
        Some(service) => format!("inbound_{service}_{target_port}_{kind}"),
        None => format!("inbound_{workload}_{target_port}_{kind}"),
    }
}

/// The route table of one service port: with rules of its own, or headless.
pub fn route_table(service: &ServiceId, port: u16) -> String {
    format!("{SHARED_ROUTE_TABLE}.{service}.{port}")
}

/// The route table of an inbound port.
pub fn inbound_route_table(target_port: u16) -> String {
    format!("rds-inbound.{target_port}")
}

/// Prefix of an HTTP connection manager's statistics, after the route table it uses.
pub fn http_stat_prefix(route_table: &str) -> String {
    format!("mesh-http-conn-manager.{route_table}")
}

/// The protocol as it appears in names.
fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
        Protocol::TcpServerFirst => "tcp-server-first",
    }
}
