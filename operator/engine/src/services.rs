//! Stages 3 and 4: settings, Services, their endpoints and the identities behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use osm_api::Kind;
use osm_mesh::{MeshConfigFacts, ServiceFacts, SliceAddress, SliceFacts};
use osm_model::{Endpoint, Identity, NamespaceName, ServiceId};

use crate::options::mesh_config_ref;
use crate::program::{MeshReader, mesh_service};
use crate::reference::object_ref;
use crate::value::{ItemValue, Value};
use crate::{Item, Key};

/// Mesh-wide settings, from the one MeshConfig that counts.
pub(crate) fn settings(reader: &mut MeshReader<'_>) -> Option<Value> {
    let Value::Options(options) = reader.get(&Key::Options)? else { return None };
    let facts: Option<&MeshConfigFacts> = match reader.get(&Key::Facts(mesh_config_ref(options))) {
        Some(Value::MeshConfig(facts)) => Some(facts),
        _ => None,
    };
    let ranges = match options.service_ranges.is_empty() {
        false => options.service_ranges.clone(),
        true => {
            let learnt = reader.get_items(&Key::ClusterIpRanges).keys();
            learnt.filter_map(|item| if let Item::Range(range) = item { Some(*range) } else { None }).collect()
        }
    };
    let (trust_domain, cluster_domain) = (options.trust_domain.clone(), Arc::clone(&options.cluster_domain));
    Some(Value::Settings(Arc::new(osm_mesh::settings(facts, trust_domain, cluster_domain, ranges))))
}

/// Whether a namespace is in the mesh.
pub(crate) fn is_meshed(namespace: &NamespaceName, reader: &mut MeshReader<'_>) -> bool {
    let key = Key::Facts(object_ref(Kind::Namespace, None, namespace.as_str()));
    matches!(reader.get(&key), Some(Value::Namespace(_)))
}

fn service_facts<'a>(id: &ServiceId, reader: &mut MeshReader<'a>) -> Option<&'a Arc<ServiceFacts>> {
    let key = Key::Facts(object_ref(Kind::Service, Some(id.namespace.as_str()), &id.name));
    match reader.get(&key)? {
        Value::ServiceFacts(facts) => Some(facts),
        _ => None,
    }
}

fn slices(id: &ServiceId, reader: &mut MeshReader<'_>) -> Vec<Arc<SliceFacts>> {
    let slices = reader.get_items(&Key::SlicesOf(id.clone())).values();
    slices
        .filter_map(|value| if let ItemValue::Slice(slice) = value { Some(Arc::clone(slice)) } else { None })
        .collect()
}

/// A Service of the mesh: of a meshed namespace, with the port numbers of its pods.
pub(crate) fn service(id: &ServiceId, reader: &mut MeshReader<'_>) -> Option<Value> {
    let facts = service_facts(id, reader)?;
    if !is_meshed(&id.namespace, reader) {
        return None;
    }
    let service = osm_mesh::mesh_service(facts, &slices(id, reader));
    for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
        reader.contribute(Key::HttpPorts, Item::Port(port.port), ItemValue::Present);
        reader.spawn(Key::HttpListener(port.port));
    }
    Some(Value::Service(Arc::new(service)))
}

/// Endpoints of a meshed Service by Service port.
pub(crate) fn endpoints(id: &ServiceId, reader: &mut MeshReader<'_>) -> Option<Value> {
    let facts = service_facts(id, reader)?;
    if !is_meshed(&id.namespace, reader) {
        return None;
    }
    let slices = slices(id, reader);
    let mut by_port = BTreeMap::new();
    for port in &facts.ports {
        let mut endpoints = Vec::new();
        for slice in &slices {
            let Some(number) = slice.ports.get(&port.name) else { continue };
            endpoints.extend(slice.endpoints.iter().map(|address| Endpoint {
                address: address.address,
                port: *number,
                readiness: address.readiness,
                identity: identity_of(id, address, reader),
            }));
        }
        endpoints.sort();
        // The same address can be in two slices for a moment; the readier state comes first in the order.
        endpoints.dedup_by_key(|endpoint| (endpoint.address, endpoint.port));
        by_port.insert(port.port, Arc::from(endpoints));
    }
    contribute_services(id, &by_port, reader);
    Some(Value::Endpoints(Arc::new(by_port)))
}

/// The identity of the pod behind an address: by reference, else by address. Both stay within the Service's namespace: a
/// pod elsewhere with the same labels or a borrowed address adds no identity to the Service.
fn identity_of(id: &ServiceId, address: &SliceAddress, reader: &mut MeshReader<'_>) -> Option<Identity> {
    if let Some(pod) = &address.pod {
        let key = Key::Facts(object_ref(Kind::Pod, Some(id.namespace.as_str()), pod));
        return match reader.get(&key) {
            Some(Value::Pod(facts)) => Some(facts.identity.clone()),
            _ => None,
        };
    }
    match reader.get_item(&Key::PodsByAddress, &Item::Address(address.address)) {
        Some(ItemValue::Identity(identity)) if identity.namespace == id.namespace => Some(identity.clone()),
        _ => None,
    }
}

/// Tells each identity that it serves this Service, and on which of its own ports. A change of addresses alone changes
/// nothing here, so it does not reach the servers' own configuration.
fn contribute_services(id: &ServiceId, by_port: &BTreeMap<u16, Arc<[Endpoint]>>, reader: &mut MeshReader<'_>) {
    let mut by_identity: BTreeMap<&Identity, BTreeMap<u16, BTreeSet<u16>>> = BTreeMap::new();
    for (port, endpoints) in by_port {
        for endpoint in endpoints.iter() {
            if let Some(identity) = &endpoint.identity {
                by_identity.entry(identity).or_default().entry(*port).or_default().insert(endpoint.port);
            }
        }
    }
    for (identity, ports) in by_identity {
        reader.contribute(Key::ServicesOf(identity.clone()), Item::Service(id.clone()), ItemValue::Ports(ports));
    }
}

/// The identities behind a Service.
pub(crate) fn identities(id: &ServiceId, reader: &mut MeshReader<'_>) -> Option<Value> {
    mesh_service(id, reader)?;
    let Value::Endpoints(by_port) = reader.get(&Key::Endpoints(id.clone()))? else { return None };
    let endpoints = by_port.values().flat_map(|endpoints| endpoints.iter());
    let identities: BTreeSet<Identity> = endpoints.filter_map(|endpoint| endpoint.identity.clone()).collect();
    Some(Value::Identities(Arc::new(identities)))
}
