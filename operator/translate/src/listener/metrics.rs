//! Where Prometheus scrapes a sidecar.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action, route_action::ClusterSpecifier,
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;

use super::{Socket, listener};
use crate::connection_manager::{ConnectionManager, Paths};
use crate::message::every_address;
use crate::{filters, naming};

/// What is served, and nothing else.
const PATH: &str = "/stats/prometheus";

/// Serves [`PATH`] of Envoy's admin interface, and nothing else of it, to scrapers outside the mesh, in plaintext.
pub(super) fn metrics_listener() -> Listener {
    let [first, rest] = every_address().map(|address| (address, naming::METRICS_PORT));
    let name = naming::METRICS_LISTENER.to_owned();
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(naming::METRICS_CLUSTER.to_owned())),
        ..Default::default()
    };
    let route = Route {
        name: "metrics".to_owned(),
        r#match: Some(RouteMatch { path_specifier: Some(PathSpecifier::Path(PATH.to_owned())), ..Default::default() }),
        action: Some(Action::Route(action)),
        ..Default::default()
    };
    let manager = ConnectionManager {
        route_table: name.clone(),
        routes: RouteSpecifier::RouteConfig(RouteConfiguration {
            name: name.clone(),
            virtual_hosts: vec![VirtualHost {
                name: name.clone(),
                domains: vec!["*".to_owned()],
                routes: vec![route],
                ..Default::default()
            }],
            ..Default::default()
        }),
        filters: filters::metrics(),
        header_mutations: Vec::new(),
        paths: Paths::Normalized,
    };
    let chain = FilterChain { name: name.clone(), filters: vec![manager.into_silent_filter()], ..Default::default() };
    Listener { filter_chains: vec![chain], ..listener(name, (first, [rest]), TrafficDirection::Inbound, Socket::Own) }
}
