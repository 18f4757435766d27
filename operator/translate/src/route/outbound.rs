//! Outbound: from the address that a request was going to, to the cluster that serves it.
//!
//! A scope per ClusterIP and port selects a route table. All services without rules share one table, which takes the
//! cluster's name from the header that also selected the scope; that is what keeps an unused service almost free.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::route::v3::{
    RouteConfiguration, ScopedRouteConfiguration, VirtualHost, WeightedCluster,
    route_action::ClusterSpecifier,
    scoped_route_configuration::{
        Key,
        key::{Fragment, fragment::Type},
    },
    weighted_cluster::ClusterWeight,
};
use osm_model::{
    Addressing, Backend, DestinationRoutes, Egress, MeshSettings, Origin, ServiceId, SplitRule, TrafficRouting,
};

use super::matching::{any_request, route_match_of};
use super::{forward, table};
use crate::message::number;
use crate::naming;
use crate::resource::{Resource, service_origin};

/// The scopes of one destination, one per ClusterIP: each names the shared table, or the destination's own where it has
/// rules. None for headless services, which have listeners of their own, and none for TCP.
pub fn scopes(routes: &DestinationRoutes) -> Vec<Resource> {
    let (service, port) = (&routes.service, &routes.port);
    let Addressing::ClusterIp(addresses) = &service.addressing else { return Vec::new() };
    if !port.protocol.is_http() {
        return Vec::new();
    }
    let table = match &routes.routing {
        TrafficRouting::Direct => naming::SHARED_ROUTE_TABLE.to_owned(),
        TrafficRouting::Split(_) => naming::route_table(&service.id, port.port),
    };
    let origins = origins(&service.id, &routes.routing);
    addresses.iter().map(|address| Resource::new(&scope(*address, port.port, table.clone()), origins.clone())).collect()
}

/// The table of every destination without rules: the destination is the name of the cluster.
pub fn shared_route_table() -> Resource {
    let target = ClusterSpecifier::ClusterHeader(naming::DESTINATION_HEADER.to_owned());
    let host = VirtualHost {
        name: "outbound_virtual-host".to_owned(),
        routes: vec![forward("direct", any_request(), target)],
        ..Default::default()
    };
    Resource::new(&outbound_table(naming::SHARED_ROUTE_TABLE.to_owned(), host), [])
}

/// The destination's own table: of an HTTP service with splits, or of a headless HTTP service. `None` where the shared
/// table serves, or where the port is not HTTP. Splits come in the order of the rules; what none matches goes to the
/// service itself.
pub fn route_table(routes: &DestinationRoutes) -> Option<Resource> {
    let (service, port) = (&routes.service, &routes.port);
    let headless = service.addressing == Addressing::Headless;
    let rules: &[SplitRule] = match &routes.routing {
        TrafficRouting::Split(rules) => rules,
        TrafficRouting::Direct if headless => &[],
        TrafficRouting::Direct => return None,
    };
    if !port.protocol.is_http() {
        return None;
    }
    let itself = if headless {
        naming::headless_cluster(&service.id, port.target_port)
    } else {
        naming::service_cluster(&service.id, port.target_port)
    };
    let origin = service_origin(&service.id);
    let split = rules.iter().flat_map(|rule| {
        let name = rule.origin.object.to_string();
        let matches = match rule.matches.as_slice() {
            [] => vec![any_request()],
            matches => matches.iter().map(route_match_of).collect(),
        };
        matches.into_iter().map(move |matching| forward(name.clone(), matching, weighted(&rule.backends)))
    });
    let remainder = forward(origin.object.to_string(), any_request(), ClusterSpecifier::Cluster(itself));
    let host = VirtualHost {
        name: format!("outbound_virtual-host|{}", service.id),
        routes: split.chain([remainder]).collect(),
        ..Default::default()
    };
    let table = outbound_table(naming::route_table(&service.id, port.port), host);
    Some(Resource::new(&table, origins(&service.id, &routes.routing)))
}

/// The scopes of a Service outside the mesh (its ClusterIPs) on a port number on which the mesh has HTTP services, so
/// that its requests find a way past them. None where traffic may not leave the mesh.
pub fn outside_scopes(service: &ServiceId, addresses: &[IpAddr], port: u16, settings: &MeshSettings) -> Vec<Resource> {
    match settings.egress {
        Egress::Refuse => Vec::new(),
        Egress::Allow => addresses
            .iter()
            .map(|address| {
                let scope = scope(*address, port, naming::OUTSIDE_ROUTE_TABLE.to_owned());
                Resource::new(&scope, [service_origin(service)])
            })
            .collect(),
    }
}

/// The table of Services outside the mesh: straight on to the address the request was going to.
pub fn outside_route_table() -> Resource {
    let target = ClusterSpecifier::Cluster(naming::PASSTHROUGH_CLUSTER.to_owned());
    let host = VirtualHost {
        name: "outbound_virtual-host".to_owned(),
        routes: vec![forward("passthrough", any_request(), target)],
        ..Default::default()
    };
    Resource::new(&outbound_table(naming::OUTSIDE_ROUTE_TABLE.to_owned(), host), [])
}

/// A table whose requests lose the header that brought them here.
fn outbound_table(name: String, host: VirtualHost) -> RouteConfiguration {
    RouteConfiguration { request_headers_to_remove: vec![naming::DESTINATION_HEADER.to_owned()], ..table(name, host) }
}

fn scope(address: IpAddr, port: u16, table: String) -> ScopedRouteConfiguration {
    let key = naming::destination(address, port);
    let fragment = Fragment { r#type: Some(Type::StringKey(key.clone())) };
    ScopedRouteConfiguration {
        name: key,
        route_configuration_name: table,
        key: Some(Key { fragments: vec![fragment] }),
        ..Default::default()
    }
}

fn origins(service: &ServiceId, routing: &TrafficRouting) -> Vec<Origin> {
    let rules: &[SplitRule] = match routing {
        TrafficRouting::Direct => &[],
        TrafficRouting::Split(rules) => rules,
    };
    [service_origin(service)].into_iter().chain(rules.iter().map(|rule| rule.origin.clone())).collect()
}

/// Clusters by weight; one cluster needs none.
fn weighted(backends: &[Backend]) -> ClusterSpecifier {
    let mut weights = scaled_weights(backends);
    if weights.len() == 1 {
        return ClusterSpecifier::Cluster(weights.remove(0).0);
    }
    let clusters = weights
        .into_iter()
        .map(|(name, weight)| ClusterWeight { name, weight: number(weight), ..Default::default() })
        .collect();
    ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..Default::default() })
}

/// The clusters of `backends` that receive anything, with weights whose sum Envoy accepts (32 bits). Backends keep the
/// order of the object.
pub(crate) fn scaled_weights(backends: &[Backend]) -> Vec<(String, u32)> {
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let divisor = u32::try_from(total / u64::from(u32::MAX)).unwrap_or(u32::MAX).saturating_add(1);
    backends
        .iter()
        .filter(|backend| backend.weight > 0)
        .map(|backend| {
            let weight = if total > u64::from(u32::MAX) { (backend.weight / divisor).max(1) } else { backend.weight };
            (naming::service_cluster(&backend.service, backend.port.target_port), weight)
        })
        .collect()
}
