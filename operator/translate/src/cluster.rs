//! Clusters (CDS).
//!
//! A destination has up to three kinds of cluster over the same identities and endpoints; [`ClusterResources`] says which
//! is for what. All of them report statistics and logs under OSM's name of the service, `namespace/service|target port`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster,
    circuit_breakers::Thresholds,
    cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy, OriginalDstLbConfig},
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, endpoint::AdditionalAddress,
    lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config::ProtocolConfig,
    },
};
use osm_model::{Addressing, Destination, ExternalAuthorization, MeshSettings, Protocol, Tracing, TrafficRouting};
use prost::Name;

use crate::connection_manager::{http1, http2};
use crate::message::{ads, any, number, tcp_address};
use crate::naming;
use crate::resource::{Resource, service_origin};
use crate::tls;

/// The clusters of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterResources {
    /// One per ClusterIP, named by `address:port`. The shared route table finds them by the request's destination. Empty
    /// for headless services and for TCP.
    pub by_address: Vec<Resource>,
    /// Named as OSM names it. Used by traffic splits (as a backend, and as what remains for the split service itself) and
    /// by TCP listeners of services with a ClusterIP. Equal for all ports of a service with the same target port.
    pub by_name: Resource,
    /// Headless services only: connects to the pod that the client chose.
    pub by_original_destination: Option<Resource>,
}

impl ClusterResources {
    /// Those that traffic to the destination itself uses when it is routed by `routing`; the backends of a split are
    /// destinations of their own, of which `by_name` is used.
    pub fn used_by(&self, protocol: Protocol, routing: &TrafficRouting) -> Vec<&Resource> {
        let headless = self.by_original_destination.as_ref();
        match (headless, routing) {
            (Some(headless), _) => vec![headless],
            (None, TrafficRouting::Direct) if protocol.is_http() => self.by_address.iter().collect(),
            (None, TrafficRouting::Direct | TrafficRouting::Split(_)) => vec![&self.by_name],
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.by_address.iter().chain([&self.by_name]).chain(&self.by_original_destination)
    }
}

/// The clusters of `destination`. All name the one endpoint assignment of [`endpoints`](crate::endpoints).
pub fn clusters(destination: &Destination, settings: &MeshSettings) -> ClusterResources {
    let (service, port) = (&destination.service, &destination.port);
    let base = service_cluster(destination, settings);
    let resource = |cluster: &Cluster| Resource::new(cluster, [service_origin(&service.id)]);
    let by_address = match &service.addressing {
        Addressing::ClusterIp(addresses) if port.protocol.is_http() => addresses.as_slice(),
        Addressing::ClusterIp(_) | Addressing::Headless => &[],
    };
    let named = |name: String| Cluster { name, alt_stat_name: base.name.clone(), ..base.clone() };
    ClusterResources {
        by_address: by_address
            .iter()
            .map(|address| resource(&named(naming::destination(*address, port.port))))
            .collect(),
        by_name: resource(&base),
        by_original_destination: (service.addressing == Addressing::Headless).then(|| {
            let name = naming::headless_cluster(&service.id, port.target_port);
            resource(&towards_original_destination(named(name), Some(port.target_port)))
        }),
    }
}

/// A destination's cluster under its OSM name.
fn service_cluster(destination: &Destination, settings: &MeshSettings) -> Cluster {
    let service = &destination.service.id;
    let name = naming::service_cluster(service, destination.port.target_port);
    let server_name = service.fqdn(&settings.cluster_domain);
    Cluster {
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), service_name: name.clone() }),
        lb_policy: LbPolicy::RoundRobin.into(),
        transport_socket: Some(tls::client(&destination.identities, server_name, settings)),
        ..mirrored_cluster(name, DiscoveryType::Eds)
    }
}

/// `cluster` made to connect where the connection was going, at `port` if that is given.
fn towards_original_destination(cluster: Cluster, port: Option<u16>) -> Cluster {
    Cluster {
        cluster_discovery_type: discovery(DiscoveryType::OriginalDst),
        lb_policy: LbPolicy::ClusterProvided.into(),
        eds_cluster_config: None,
        lb_config: port.map(|port| {
            cluster::LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
                upstream_port_override: number(port),
                ..Default::default()
            })
        }),
        ..cluster
    }
}

/// The cluster of everything outside the mesh: connects where the connection was going, untouched.
pub fn passthrough_cluster() -> Resource {
    let cluster = mirrored_cluster(naming::PASSTHROUGH_CLUSTER.to_owned(), DiscoveryType::OriginalDst);
    Resource::new(&towards_original_destination(cluster, None), [])
}

