//! Stage 7: resources of destinations, made once for all clients with equal rights.
//!
//! Each node reads only what its resource is made of: a changed address reaches the endpoint resource and nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use osm_model::{
    Addressing, Destination, DestinationRoutes, Egress, Endpoint, EndpointReadiness, MeshPort, MeshService, Reachable,
    ServiceId, TrafficRouting,
};

use crate::Key;
use crate::program::{MeshReader, mesh_service, settings};
use crate::value::Value;

fn mesh_port(service: &MeshService, port: u16) -> Option<&MeshPort> {
    service.ports.iter().find(|candidate| candidate.port == port)
}

/// The destination as far as every resource of it needs it.
fn destination(id: &ServiceId, port: u16, reachable: &Reachable, reader: &mut MeshReader<'_>) -> Option<Destination> {
    let service = mesh_service(id, reader)?;
    let port = mesh_port(service, port)?.clone();
    let identities = match reader.get(&Key::IdentitiesOf(id.clone())) {
        Some(Value::Identities(behind)) => reachable.identities(behind),
        _ => BTreeSet::new(),
    };
    Some(Destination { service: Arc::clone(service), port, reachable: reachable.clone(), identities })
}

fn routing(id: &ServiceId, port: u16, reader: &mut MeshReader<'_>) -> TrafficRouting {
    match reader.get(&Key::Routing(id.clone())) {
        Some(Value::Routing(routes)) => routes.get(&port).cloned().unwrap_or(TrafficRouting::Direct),
        _ => TrafficRouting::Direct,
    }
}

fn service_endpoints<'a>(id: &ServiceId, port: u16, reader: &mut MeshReader<'a>) -> &'a [Endpoint] {
    match reader.get(&Key::Endpoints(id.clone())) {
        Some(Value::Endpoints(by_port)) => by_port.get(&port).map_or(&[], |endpoints| endpoints),
        _ => &[],
    }
}

fn one(resource: osm_translate::Resource) -> Value {
    Value::Resources([Arc::new(resource)].into())
}

fn many(resources: impl IntoIterator<Item = osm_translate::Resource>) -> Value {
    Value::Resources(resources.into_iter().map(Arc::new).collect())
}

pub(crate) fn clusters(id: &ServiceId, port: u16, reachable: &Reachable, reader: &mut MeshReader<'_>) -> Option<Value> {
    let destination = destination(id, port, reachable, reader)?;
    let clusters = osm_translate::clusters(&destination, settings(reader)?);
    Some(Value::Clusters(Arc::new(clusters.into())))
}

pub(crate) fn endpoints(
    id: &ServiceId,
    port: u16,
    reachable: &Reachable,
    reader: &mut MeshReader<'_>,
) -> Option<Value> {
    let destination = destination(id, port, reachable, reader)?;
    let endpoints: Vec<Endpoint> = service_endpoints(id, port, reader)
        .iter()
        .filter(|endpoint| destination.reachable.admits(endpoint))
        .cloned()
        .collect();
    Some(one(osm_translate::endpoints(&destination, &endpoints)))
}

/// The listener of a TCP port at its ClusterIPs, or of a headless port at its pods' addresses.
pub(crate) fn exact_listener(
    id: &ServiceId,
    port: u16,
    reachable: &Reachable,
    reader: &mut MeshReader<'_>,
) -> Option<Value> {
    let destination = destination(id, port, reachable, reader)?;
    let Some(Value::Sockets(own)) = reader.get(&Key::OwnSockets(id.clone())) else { return None };
    let own = own.get(&port)?;
    let sockets: BTreeSet<(IpAddr, u16)> = match &destination.service.addressing {
        Addressing::ClusterIp(_) if destination.port.protocol.is_http() => return None,
        Addressing::ClusterIp(_) => own.clone(),
        Addressing::Headless => {
            let endpoints = service_endpoints(id, port, reader).iter();
            let usable = endpoints.filter(|endpoint| {
                endpoint.readiness != EndpointReadiness::NotReady && destination.reachable.admits(endpoint)
            });
            let addresses: BTreeSet<IpAddr> = usable.map(|endpoint| endpoint.address).collect();
            own.iter().filter(|(address, _)| addresses.contains(address)).copied().collect()
        }
    };
    let routing = routing(id, port, reader);
    osm_translate::exact_listener_at(&destination, &sockets, &routing, settings(reader)?).map(one)
}

fn routes(id: &ServiceId, port: u16, reader: &mut MeshReader<'_>) -> Option<DestinationRoutes> {
    let service = mesh_service(id, reader)?;
    let port = mesh_port(service, port)?.clone();
    let routing = routing(id, port.port, reader);
    Some(DestinationRoutes { service: Arc::clone(service), port, routing })
}

pub(crate) fn scopes(id: &ServiceId, port: u16, reader: &mut MeshReader<'_>) -> Option<Value> {
    Some(many(osm_translate::scopes(&routes(id, port, reader)?)))
}

pub(crate) fn route_table(id: &ServiceId, port: u16, reader: &mut MeshReader<'_>) -> Option<Value> {
    osm_translate::route_table(&routes(id, port, reader)?).map(one)
}

pub(crate) fn http_listener(port: u16, reader: &mut MeshReader<'_>) -> Option<Value> {
    Some(one(osm_translate::outbound_http_listener(port, settings(reader)?)))
}

/// What every outbound side stands on, whatever may be reached.
pub(crate) fn outbound(reader: &mut MeshReader<'_>) -> Option<Value> {
    let settings = settings(reader)?;
    let always = [osm_translate::outbound_listener(settings), osm_translate::shared_route_table()];
    let egress = (settings.egress == Egress::Allow)
        .then(|| [osm_translate::passthrough_cluster(), osm_translate::outside_route_table()]);
    Some(many(always.into_iter().chain(egress.into_iter().flatten())))
}

/// Clusters of the services that every proxy itself talks to.
pub(crate) fn telemetry(reader: &mut MeshReader<'_>) -> Option<Value> {
    let settings = settings(reader)?;
    let tracing = settings.tracing.as_ref().map(osm_translate::tracing_cluster);
    let authorization = settings.external_authorization.as_ref().map(osm_translate::external_authorization_cluster);
    Some(many(tracing.into_iter().chain(authorization)))
}
