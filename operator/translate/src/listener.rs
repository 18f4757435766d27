//! Listeners (LDS).

mod exact;
mod inbound;
mod metrics;
mod outbound;

pub use exact::{exact_listener, exact_listener_at, exact_listener_ports, outside_listener};
pub use inbound::inbound;
pub use outbound::{outbound_http_listener, outbound_listener};

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, Listener, ListenerFilter, listener_filter::ConfigType,
};
use envoy_types::pb::envoy::extensions::filters::listener::{
    original_dst::v3::OriginalDst, tls_inspector::v3::TlsInspector,
};
use envoy_types::pb::envoy::extensions::filters::network::direct_response::v3::Config as DirectResponse;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{ClusterSpecifier, OnDemand},
};
use osm_model::{Egress, MeshSettings};

use crate::access_log::access_logs;
use crate::message::{additional_address, ads, any, boolean, duration, network_filter, on_demand_timeout, tcp_address};
use crate::naming;

/// Whether a listener has a socket of its own or is handed connections by the outbound listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    Own,
    HandedOver,
}

/// A listener on `addresses`, of which there is at least one.
fn listener(
    name: String,
    (first, rest): ((IpAddr, u16), impl IntoIterator<Item = (IpAddr, u16)>),
    direction: TrafficDirection,
    socket: Socket,
) -> Listener {
    Listener {
        name,
        address: Some(tcp_address(&first.0, first.1)),
        additional_addresses: rest.into_iter().map(|(address, port)| additional_address(address, port)).collect(),
        traffic_direction: direction.into(),
        bind_to_port: match socket {
            Socket::Own => None,
            Socket::HandedOver => boolean(false),
        },
        ..Default::default()
    }
}

/// Finds out where a redirected connection was going.
fn original_destination() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.original_dst".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&OriginalDst::default()))),
        ..Default::default()
    }
}

/// Reads the TLS client hello.
fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..Default::default()
    }
}

/// What becomes of an outgoing connection to no destination of the mesh: it is passed on untouched, or closed.
fn outside_chain(settings: &MeshSettings) -> FilterChain {
    let filter = match settings.egress {
        Egress::Allow => passthrough(settings),
        Egress::Refuse => network_filter("envoy.filters.network.direct_response", any(&DirectResponse::default())),
    };
    FilterChain { name: "outbound-egress-filter-chain".to_owned(), filters: vec![filter], ..Default::default() }
}

/// Connects to where the connection was going.
fn passthrough(settings: &MeshSettings) -> Filter {
    let cluster = ClusterSpecifier::Cluster(naming::PASSTHROUGH_CLUSTER.to_owned());
    tcp_proxy(naming::PASSTHROUGH_CLUSTER, cluster, ClusterLookup::Present, settings)
}

/// Whether the clusters a TCP proxy names are there with it, or may have to be fetched at the first connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClusterLookup {
    Present,
    OnDemand,
}

/// A TCP proxy as a network filter. Connections may be silent for as long as they like.
fn tcp_proxy(stat_prefix: &str, target: ClusterSpecifier, lookup: ClusterLookup, settings: &MeshSettings) -> Filter {
    let on_demand = OnDemand { odcds_config: Some(ads()), timeout: Some(on_demand_timeout()), ..Default::default() };
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        idle_timeout: Some(duration(Duration::ZERO)),
        access_log: access_logs(settings),
        on_demand: (lookup == ClusterLookup::OnDemand).then_some(on_demand),
        cluster_specifier: Some(target),
        ..Default::default()
    };
    network_filter("envoy.filters.network.tcp_proxy", any(&proxy))
}
