//! Stages 2 to 7: who may reach what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use osm_api::{Kind, ObjectRef, TrafficSplitReason, TrafficTargetReason};
use osm_mesh::{AccessMode, Grant, Report, RuleReference, SplitFacts, SplitReferences};
use osm_model::{Identity, NamespaceName, Origin, Reachable, ServiceId, TrafficRouting};

use crate::program::{MeshReader, is_permissive, mesh_service, report, settings};
use crate::reference::object_ref;
use crate::services::is_meshed;
use crate::value::{ItemValue, ReachedService, Use, Value};
use crate::{Item, Key, LayerKey};

/// A TrafficTarget of a meshed namespace with what it refers to; entered under its destination and its sources.
pub(crate) fn grant(target: &ObjectRef, reader: &mut MeshReader<'_>) -> Option<Value> {
    let Value::Target(facts) = reader.get(&Key::Facts(target.clone()))? else { return None };
    let namespace = &facts.destination.namespace;
    if !is_meshed(namespace, reader) {
        let mut findings = Report::new(facts.origin.object.clone(), facts.origin.generation);
        findings.warn(
            "metadata.namespace",
            TrafficTargetReason::NamespaceNotInMesh,
            format!("the namespace {namespace} is not in the mesh, the object has no effect"),
            "label the namespace openservicemesh.io/monitored-by with the name of the mesh",
        );
        report(findings.into_findings(), reader);
        return Some(Value::Present);
    }
    let mut route_groups = BTreeMap::new();
    let mut tcp_routes = BTreeMap::new();
    for (_, rule) in &facts.rules {
        let (kind, name) = match rule {
            RuleReference::Http { name, .. } => (Kind::HttpRouteGroup, name),
            RuleReference::Tcp { name } => (Kind::TcpRoute, name),
        };
        match reader.get(&Key::Facts(object_ref(kind, Some(namespace.as_str()), name))) {
            Some(Value::RouteGroup(group)) => drop(route_groups.insert(Arc::clone(name), Arc::clone(group))),
            Some(Value::TcpRoute(route)) => drop(tcp_routes.insert(Arc::clone(name), Arc::clone(route))),
            _ => {}
        }
    }
    let (grant, findings) = osm_mesh::grant(facts, &route_groups, &tcp_routes);
    report(findings, reader);
    let grant = Arc::new(grant);
    let item = Item::Object(grant.origin.object.clone());
    for source in &grant.sources {
        let value = ItemValue::Grant(Arc::clone(&grant));
        reader.contribute(Key::GrantsFrom(source.clone()), item.clone(), value);
    }
    reader.contribute(Key::GrantsTo(grant.destination.clone()), item, ItemValue::Grant(grant));
    Some(Value::Present)
}

/// A workload identity of a meshed namespace: everything its proxies are told starts here.
pub(crate) fn workload(identity: &Identity, reader: &mut MeshReader<'_>) -> Option<Value> {
    if !is_meshed(&identity.namespace, reader) {
        return None;
    }
    reader.contribute(Key::Workloads, Item::Identity(identity.clone()), ItemValue::Present);
    reader.spawn(Key::Permissive(identity.namespace.clone()));
    reader.spawn(Key::Reach(identity.clone()));
    reader.spawn(Key::Inbound(identity.clone()));
    reader.spawn(Key::InboundResources(identity.clone()));
    reader.spawn(Key::DeliverWorkload(identity.clone()));
    Some(Value::Present)
}

/// Whether the services of a namespace are open to every workload.
pub(crate) fn permissive(namespace: &NamespaceName, reader: &mut MeshReader<'_>) -> Option<Value> {
    let key = Key::Facts(object_ref(Kind::Namespace, None, namespace.as_str()));
    let Value::Namespace(facts) = reader.get(&key)? else { return None };
    let permissive = match facts.access {
        AccessMode::Permissive => true,
        AccessMode::ByPolicy => false,
        AccessMode::MeshDefault => settings(reader)?.permissive,
    };
    Some(Value::Flag(permissive))
}

/// How traffic to a Service is routed: the oldest split of it counts, the others are reported.
pub(crate) fn routing(apex: &ServiceId, reader: &mut MeshReader<'_>) -> Option<Value> {
    let service = mesh_service(apex, reader)?;
    let splits = splits_of(apex, reader);
    let mut routes = BTreeMap::new();
    if let Some(chosen) = splits.first() {
        for other in &splits[1..] {
            let mut findings = Report::new(other.origin.object.clone(), other.origin.generation);
            findings.refuse(
                "spec.service",
                TrafficSplitReason::Conflict,
                format!("{apex} is already split by {}, which is older", chosen.origin.object),
                "keep one TrafficSplit for each apex Service",
            );
            report(findings.into_findings(), reader);
        }
        let references = split_references(chosen, reader);
        let (chosen_routes, findings) = osm_mesh::routing(chosen, service, &references);
        report(findings, reader);
        for backend in backends(&chosen_routes) {
            reader.contribute(Key::ApexesOf(backend.clone()), Item::Service(apex.clone()), ItemValue::Present);
        }
        routes = chosen_routes;
    }
    Some(Value::Routing(Arc::new(routes)))
}

fn splits_of<'a>(apex: &ServiceId, reader: &mut MeshReader<'a>) -> Vec<&'a Arc<SplitFacts>> {
    let splits = reader.get_items(&Key::SplitsOf(apex.clone())).values();
    splits.filter_map(|value| if let ItemValue::Split(split) = value { Some(split) } else { None }).collect()
}

