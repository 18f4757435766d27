//! Stages 6 and 7: what a workload serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use osm_mesh::Grant;
use osm_model::{
    HttpRule, Identity, InboundPolicy, InboundPort, InboundView, ObjectId, Origin, Protocol, ServiceId, TcpRule,
};

use crate::program::{MeshReader, is_permissive, mesh_service, settings};
use crate::value::{ItemValue, Value};
use crate::{Item, Key};

/// What leads to one port of a workload's pods.
struct Served {
    protocol: Protocol,
    services: BTreeSet<(ServiceId, u16)>,
}

/// Ports of the identity's pods, and what each accepts.
pub(crate) fn view(identity: &Identity, reader: &mut MeshReader<'_>) -> Option<Value> {
    let mut served: BTreeMap<u16, Served> = BTreeMap::new();
    for (item, value) in reader.get_items(&Key::ServicesOf(identity.clone())) {
        let (Item::Service(id), ItemValue::Ports(ports)) = (item, value) else { continue };
        let Some(service) = mesh_service(id, reader) else { continue };
        for port in &service.ports {
            for target in ports.get(&port.port).into_iter().flatten() {
                // Two Services may disagree on what a port speaks; the smaller protocol of the order wins everywhere.
                let entry = served
                    .entry(*target)
                    .or_insert_with(|| Served { protocol: port.protocol, services: BTreeSet::new() });
                entry.protocol = entry.protocol.min(port.protocol);
                entry.services.insert((id.clone(), port.port));
            }
        }
    }
    let permissive = is_permissive(&identity.namespace, reader);
    let held_back = held_back(identity, reader);
    let grants = grants_to(identity, reader);
    let ports = served
        .into_iter()
        .map(|(target_port, Served { protocol, services })| {
            let policy = match (permissive, protocol.is_http()) {
                (true, _) => InboundPolicy::Permissive,
                (false, true) => InboundPolicy::Http(http_rules(&grants, held_back)),
                (false, false) => InboundPolicy::Tcp(tcp_rules(&grants, held_back, target_port)),
            };
            InboundPort { target_port, protocol, services, policy }
        })
        .collect();
    Some(Value::Inbound(Arc::new(InboundView { identity: identity.clone(), ports })))
}

fn grants_to<'a>(identity: &Identity, reader: &mut MeshReader<'a>) -> Vec<&'a Arc<Grant>> {
    let grants = reader.get_items(&Key::GrantsTo(identity.clone())).values();
    grants.filter_map(|value| if let ItemValue::Grant(grant) = value { Some(grant) } else { None }).collect()
}

/// Objects that the identity's proxies refuse: what they say is left out, everything else is served.
fn held_back<'a>(identity: &Identity, reader: &mut MeshReader<'a>) -> Option<&'a BTreeSet<ObjectId>> {
    match reader.get(&Key::HeldBack(identity.clone()))? {
        Value::HeldBack(objects) => Some(objects),
        _ => None,
    }
}

fn is_held_back(origins: &[Origin], held_back: Option<&BTreeSet<ObjectId>>) -> bool {
    held_back.is_some_and(|objects| origins.iter().any(|origin| objects.contains(&origin.object)))
}

/// All HTTP rules in the one order of routes.
fn http_rules(grants: &[&Arc<Grant>], held_back: Option<&BTreeSet<ObjectId>>) -> Arc<[HttpRule]> {
    let rules = grants.iter().flat_map(|grant| grant.http.iter());
    let mut rules: Vec<HttpRule> = rules.filter(|rule| !is_held_back(&rule.origins, held_back)).cloned().collect();
    rules.sort();
    rules.dedup();
    rules.into()
}

/// Rules that open a TCP port: those that name it (HTTP rules open none).
fn tcp_rules(grants: &[&Arc<Grant>], held_back: Option<&BTreeSet<ObjectId>>, port: u16) -> Arc<[TcpRule]> {
    let mut rules = Vec::new();
    for grant in grants {
        let open = grant.tcp.iter().filter(|tcp| tcp.ports.contains(port) && !is_held_back(&tcp.origins, held_back));
        rules.extend(open.map(|tcp| TcpRule { principals: grant.sources.clone(), origins: tcp.origins.clone() }));
    }
    rules.sort();
    rules.into()
}

/// The Envoy resources of what a workload serves.
pub(crate) fn resources(identity: &Identity, reader: &mut MeshReader<'_>) -> Option<Value> {
    let Value::Inbound(view) = reader.get(&Key::Inbound(identity.clone()))? else { return None };
    let resources = osm_translate::inbound(view, settings(reader)?);
    Some(Value::Resources(resources.into_iter().map(Arc::new).collect()))
}
