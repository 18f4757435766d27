//! Stage 8: which layer holds which resources, and how they reach a proxy.

use std::net::IpAddr;
use std::sync::Arc;

use osm_api::ObjectRef;
use osm_model::{Addressing, Egress, Identity, Origin, Protocol, Reachable, ServiceId, TrafficRouting};
use osm_translate::Resource;

use crate::program::{MeshReader, mesh_service, settings};
use crate::services::is_meshed;
use crate::sockets::is_owner;
use crate::value::{Delivery, DestinationClusters, ItemValue, LayerEntry, Use, Value};
use crate::{Item, Key, LayerKey};

/// Puts resources into one layer.
struct Shelf<'r, 'a> {
    reader: &'r mut MeshReader<'a>,
    layer: LayerKey,
    because: Arc<[Origin]>,
}

impl Shelf<'_, '_> {
    fn put(&mut self, resource: &Arc<Resource>, delivery: Delivery) {
        let item = Item::Resource(resource.kind, Arc::clone(&resource.name));
        let entry = LayerEntry { resource: Arc::clone(resource), delivery, because: Arc::clone(&self.because) };
        self.reader.contribute(Key::Layer(self.layer.clone()), item, ItemValue::Entry(entry));
    }

    /// Resources of a node, if it has any.
    fn put_all(&mut self, key: &Key, delivery: Delivery) {
        if let Some(Value::Resources(resources)) = self.reader.get(key) {
            for resource in resources.iter() {
                self.put(resource, delivery);
            }
        }
    }
}

impl Shelf<'_, '_> {
    /// Clusters that traffic to the destination itself uses. Few destinations are sent ahead of use; of many, only those a
    /// route table names.
    fn put_own_clusters(&mut self, clusters: &DestinationClusters, protocol: Protocol, routing: &TrafficRouting) {
        let unnamed = if self.layer == LayerKey::Mesh { Delivery::OnDemand } else { Delivery::Ahead };
        match (&clusters.by_original_destination, routing) {
            (Some(headless), _) => self.put(headless, Delivery::Ahead),
            (None, TrafficRouting::Direct) if protocol.is_http() => {
                for cluster in &clusters.by_address {
                    self.put(cluster, unnamed);
                }
            }
            (None, TrafficRouting::Direct) => self.put(&clusters.by_name, unnamed),
            (None, TrafficRouting::Split(_)) => self.put(&clusters.by_name, Delivery::Ahead),
        }
    }
}

/// Puts what a client needs to reach one Service into a layer.
pub(crate) fn deliver(
    layer: &LayerKey,
    id: &ServiceId,
    reachable: &Reachable,
    reader: &mut MeshReader<'_>,
) -> Option<Value> {
    let (usage, because) = match layer {
        LayerKey::Mesh => (Use::Addressed, Arc::from([])),
        LayerKey::Workload(identity) => match reader.get(&Key::Reach(identity.clone()))? {
            Value::Reach(reached) => reached.get(id).map(|service| (service.usage, Arc::clone(&service.because)))?,
            _ => return None,
        },
    };
    let service = mesh_service(id, reader)?;
    let Some(Value::Routing(routes)) = reader.get(&Key::Routing(id.clone())) else { return None };
    let is_backend = !reader.get_items(&Key::ApexesOf(id.clone())).is_empty();
    let mut shelf = Shelf { reader, layer: layer.clone(), because };
    for port in &service.ports {
        let routing = routes.get(&port.port).unwrap_or(&TrafficRouting::Direct);
        let clusters_key = Key::Clusters(id.clone(), port.port, reachable.clone());
        if let Some(Value::Clusters(clusters)) = shelf.reader.get(&clusters_key) {
            if usage == Use::Addressed {
                shelf.put_own_clusters(clusters, port.protocol, routing);
            }
            if is_backend {
                // A route table names it: sent ahead, so that a changed route never waits for its cluster.
                shelf.put(&clusters.by_name, Delivery::Ahead);
            }
        }
        shelf.put_all(&Key::EndpointResource(id.clone(), port.port, reachable.clone()), Delivery::OnDemand);
        if usage == Use::Addressed {
            shelf.put_all(&Key::ExactListener(id.clone(), port.port, reachable.clone()), Delivery::Ahead);
            shelf.put_all(&Key::Scopes(id.clone(), port.port), Delivery::Ahead);
            shelf.put_all(&Key::RouteTable(id.clone(), port.port), Delivery::OnDemand);
            if port.protocol.is_http() && service.addressing != Addressing::Headless {
                shelf.put_all(&Key::HttpListener(port.port), Delivery::Ahead);
            }
        }
    }
    Some(Value::Present)
}

/// A Service outside the mesh on a port number that meshed HTTP services use: outbound HTTP listeners would answer 404 for
/// it, so it gets a way through, where egress is allowed.
pub(crate) fn outside(service: &ObjectRef, reader: &mut MeshReader<'_>) -> Option<Value> {
    let Some(Value::ServiceFacts(facts)) = reader.get(&Key::Facts(service.clone())) else { return None };
    let settings = settings(reader)?;
    if settings.egress == Egress::Refuse || is_meshed(&facts.id.namespace, reader) {
        return None;
    }
    let Addressing::ClusterIp(addresses) = &facts.addressing else { return None };
    let mut shelf = Shelf { reader, layer: LayerKey::Mesh, because: Arc::from([]) };
    for port in &facts.ports {
        if shelf.reader.get_item(&Key::HttpPorts, &Item::Port(port.port)).is_none() {
            continue;
        }
        // Scopes cost a proxy next to nothing, but only plain HTTP can pass an HTTP listener.
        if port.protocol.is_http() && !port.name.starts_with("https") && port.port != 443 {
            for scope in osm_translate::outside_scopes(&facts.id, addresses, port.port, settings) {
                shelf.put(&Arc::new(scope), Delivery::Ahead);
            }
        } else {
            let owned = addresses.iter().filter(|address| is_owner(&facts.id, **address, port.port, shelf.reader));
            let owned: Vec<IpAddr> = owned.copied().collect();
            if let Some(listener) = osm_translate::outside_listener(&facts.id, &owned, port.port, settings) {
                shelf.put(&Arc::new(listener), Delivery::Ahead);
            }
        }
    }
    Some(Value::Present)
}

/// Puts a workload's own resources into its layer: what it serves, and the outbound side if anything may be reached.
pub(crate) fn deliver_workload(identity: &Identity, reader: &mut MeshReader<'_>) -> Option<Value> {
    let egress = settings(reader)?.egress;
    let any_permissive = matches!(reader.get(&Key::AnyPermissive), Some(Value::Flag(true)));
    let reaches =
        matches!(reader.get(&Key::Reach(identity.clone())), Some(Value::Reach(reached)) if !reached.is_empty());
    let mut shelf = Shelf { reader, layer: LayerKey::Workload(identity.clone()), because: Arc::from([]) };
    shelf.put_all(&Key::TelemetryResources, Delivery::Ahead);
    shelf.put_all(&Key::InboundResources(identity.clone()), Delivery::Ahead);
    // With nothing to reach there is no outbound listener, and the kernel refuses connections (as in OSM).
    if any_permissive || reaches || egress == Egress::Allow {
        shelf.put_all(&Key::OutboundResources, Delivery::Ahead);
    }
    Some(Value::Present)
}
