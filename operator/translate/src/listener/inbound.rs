//! What a workload's sidecar serves: one filter chain per port, always mutual TLS.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use osm_model::{Identity, InboundPolicy, InboundPort, InboundView, MeshSettings, Origin, ServiceId, TcpRule};

use super::metrics::metrics_listener;
use super::{ClusterLookup, Socket, listener, original_destination, tcp_proxy, tls_inspector};
use crate::cluster::{local_cluster, metrics_cluster};
use crate::connection_manager::{ConnectionManager, Paths, routes_named};
use crate::message::{every_address, network_filter, number};
use crate::resource::{Resource, service_origin};
use crate::route::{InboundRules, inbound_route_table};
use crate::tls::{self, Callers};
use crate::{filters, naming, rbac};

/// Everything that the sidecars of one identity serve: the inbound listener with its route tables and local clusters, and
/// the metrics listener with its cluster. A workload without ports has no inbound listener: nothing can reach it.
pub fn inbound(view: &InboundView, settings: &MeshSettings) -> Vec<Resource> {
    let mut resources = Vec::new();
    let mut chains = Vec::new();
    let mut listener_origins = BTreeSet::new();
    for port in &view.ports {
        let service = port.services.first().map(|(service, _)| service);
        let local = naming::local_cluster(service, &view.identity, port.target_port);
        let services = || port.services.iter().map(|(service, _)| service_origin(service));
        let policies: Vec<Origin> = policy_origins(&port.policy);

        resources.push(Resource::new(&local_cluster(local.clone(), port.target_port), services()));
        if port.protocol.is_http() {
            let table = inbound_route_table(port, InboundRules::of(&port.policy), &local, settings);
            resources.push(Resource::new(&table, services().chain(policies)));
        } else {
            listener_origins.extend(policies);
        }
        listener_origins.extend(services());
        chains.push(chain(port, service, &view.identity, &local, settings));
    }
    if !chains.is_empty() {
        resources.push(Resource::new(&inbound_listener(chains), listener_origins));
    }
    resources.extend([Resource::new(&metrics_listener(), []), Resource::new(&metrics_cluster(), [])]);
    resources
}

fn policy_origins(policy: &InboundPolicy) -> Vec<Origin> {
    match policy {
        InboundPolicy::Permissive => Vec::new(),
        InboundPolicy::Http(rules) => rules.iter().flat_map(|rule| rule.origins.iter().cloned()).collect(),
        InboundPolicy::Tcp(rules) => rules.iter().flat_map(|rule| rule.origins.iter().cloned()).collect(),
    }
}

fn inbound_listener(chains: Vec<FilterChain>) -> Listener {
    let [first, rest] = every_address().map(|address| (address, naming::INBOUND_PORT));
    Listener {
        listener_filters: vec![original_destination(), tls_inspector()],
        filter_chains: chains,
        ..listener(naming::INBOUND_LISTENER.to_owned(), (first, [rest]), TrafficDirection::Inbound, Socket::Own)
    }
}

/// The chain of one port. It takes connections of other sidecars only: plaintext, and TLS of anybody else, match no chain
/// and are closed, in permissive mode too.
fn chain(
    port: &InboundPort,
    service: Option<&ServiceId>,
    workload: &Identity,
    local_cluster: &str,
    settings: &MeshSettings,
) -> FilterChain {
    let name = naming::inbound_filter_chain(service, workload, port.target_port, port.protocol);
    let (filters, transport_socket) = if port.protocol.is_http() {
        (vec![http_filter(port, settings)], tls::server(Callers::AnyWorkload, settings))
    } else {
        match tcp_rules(&port.policy) {
            None => (vec![tcp_filter(&name, local_cluster, settings)], tls::server(Callers::AnyWorkload, settings)),
            Some(rules) => {
                let access =
                    network_filter("envoy.filters.network.rbac", rbac::network_rules(rules, &settings.trust_domain));
                let callers = rules.iter().flat_map(|rule| rule.principals.iter().cloned()).collect();
                let filters = vec![access, tcp_filter(&name, local_cluster, settings)];
                (filters, tls::server(Callers::Only(&callers), settings))
            }
        }
    };
    FilterChain {
        name,
        filter_chain_match: Some(FilterChainMatch {
            destination_port: number(port.target_port),
            transport_protocol: "tls".to_owned(),
            application_protocols: vec![naming::MESH_ALPN.to_owned()],
            ..Default::default()
        }),
        filters,
        transport_socket: Some(transport_socket),
        ..Default::default()
    }
}

/// Who may connect; `None` is every workload. A policy about requests grants no connection.
fn tcp_rules(policy: &InboundPolicy) -> Option<&[TcpRule]> {
    match policy {
        InboundPolicy::Permissive => None,
        InboundPolicy::Tcp(rules) => Some(rules),
        InboundPolicy::Http(_) => Some(&[]),
    }
}

fn http_filter(port: &InboundPort, settings: &MeshSettings) -> Filter {
    let route_table = naming::inbound_route_table(port.target_port);
    let manager = ConnectionManager {
        routes: routes_named(&route_table),
        route_table,
        filters: filters::inbound(settings),
        header_mutations: Vec::new(),
        paths: match InboundRules::of(&port.policy) {
            InboundRules::Any => Paths::AsSent,
            InboundRules::Only(_) => Paths::Normalized,
        },
    };
    manager.into_filter(settings)
}

fn tcp_filter(name: &str, local_cluster: &str, settings: &MeshSettings) -> Filter {
    let cluster = ClusterSpecifier::Cluster(local_cluster.to_owned());
    tcp_proxy(name, cluster, ClusterLookup::Present, settings)
}
