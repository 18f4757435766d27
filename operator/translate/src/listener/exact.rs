//! Listeners of exact addresses: TCP services, headless services, and Services outside the mesh in the way of HTTP ones.

use std::collections::BTreeSet;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight,
};
use osm_model::{Addressing, Destination, Egress, MeshSettings, Origin, ServiceId, SplitRule, TrafficRouting};

use super::{ClusterLookup, Socket, listener, passthrough, tcp_proxy};
use crate::connection_manager::{ConnectionManager, Paths, routes_named};
use crate::filters;
use crate::naming;
use crate::resource::{Resource, service_origin};
use crate::route::scaled_weights;

/// The listener of a service port that clients reach by exact `addresses`: the ClusterIPs of a TCP service, or the pod
/// addresses of a headless one, on each of [`exact_listener_ports`]. Nothing in it waits for the client's bytes, so the
/// server may speak first.
///
/// `None` when there is no address, or when the destination is an HTTP service with a ClusterIP, which is served by
/// [`outbound_http_listener`](crate::outbound_http_listener).
///
/// A proxy must not be given two listeners on one address and port (Envoy refuses the second): where services overlap,
/// for example two headless ones over the same pods, the caller leaves the address out of all but one.
pub fn exact_listener(
    destination: &Destination,
    addresses: &[IpAddr],
    routing: &TrafficRouting,
    settings: &MeshSettings,
) -> Option<Resource> {
    exact_listener_at(destination, &sockets(addresses, &exact_listener_ports(destination)), routing, settings)
}

/// The same on just these addresses and ports: where services overlap, some may be left out.
pub fn exact_listener_at(
    destination: &Destination,
    sockets: &BTreeSet<(IpAddr, u16)>,
    routing: &TrafficRouting,
    settings: &MeshSettings,
) -> Option<Resource> {
    let (service, port) = (&destination.service, &destination.port);
    let http = port.protocol.is_http();
    if http && service.addressing != Addressing::Headless {
        return None;
    }
    let name = naming::exact_listener(&service.id, port);
    let filter = if http { http_filter(destination, settings) } else { tcp_filter(destination, routing, settings) };
    let listener = on_addresses(name, sockets, filter)?;
    // The routes of an HTTP listener are elsewhere, so a split does not change it.
    let split = match routing {
        TrafficRouting::Split(rules) if !http => rules.iter().map(|rule| rule.origin.clone()).collect(),
        TrafficRouting::Split(_) | TrafficRouting::Direct => Vec::<Origin>::new(),
    };
    Some(Resource::new(&listener, split.into_iter().chain([service_origin(&service.id)])))
}

/// The port numbers on which [`exact_listener`] answers. Clients of a service with a ClusterIP dial its port. Those of a
/// headless service, whose connections nothing translates, dial the pods' port (as without a mesh), or the service's (as
/// in OSM, which translates it); both work unless the pods' port number is another port of the same service.
pub fn exact_listener_ports(destination: &Destination) -> Vec<u16> {
    let (service, port) = (&destination.service, &destination.port);
    let taken = service.ports.iter().any(|other| other.port == port.target_port);
    if service.addressing == Addressing::Headless && !taken {
        vec![port.port, port.target_port]
    } else {
        vec![port.port]
    }
}

/// The listener of a port of a Service outside the mesh, on its ClusterIPs: everything passes untouched, be it HTTP, TLS
/// or a server that speaks first. It is needed only where the mesh has an HTTP service on the same port number. `None`
/// when there is no address or when traffic may not leave the mesh.
///
/// Where the port is known to be plain HTTP, [`outside_scopes`](crate::outside_scopes) does the same for less.
pub fn outside_listener(
    service: &ServiceId,
    addresses: &[IpAddr],
    port: u16,
    settings: &MeshSettings,
) -> Option<Resource> {
    match settings.egress {
        Egress::Refuse => None,
        Egress::Allow => {
            let name = naming::outside_listener(service, port);
            let listener = on_addresses(name, &sockets(addresses, &[port]), passthrough(settings))?;
            Some(Resource::new(&listener, [service_origin(service)]))
        }
    }
}

/// Every one of `addresses` with every one of `ports`.
fn sockets(addresses: &[IpAddr], ports: &[u16]) -> BTreeSet<(IpAddr, u16)> {
    addresses.iter().flat_map(|address| ports.iter().map(|port| (*address, *port))).collect()
}

/// A listener that gives every connection to `filter`.
fn on_addresses(name: String, sockets: &BTreeSet<(IpAddr, u16)>, filter: Filter) -> Option<Listener> {
    let mut sockets = sockets.iter().copied();
    let first = sockets.next()?;
    let chain = FilterChain { name: name.clone(), filters: vec![filter], ..Default::default() };
    Some(Listener {
        filter_chains: vec![chain],
        ..listener(name, (first, sockets), TrafficDirection::Outbound, Socket::HandedOver)
    })
}

/// HTTP of a headless service: routes of its own.
fn http_filter(destination: &Destination, settings: &MeshSettings) -> Filter {
    let route_table = naming::route_table(&destination.service.id, destination.port.port);
    let manager = ConnectionManager {
        routes: routes_named(&route_table),
        route_table,
        filters: filters::outbound(),
        header_mutations: Vec::new(),
        paths: Paths::AsSent,
    };
    manager.into_filter(settings)
}

/// TCP: to the backends of the split that applies to all traffic, else to the service itself. Conditions on requests
/// cannot apply to connections, so rules that have some are passed over.
fn tcp_filter(destination: &Destination, routing: &TrafficRouting, settings: &MeshSettings) -> Filter {
    let (service, port) = (&destination.service, &destination.port);
    let unconditional = |rules: &[SplitRule]| rules.iter().find(|rule| rule.matches.is_empty()).cloned();
    let split = match routing {
        TrafficRouting::Direct => None,
        TrafficRouting::Split(rules) => unconditional(rules),
    };
    let mut weights = match split {
        Some(rule) => scaled_weights(&rule.backends),
        None if service.addressing == Addressing::Headless => {
            vec![(naming::headless_cluster(&service.id, port.target_port), 1)]
        }
        None => vec![(naming::service_cluster(&service.id, port.target_port), 1)],
    };
    let target = if weights.len() == 1 {
        ClusterSpecifier::Cluster(weights.remove(0).0)
    } else {
        let weighted = |(name, weight)| ClusterWeight { name, weight, ..Default::default() };
        ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: weights.into_iter().map(weighted).collect() })
    };
    tcp_proxy(&naming::exact_listener(&service.id, port), target, ClusterLookup::OnDemand, settings)
}
