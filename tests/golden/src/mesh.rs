//! The mesh that follows from objects, as the proxies of each workload see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use osm_api::Object;
use osm_engine::{Delivery, LayerEntry, LayerKey, MeshEngine, Options};
use osm_model::Identity;
use osm_translate::{ResourceKind, naming};
use osm_xds::{Layer, Snapshot, TypeUrl};

/// Secrets that a control plane adds to what follows from the objects.
pub const ENVOY_SECRETS: [&str; 2] = [naming::SERVICE_CERTIFICATE_SECRET, naming::TRUST_BUNDLE_SECRET];

/// A computed mesh.
#[derive(Debug)]
pub struct Mesh {
    /// The computation.
    pub engine: MeshEngine,
}

impl Mesh {
    /// Computes the mesh of `objects` from scratch.
    pub fn new(options: Options, objects: impl IntoIterator<Item = Object>) -> Self {
        let mut engine = MeshEngine::new(options);
        engine.update(objects.into_iter().map(|object| (object.reference(), Some(object))));
        Self { engine }
    }

    /// What the proxies of `workload` hold: the layer of the mesh, and above it their own.
    pub fn resources(&self, workload: &Identity) -> BTreeMap<(ResourceKind, Arc<str>), &LayerEntry> {
        let layers = [LayerKey::Mesh, LayerKey::Workload(workload.clone())];
        let entries = layers.iter().flat_map(|layer| self.engine.layer(layer));
        entries.map(|entry| ((entry.resource.kind, Arc::clone(&entry.resource.name)), entry)).collect()
    }

    /// The same as the protocol's library holds it.
    ///
    /// # Errors
    /// A resource whose bytes are not what its type says.
    pub fn snapshot(&self, workload: &Identity) -> Result<Snapshot> {
        let layers = [LayerKey::Mesh, LayerKey::Workload(workload.clone())];
        let mut encoded = Vec::new();
        for key in layers {
            let mut layer = Layer::new();
            for entry in self.engine.layer(&key) {
                let resource = &entry.resource;
                let type_url = TypeUrl::parse(resource.kind.type_url());
                let resource = osm_xds::Resource::from_any(type_url, Arc::clone(&resource.name), &resource.body)
                    .with_context(|| format!("{resource:?}"))?;
                let delivery = match entry.delivery {
                    Delivery::Ahead => osm_xds::Delivery::Wildcard,
                    Delivery::OnDemand => osm_xds::Delivery::Named,
                };
                layer.insert(Arc::new(resource), delivery);
            }
            encoded.push(layer);
        }
        Ok(Snapshot::new(encoded))
    }

    /// What is wrong with the snapshot of `workload` whatever the objects say: references to what is not there, and two
    /// listeners on one address.
    ///
    /// # Errors
    /// As [`Mesh::snapshot`].
    pub fn faults(&self, workload: &Identity) -> Result<Vec<String>> {
        let dangling = self.snapshot(workload)?.dangling();
        let is_added = |type_url: &TypeUrl, name: &str| *type_url == TypeUrl::Secret && ENVOY_SECRETS.contains(&name);
        let mut faults: Vec<String> = dangling
            .iter()
            .filter(|reference| !is_added(&reference.type_url, &reference.name))
            .map(|reference| format!("{workload}: dangling {reference:?}"))
            .collect();
        let mut taken: BTreeMap<String, Arc<str>> = BTreeMap::new();
        for ((kind, name), entry) in self.resources(workload) {
            if kind != ResourceKind::Listener {
                continue;
            }
            let listener = osm_xds_json::to_json(kind.type_url(), &entry.resource.body)?;
            for address in addresses(&listener) {
                if let Some(other) = taken.insert(address.clone(), Arc::clone(&name)) {
                    faults.push(format!("{workload}: the listeners {other} and {name} are both on {address}"));
                }
            }
        }
        Ok(faults)
    }

    /// The workloads of the mesh.
    pub fn workloads(&self) -> BTreeSet<Identity> {
        self.engine.workloads().cloned().collect()
    }
}

/// Every `address:port` of a listener.
fn addresses(listener: &serde_json::Value) -> Vec<String> {
    let first = [&listener["address"]].into_iter();
    let more = listener["additionalAddresses"].as_array().into_iter().flatten().map(|address| &address["address"]);
    let sockets = first.chain(more).map(|address| &address["socketAddress"]);
    sockets.map(|socket| format!("{} port {}", socket["address"], socket["portValue"])).collect()
}
