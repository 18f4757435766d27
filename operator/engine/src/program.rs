//! The program: which function computes which key.

use std::sync::Arc;

use osm_incremental::{Program, Reader, Role};
use osm_model::{Finding, MeshService, MeshSettings, NamespaceName, ServiceId};

use crate::value::{ItemValue, Value};
use crate::{Item, Key, destinations, facts, inbound, layers, policies, references, services, sockets};

/// The mesh computation. It holds nothing: every result follows from the inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeshProgram;

/// What computations read and write through.
pub(crate) type MeshReader<'a> = Reader<'a, MeshProgram>;

impl Program for MeshProgram {
    type Key = Key;
    type Value = Value;
    type Item = Item;
    type ItemValue = ItemValue;

    fn role(&self, key: &Key) -> Role {
        key.role()
    }

    fn roots(&self) -> Vec<Key> {
        vec![Key::Settings, Key::OutboundResources, Key::TelemetryResources, Key::AnyPermissive]
    }

    fn on_input(&self, input: &Key, _value: &Value, reader: &mut MeshReader<'_>) {
        if let Key::Object(object) = input {
            reader.spawn(Key::Facts(object.clone()));
        }
    }

    fn compute(&self, key: &Key, reader: &mut MeshReader<'_>) -> Option<Value> {
        match key {
            Key::Facts(object) => facts::facts(object, reader),

            Key::Settings => services::settings(reader),
            Key::Service(id) => services::service(id, reader),
            Key::Endpoints(id) => services::endpoints(id, reader),
            Key::IdentitiesOf(id) => services::identities(id, reader),

            Key::Grant(target) => policies::grant(target, reader),
            Key::Workload(identity) => policies::workload(identity, reader),
            Key::Permissive(namespace) => policies::permissive(namespace, reader),
            Key::Routing(apex) => policies::routing(apex, reader),
            Key::HeadlessSockets(id) => sockets::headless_sockets(id, reader),
            Key::OwnSockets(id) => sockets::own_sockets(id, reader),
            Key::GrantReferences(target) => references::grant_references(target, reader),
            Key::SplitReferences(split) => references::split_references(split, reader),
            Key::Exposure(id) => policies::exposure(id, reader),
            Key::AnyPermissive => policies::any_permissive(reader),
            Key::Reach(identity) => policies::reach(identity, reader),

            Key::Clusters(id, port, reachable) => destinations::clusters(id, *port, reachable, reader),
            Key::EndpointResource(id, port, reachable) => destinations::endpoints(id, *port, reachable, reader),
            Key::ExactListener(id, port, reachable) => destinations::exact_listener(id, *port, reachable, reader),
            Key::Scopes(id, port) => destinations::scopes(id, *port, reader),
            Key::RouteTable(id, port) => destinations::route_table(id, *port, reader),
            Key::HttpListener(port) => destinations::http_listener(*port, reader),
            Key::OutboundResources => destinations::outbound(reader),
            Key::TelemetryResources => destinations::telemetry(reader),

            Key::Inbound(identity) => inbound::view(identity, reader),
            Key::InboundResources(identity) => inbound::resources(identity, reader),

            Key::Deliver(layer, id, reachable) => layers::deliver(layer, id, reachable, reader),
            Key::Outside(service) => layers::outside(service, reader),
            Key::DeliverWorkload(identity) => layers::deliver_workload(identity, reader),

            // Inputs and indexes are never computed.
            Key::Options
            | Key::Object(_)
            | Key::HeldBack(_)
            | Key::SlicesOf(_)
            | Key::PodsByAddress
            | Key::Sockets
            | Key::ClusterIpRanges
            | Key::SplitsOf(_)
            | Key::GrantsTo(_)
            | Key::GrantsFrom(_)
            | Key::Workloads
            | Key::ServicesOf(_)
            | Key::HttpPorts
            | Key::ApexesOf(_)
            | Key::PermissiveServices
            | Key::Layer(_)
            | Key::Findings(_) => None,
        }
    }

    fn is_output(&self, key: &Key) -> bool {
        matches!(key, Key::Layer(_) | Key::Findings(_) | Key::Workloads)
    }
}

/// Publishes findings under their objects.
pub(crate) fn report(findings: Vec<Finding>, reader: &mut MeshReader<'_>) {
    for finding in findings {
        let object = finding.object.clone();
        reader.contribute(Key::Findings(object), Item::Finding(Box::new(finding)), ItemValue::Present);
    }
}

/// The mesh-wide settings.
pub(crate) fn settings<'a>(reader: &mut MeshReader<'a>) -> Option<&'a Arc<MeshSettings>> {
    match reader.get(&Key::Settings)? {
        Value::Settings(settings) => Some(settings),
        _ => None,
    }
}

/// A Service of the mesh.
pub(crate) fn mesh_service<'a>(id: &ServiceId, reader: &mut MeshReader<'a>) -> Option<&'a Arc<MeshService>> {
    match reader.get(&Key::Service(id.clone()))? {
        Value::Service(service) => Some(service),
        _ => None,
    }
}

/// Whether the services of a namespace are open to every workload.
pub(crate) fn is_permissive(namespace: &NamespaceName, reader: &mut MeshReader<'_>) -> bool {
    matches!(reader.get(&Key::Permissive(namespace.clone())), Some(Value::Flag(true)))
}
