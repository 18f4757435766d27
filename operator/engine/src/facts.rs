//! Stage 1: one object, read on its own, and entered into the indexes that others look it up by.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use osm_api::{MeshConfigReason, Object, ObjectRef};
use osm_mesh::{Parsed, PodFacts, ServiceFacts, SliceFacts, SplitFacts};
use osm_model::{Addressing, Identity};

use crate::options::mesh_config_ref;
use crate::program::{MeshReader, report};
use crate::reference::object_id;
use crate::value::{ItemValue, Value};
use crate::{Item, Key, Options};

/// Reads the object; the node exists even when the object is unusable, so that its findings do.
pub(crate) fn facts(object: &ObjectRef, reader: &mut MeshReader<'_>) -> Option<Value> {
    let Some(Value::Options(options)) = reader.get(&Key::Options) else { return None };
    let Value::Object(content) = reader.get(&Key::Object(object.clone()))? else { return None };
    let value = match content {
        Object::Namespace(it) => publish(osm_mesh::namespace(it, &options.mesh_name), reader).map(Value::Namespace),
        Object::Service(it) => publish(osm_mesh::service(it), reader).map(|facts| service(object, facts, reader)),
        Object::EndpointSlice(it) => {
            publish(osm_mesh::endpoint_slice(it), reader).map(|facts| endpoint_slice(object, facts, reader))
        }
        Object::Pod(it) => publish(osm_mesh::pod(it), reader).map(|facts| pod(facts, reader)),
        Object::ServiceAccount(_) => service_account(object, reader),
        Object::MeshConfig(it) => mesh_config(object, it, options, reader),
        Object::MeshRootCertificate(it) => publish(osm_mesh::mesh_root_certificate(it), reader).map(|_| Value::Present),
        Object::TrafficTarget(it) => publish(osm_mesh::traffic_target(it), reader).map(|facts| {
            reader.spawn(Key::Grant(object.clone()));
            reader.spawn(Key::GrantReferences(object.clone()));
            Value::Target(Arc::new(facts))
        }),
        Object::HttpRouteGroup(it) => {
            publish(osm_mesh::http_route_group(it), reader).map(|facts| Value::RouteGroup(Arc::new(facts)))
        }
        Object::TcpRoute(it) => publish(osm_mesh::tcp_route(it), reader).map(|facts| Value::TcpRoute(Arc::new(facts))),
        Object::TrafficSplit(it) => {
            publish(osm_mesh::traffic_split(it), reader).map(|facts| traffic_split(object, facts, reader))
        }
        // Written by the control plane, never read.
        Object::ProxySnapshot(_) => None,
    };
    Some(value.unwrap_or(Value::Present))
}

fn service(object: &ObjectRef, facts: ServiceFacts, reader: &mut MeshReader<'_>) -> Value {
    let id = &facts.id;
    for key in [
        Key::Service(id.clone()),
        Key::Endpoints(id.clone()),
        Key::IdentitiesOf(id.clone()),
        Key::Routing(id.clone()),
        Key::Permissive(id.namespace.clone()),
        Key::Exposure(id.clone()),
        Key::Outside(object.clone()),
        Key::HeadlessSockets(id.clone()),
        Key::OwnSockets(id.clone()),
    ] {
        reader.spawn(key);
    }
    if let Addressing::ClusterIp(addresses) = &facts.addressing {
        for address in addresses {
            for port in &facts.ports {
                let claim = ItemValue::Claim(id.clone(), port.port);
                reader.contribute(Key::Sockets, Item::Socket(*address, port.port), claim);
            }
            reader.contribute(Key::ClusterIpRanges, Item::Range(surroundings(*address)), ItemValue::Present);
        }
    }
    Value::ServiceFacts(Arc::new(facts))
}

fn endpoint_slice(object: &ObjectRef, facts: SliceFacts, reader: &mut MeshReader<'_>) -> Value {
    let (index, facts) = (Key::SlicesOf(facts.service.clone()), Arc::new(facts));
    reader.contribute(index, Item::Name(object.name.as_str().into()), ItemValue::Slice(Arc::clone(&facts)));
    Value::Slice(facts)
}

fn pod(facts: PodFacts, reader: &mut MeshReader<'_>) -> Value {
    reader.spawn(Key::Workload(facts.identity.clone()));
    for address in &facts.addresses {
        let identity = ItemValue::Identity(facts.identity.clone());
        reader.contribute(Key::PodsByAddress, Item::Address(*address), identity);
    }
    Value::Pod(Arc::new(facts))
}

fn service_account(object: &ObjectRef, reader: &mut MeshReader<'_>) -> Option<Value> {
    let identity = Identity::new(&object.namespace, &object.name).ok()?;
    reader.spawn(Key::Workload(identity));
    Some(Value::Present)
}

fn traffic_split(object: &ObjectRef, facts: SplitFacts, reader: &mut MeshReader<'_>) -> Value {
    let (index, facts) = (Key::SplitsOf(facts.apex.clone()), Arc::new(facts));
    let item = Item::Aged(facts.created, object.name.as_str().into());
    reader.contribute(index, item, ItemValue::Split(Arc::clone(&facts)));
    reader.spawn(Key::SplitReferences(object.clone()));
    Value::Split(facts)
}

/// Publishes the findings and passes on what is usable.
fn publish<T>(parsed: Parsed<T>, reader: &mut MeshReader<'_>) -> Option<T> {
    report(parsed.findings, reader);
    parsed.value
}

/// Only one MeshConfig counts; another is reported.
fn mesh_config(
    object: &ObjectRef,
    config: &osm_api::MeshConfig,
    options: &Options,
    reader: &mut MeshReader<'_>,
) -> Option<Value> {
    let expected = mesh_config_ref(options);
    if *object != expected {
        let id = object_id(object);
        let mut findings = osm_mesh::Report::new(id, config.metadata.generation.unwrap_or_default());
        let message = format!("only {expected} is read, this object has no effect");
        findings.warn("metadata.name", MeshConfigReason::NotInUse, message, "move its settings there and delete it");
        report(findings.into_findings(), reader);
        return None;
    }
    publish(osm_mesh::mesh_config(config), reader).map(|facts| Value::MeshConfig(Arc::new(facts)))
}

/// The range a ClusterIP is taken to come from when nobody says: wide enough that Services come and go without changing it,
/// as small as clusters' ranges commonly are.
fn surroundings(address: IpAddr) -> IpNet {
    let prefix = match address {
        IpAddr::V4(_) => 16,
        IpAddr::V6(_) => 112,
    };
    IpNet::new(address, prefix).map_or(IpNet::from(address), |range| range.trunc())
}
