//! Endpoints of a destination (EDS).

use std::collections::BTreeSet;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::Locality;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use osm_model::{Destination, Endpoint, EndpointReadiness};

use crate::message::tcp_address;
use crate::naming::service_cluster;
use crate::resource::{Resource, service_origin};

/// The zone that OSM gives every endpoint.
const ZONE: &str = "local";

/// The addresses behind `destination` that its clients may use, from all that the service has. Never absent: where there
/// are none the assignment is empty, so that Envoy answers 503 at once instead of waiting. Endpoints that are shutting
/// down are used only when no other is ready.
pub fn endpoints(destination: &Destination, endpoints: &[Endpoint]) -> Resource {
    let addresses = |readiness: EndpointReadiness| -> BTreeSet<(IpAddr, u16)> {
        let usable = |endpoint: &&Endpoint| endpoint.readiness == readiness && destination.reachable.admits(endpoint);
        endpoints.iter().filter(usable).map(|endpoint| (endpoint.address, endpoint.port)).collect()
    };
    let mut chosen = addresses(EndpointReadiness::Ready);
    if chosen.is_empty() {
        chosen = addresses(EndpointReadiness::Draining);
    }

    let mut assignment = ClusterLoadAssignment {
        cluster_name: service_cluster(&destination.service.id, destination.port.target_port),
        ..Default::default()
    };
    if !chosen.is_empty() {
        assignment.endpoints.push(LocalityLbEndpoints {
            locality: Some(Locality { zone: ZONE.to_owned(), ..Default::default() }),
            lb_endpoints: chosen.into_iter().map(|(address, port)| balanced(address, port)).collect(),
            ..Default::default()
        });
    }
    Resource::new(&assignment, [service_origin(&destination.service.id)])
}

/// One address among which a cluster balances.
fn balanced(address: IpAddr, port: u16) -> LbEndpoint {
    let endpoint = EnvoyEndpoint { address: Some(tcp_address(&address, port)), ..Default::default() };
    LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() }
}