/// What stands in for a cluster that was asked for by `name` and does not exist: it has no endpoints, so a request gets 503
/// at once instead of waiting.
pub fn unreachable_cluster(name: &str) -> Resource {
    Resource::new(&mirrored_cluster(name.to_owned(), DiscoveryType::Static), [])
}

/// The collector's cluster. Needed before any listener when tracing is on: Envoy refuses a listener that traces to a
/// cluster it does not know.
pub fn tracing_cluster(tracing: &Tracing) -> Resource {
    Resource::new(&external_cluster(naming::TRACING_CLUSTER, &tracing.address, tracing.port), [])
}

/// The authorizer's cluster (gRPC).
pub fn external_authorization_cluster(authorization: &ExternalAuthorization) -> Resource {
    let name = naming::EXTERNAL_AUTHORIZATION_CLUSTER;
    let grpc = UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Default::default())),
    });
    let cluster = external_cluster(name, &authorization.address, authorization.port);
    Resource::new(&with_http(cluster, grpc), [])
}

/// A cluster in plaintext outside the mesh, by host name or address.
fn external_cluster(name: &str, host: &str, port: u16) -> Cluster {
    Cluster {
        dns_lookup_family: DnsLookupFamily::All.into(),
        load_assignment: Some(one_endpoint(
            name,
            Endpoint { address: Some(tcp_address(&host, port)), ..Default::default() },
        )),
        ..unlimited_cluster(name.to_owned(), DiscoveryType::StrictDns)
    }
}

/// The cluster by which a sidecar reaches its own application on `port`: the IPv4 loopback address, and the IPv6 one where
/// nothing listens on that (Envoy tries the next address as soon as one refuses), whichever family the caller used.
///
/// It is the same in both modes of [`LocalProxyMode`](osm_model::LocalProxyMode). In `PodIp` mode the redirect rules of
/// the pod turn connections that Envoy opens to loopback towards the pod's own address. Envoy cannot do that itself:
/// a connection from Envoy to the pod's own address is, to those rules, the application calling itself through its
/// Service, and would come back to the inbound listener for ever.
pub(crate) fn local_cluster(name: String, port: u16) -> Cluster {
    let application = Endpoint {
        address: Some(tcp_address(&Ipv4Addr::LOCALHOST, port)),
        additional_addresses: vec![AdditionalAddress { address: Some(tcp_address(&Ipv6Addr::LOCALHOST, port)) }],
        ..Default::default()
    };
    Cluster { load_assignment: Some(one_endpoint(&name, application)), ..mirrored_cluster(name, DiscoveryType::Static) }
}

/// The cluster that reaches Envoy's admin interface, for metrics.
pub(crate) fn metrics_cluster() -> Cluster {
    let name = naming::METRICS_CLUSTER;
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let admin = Endpoint { address: Some(tcp_address(&address, naming::ADMIN_PORT)), ..Default::default() };
    Cluster {
        load_assignment: Some(one_endpoint(name, admin)),
        ..unlimited_cluster(name.to_owned(), DiscoveryType::Static)
    }
}

/// A cluster that speaks the version of HTTP in which the request came.
fn mirrored_cluster(name: String, discovery_type: DiscoveryType) -> Cluster {
    let mirrored = UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(http1()),
        http2_protocol_options: Some(http2()),
        ..Default::default()
    });
    with_http(unlimited_cluster(name, discovery_type), mirrored)
}

/// `cluster` with a choice of HTTP version.
fn with_http(mut cluster: Cluster, options: UpstreamProtocolOptions) -> Cluster {
    let options = HttpProtocolOptions { upstream_protocol_options: Some(options), ..Default::default() };
    cluster.typed_extension_protocol_options = [(HttpProtocolOptions::full_name(), any(&options))].into();
    cluster
}

/// A cluster without Envoy's default limits of 1024 connections and requests (OSM's defaults).
fn unlimited_cluster(name: String, discovery_type: DiscoveryType) -> Cluster {
    let unlimited = Thresholds {
        max_connections: number(u32::MAX),
        max_pending_requests: number(u32::MAX),
        max_requests: number(u32::MAX),
        max_retries: number(u32::MAX),
        ..Default::default()
    };
    Cluster {
        name,
        cluster_discovery_type: discovery(discovery_type),
        circuit_breakers: Some(CircuitBreakers { thresholds: vec![unlimited], ..Default::default() }),
        ..Default::default()
    }
}

fn discovery(kind: DiscoveryType) -> Option<ClusterDiscoveryType> {
    Some(ClusterDiscoveryType::Type(kind.into()))
}

/// An assignment of one endpoint, inside its cluster.
fn one_endpoint(cluster: &str, endpoint: Endpoint) -> ClusterLoadAssignment {
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
        ..Default::default()
    }
}