fn split_references<'a>(split: &SplitFacts, reader: &mut MeshReader<'a>) -> SplitReferences<'a> {
    let mut references = SplitReferences::default();
    for (_, name) in &split.matches {
        let group = object_ref(Kind::HttpRouteGroup, Some(split.apex.namespace.as_str()), name);
        if let Some(Value::RouteGroup(group)) = reader.get(&Key::Facts(group)) {
            references.route_groups.insert(Arc::clone(name), group);
        }
    }
    let mut open: Vec<ServiceId> = Vec::new();
    for (_, backend, _) in &split.backends {
        if let Some(service) = mesh_service(backend, reader) {
            references.services.insert(backend.clone(), service);
        }
        open.push(backend.clone());
    }
    while let Some(service) = open.pop() {
        if service == split.apex || references.other_splits.contains_key(&service) {
            continue;
        }
        if let Some(other) = splits_of(&service, reader).first().copied() {
            open.extend(other.backends.iter().map(|(_, backend, _)| backend.clone()));
            references.other_splits.insert(service, other);
        }
    }
    references
}

/// The backends that routes lead to.
pub(crate) fn backends(routes: &BTreeMap<u16, TrafficRouting>) -> BTreeSet<&ServiceId> {
    let rules = routes.values().flat_map(|routing| match routing {
        TrafficRouting::Direct => &[][..],
        TrafficRouting::Split(rules) => rules,
    });
    rules.flat_map(|rule| rule.backends.iter().map(|backend| &backend.service)).collect()
}

/// Opens a Service of a permissive namespace to every workload.
pub(crate) fn exposure(id: &ServiceId, reader: &mut MeshReader<'_>) -> Option<Value> {
    mesh_service(id, reader)?;
    // A namespace without workloads has services all the same.
    if !is_permissive(&id.namespace, reader) {
        return None;
    }
    reader.contribute(Key::PermissiveServices, Item::Service(id.clone()), ItemValue::Present);
    spawn_destination(LayerKey::Mesh, id, &Reachable::All, reader);
    Some(Value::Present)
}

/// Asks for everything a layer needs to reach a Service.
fn spawn_destination(layer: LayerKey, id: &ServiceId, reachable: &Reachable, reader: &mut MeshReader<'_>) {
    let Some(service) = mesh_service(id, reader) else { return };
    for port in &service.ports {
        let port = port.port;
        reader.spawn(Key::Clusters(id.clone(), port, reachable.clone()));
        reader.spawn(Key::EndpointResource(id.clone(), port, reachable.clone()));
        reader.spawn(Key::ExactListener(id.clone(), port, reachable.clone()));
        reader.spawn(Key::Scopes(id.clone(), port));
        reader.spawn(Key::RouteTable(id.clone(), port));
    }
    reader.spawn(Key::Deliver(layer, id.clone(), reachable.clone()));
}

/// Whether any Service is open to every workload: one answer for all, so that opening the second costs nobody anything.
pub(crate) fn any_permissive(reader: &mut MeshReader<'_>) -> Option<Value> {
    Some(Value::Flag(!reader.get_items(&Key::PermissiveServices).is_empty()))
}

/// What a workload may reach by grants: the Services behind the identities it was granted, the apex Services whose splits
/// lead to them, and, so that nothing dangles, the other backends of those splits (which answer 503).
pub(crate) fn reach(identity: &Identity, reader: &mut MeshReader<'_>) -> Option<Value> {
    let grants = reader.get_items(&Key::GrantsFrom(identity.clone()));
    let grants: Vec<&Arc<Grant>> = grants
        .values()
        .filter_map(|value| if let ItemValue::Grant(grant) = value { Some(grant) } else { None })
        .collect();
    let allowed: BTreeSet<Identity> = grants.iter().map(|grant| grant.destination.clone()).collect();

    let mut granted: BTreeMap<ServiceId, BTreeSet<Origin>> = BTreeMap::new();
    for grant in &grants {
        for service in service_items(reader.get_items(&Key::ServicesOf(grant.destination.clone()))) {
            granted.entry(service.clone()).or_default().insert(grant.origin.clone());
        }
    }
    granted.retain(|service, _| !is_permissive(&service.namespace, reader));
    let mut addressed = granted.clone();
    for (service, origins) in &granted {
        for apex in service_items(reader.get_items(&Key::ApexesOf(service.clone()))) {
            addressed.entry(apex.clone()).or_default().extend(origins.iter().cloned());
        }
    }
    let mut named: BTreeMap<ServiceId, BTreeSet<Origin>> = BTreeMap::new();
    for (apex, origins) in &addressed {
        if let Some(Value::Routing(routes)) = reader.get(&Key::Routing(apex.clone())) {
            for backend in backends(routes).into_iter().filter(|backend| !addressed.contains_key(backend)) {
                named.entry(backend.clone()).or_default().extend(origins.iter().cloned());
            }
        }
    }
    let addressed = addressed.into_iter().map(|(service, origins)| (service, origins, Use::Addressed));
    let named = named.into_iter().map(|(service, origins)| (service, origins, Use::BackendOnly));
    let mut reached = BTreeMap::new();
    for (service, origins, usage) in addressed.chain(named) {
        let Some(Value::Identities(behind)) = reader.get(&Key::IdentitiesOf(service.clone())) else { continue };
        let reachable = Reachable::of(&allowed, behind);
        spawn_destination(LayerKey::Workload(identity.clone()), &service, &reachable, reader);
        let because = origins.into_iter().collect();
        reached.insert(service, ReachedService { reachable, usage, because });
    }
    Some(Value::Reach(Arc::new(reached)))
}

fn service_items(items: &OrdMap<Item, ItemValue>) -> impl Iterator<Item = &ServiceId> {
    items.keys().filter_map(|item| if let Item::Service(service) = item { Some(service) } else { None })
}
