//! Route tables and scopes (RDS, SRDS).

mod inbound;
mod matching;
mod outbound;

pub(crate) use inbound::{InboundRules, inbound_route_table};
pub(crate) use matching::permission_of;
pub(crate) use outbound::scaled_weights;
pub use outbound::{outside_route_table, outside_scopes, route_table, scopes, shared_route_table};

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action, route_action::ClusterSpecifier,
};

use crate::message::{boolean, duration};

/// A route to `target`, without a time limit (as in OSM): how long a request may take is the application's business.
fn forward(name: impl Into<String>, matching: RouteMatch, target: ClusterSpecifier) -> Route {
    let action =
        RouteAction { timeout: Some(duration(Duration::ZERO)), cluster_specifier: Some(target), ..Default::default() };
    Route { name: name.into(), r#match: Some(matching), action: Some(Action::Route(action)), ..Default::default() }
}

/// A table of one virtual host for any `Host`: what counts is where the connection was going. Clusters need not be there
/// yet, because some are fetched on demand.
fn table(name: String, virtual_host: VirtualHost) -> RouteConfiguration {
    RouteConfiguration {
        name,
        virtual_hosts: vec![VirtualHost { domains: vec!["*".to_owned()], ..virtual_host }],
        validate_clusters: boolean(false),
        ..Default::default()
    }
}
