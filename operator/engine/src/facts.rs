//! Stage 1: one object, read on its own, and entered into the indexes that others look it up by.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use osm_api::{Object, ObjectRef};
use osm_mesh::Parsed;
use osm_model::Identity;

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
        Object::Namespace(namespace) => {
            publish(osm_mesh::namespace(namespace, &options.mesh_name), reader).map(Value::Namespace)
        }
        Object::Service(service) => {
            let facts = publish(osm_mesh::service(service), reader).map(Arc::new);
            facts.map(|facts| {
                reader.spawn(Key::Service(facts.id.clone()));
                reader.spawn(Key::Endpoints(facts.id.clone()));
                reader.spawn(Key::IdentitiesOf(facts.id.clone()));
                reader.spawn(Key::Routing(facts.id.clone()));
                reader.spawn(Key::Permissive(facts.id.namespace.clone()));
                reader.spawn(Key::Exposure(facts.id.clone()));
                reader.spawn(Key::Outside(object.clone()));
                if let osm_model::Addressing::ClusterIp(addresses) = &facts.addressing {
                    for address in addresses {
                        reader.contribute(
                            Key::ClusterIpRanges,
                            Item::Range(surroundings(*address)),
                            ItemValue::Present,
                        );
                    }
                }
                Value::ServiceFacts(facts)
            })
        }
        Object::EndpointSlice(slice) => {
            let facts = publish(osm_mesh::endpoint_slice(slice), reader).map(Arc::new);
            facts.map(|facts| {
                let name = object.name.as_str().into();
                reader.contribute(
                    Key::SlicesOf(facts.service.clone()),
                    Item::Name(name),
                    ItemValue::Slice(Arc::clone(&facts)),
                );
                Value::Slice(facts)
            })
        }
        Object::Pod(pod) => {
            let facts = publish(osm_mesh::pod(pod), reader).map(Arc::new);
            facts.map(|facts| {
                reader.spawn(Key::Workload(facts.identity.clone()));
                for address in &facts.addresses {
                    let identity = ItemValue::Identity(facts.identity.clone());
                    reader.contribute(Key::PodsByAddress, Item::Address(*address), identity);
                }
                Value::Pod(facts)
            })
        }
        Object::ServiceAccount(_) => {
            let identity = Identity::new(&object.namespace, &object.name);
            identity.ok().map(|identity| {
                reader.spawn(Key::Workload(identity));
                Value::Present
            })
        }
        Object::MeshConfig(config) => mesh_config(object, config, options, reader),
        Object::TrafficTarget(target) => publish(osm_mesh::traffic_target(target), reader).map(|facts| {
            reader.spawn(Key::Grant(object.clone()));
            Value::Target(Arc::new(facts))
        }),
        Object::HttpRouteGroup(group) => {
            publish(osm_mesh::http_route_group(group), reader).map(|facts| Value::RouteGroup(Arc::new(facts)))
        }
        Object::TcpRoute(route) => {
            publish(osm_mesh::tcp_route(route), reader).map(|facts| Value::TcpRoute(Arc::new(facts)))
        }
        Object::TrafficSplit(split) => {
            let facts = publish(osm_mesh::traffic_split(split), reader).map(Arc::new);
            facts.map(|facts| {
                let item = Item::Aged(facts.created, object.name.as_str().into());
                reader.contribute(Key::SplitsOf(facts.apex.clone()), item, ItemValue::Split(Arc::clone(&facts)));
                Value::Split(facts)
            })
        }
        _ => None,
    };
    Some(value.unwrap_or(Value::Present))
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
        findings.warn("metadata.name", "NotTheMeshConfig", message, "move its settings there and delete it");
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
