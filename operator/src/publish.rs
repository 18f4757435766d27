//! From the engine's layers to snapshots that streams serve: each resource is encoded once, and a proxy's snapshot is a
//! set of references to shared layers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use osm_engine::{Delivery, LayerEntry, LayerKey, MeshChanges};
use osm_model::Identity;
use osm_translate::{ResourceKind, SecretResource};
use osm_xds::{Cache, Layer, Publication, Snapshot, SnapshotKey, TypeUrl};

/// The snapshot key of a workload identity.
pub fn snapshot_key(identity: &Identity) -> SnapshotKey {
    SnapshotKey::new(identity.to_string())
}

/// The xDS type of a kind of resource.
pub fn type_url(kind: ResourceKind) -> TypeUrl {
    TypeUrl::parse(kind.type_url())
}

/// Layers that belong to one workload identity.
#[derive(Debug, Default)]
struct WorkloadLayers {
    /// What it serves and was granted.
    own: Layer,
    /// Its service certificate.
    certificate: Layer,
}

/// Keeps every snapshot current. State only: what is published goes into the [`Cache`] it was made with.
#[derive(Debug)]
pub struct Publisher {
    cache: Cache,
    mesh: Layer,
    trust: Layer,
    workloads: BTreeMap<Identity, WorkloadLayers>,
    encoder: Encoder,
    dirty: Dirty,
}

/// Whose snapshots must be published again.
#[derive(Debug, Default)]
struct Dirty {
    everyone: bool,
    workloads: BTreeSet<Identity>,
    gone: BTreeSet<Identity>,
}

impl Publisher {
    /// Publishes into `cache`.
    pub fn new(cache: Cache) -> Self {
        Self {
            cache,
            mesh: Layer::new(),
            trust: Layer::new(),
            workloads: BTreeMap::new(),
            encoder: Encoder::default(),
            dirty: Dirty::default(),
        }
    }

    /// Takes over what an update of the mesh changed. Nothing is visible before [`Publisher::publish`].
    pub fn apply(&mut self, changes: &MeshChanges) {
        for (identity, exists) in &changes.workloads {
            if *exists {
                self.workloads.entry(identity.clone()).or_default();
                self.dirty.workloads.insert(identity.clone());
            } else {
                self.workloads.remove(identity);
                self.dirty.gone.insert(identity.clone());
            }
        }
        for change in &changes.resources {
            let layer = match &change.layer {
                LayerKey::Mesh => {
                    self.dirty.everyone = true;
                    &mut self.mesh
                }
                LayerKey::Workload(identity) => match self.workloads.get_mut(identity) {
                    Some(layers) => {
                        self.dirty.workloads.insert(identity.clone());
                        &mut layers.own
                    }
                    // Its layer empties as it goes.
                    None => continue,
                },
            };
            match &change.entry {
                Some(entry) => self.encoder.insert(entry, layer),
                None => drop(layer.remove(&type_url(change.kind), &change.name)),
            }
        }
    }

    /// Gives every proxy the roots it trusts.
    pub fn set_trust_bundle(&mut self, bundle: &SecretResource) {
        insert_secret(bundle, &mut self.trust);
        self.dirty.everyone = true;
    }

    /// Gives the proxies of a workload their certificate.
    pub fn set_certificate(&mut self, identity: &Identity, certificate: &SecretResource) {
        if let Some(layers) = self.workloads.get_mut(identity) {
            insert_secret(certificate, &mut layers.certificate);
            self.dirty.workloads.insert(identity.clone());
        }
    }

    /// Makes all that was taken over visible, as one change.
    pub fn publish(&mut self) -> Publication {
        let Dirty { everyone, workloads, gone } = std::mem::take(&mut self.dirty);
        let identities: Vec<&Identity> = match everyone {
            true => self.workloads.keys().collect(),
            false => workloads.iter().collect(),
        };
        let current = identities.into_iter().filter_map(|identity| {
            let layers = self.workloads.get(identity)?;
            let snapshot = [self.mesh.clone(), self.trust.clone(), layers.own.clone(), layers.certificate.clone()];
            Some((snapshot_key(identity), Some(Arc::new(Snapshot::new(snapshot)))))
        });
        let gone = gone.iter().filter(|identity| !self.workloads.contains_key(identity));
        self.cache.publish(current.chain(gone.map(|identity| (snapshot_key(identity), None))))
    }
}

fn insert_secret(secret: &SecretResource, layer: &mut Layer) {
    let resource = osm_xds::Resource::from_any(TypeUrl::Secret, Arc::clone(secret.name()), secret.expose_body());
    match resource {
        Ok(resource) => drop(layer.insert(Arc::new(resource), osm_xds::Delivery::Named)),
        Err(error) => tracing::error!(%error, name = %secret.name(), "a secret cannot be encoded and is left out"),
    }
}

/// Encodes each resource once, however many layers hold it.
#[derive(Debug, Default)]
struct Encoder {
    /// By the address of the engine's resource, which the weak reference proves to be still the same one.
    encoded: HashMap<usize, (Weak<osm_translate::Resource>, Weak<osm_xds::Resource>)>,
    /// Size at which dead entries are swept.
    sweep_at: usize,
}

/// Below this many entries sweeping is not worth it.
const SMALLEST_SWEEP: usize = 1024;

impl Encoder {
    fn insert(&mut self, entry: &LayerEntry, layer: &mut Layer) {
        let Some(resource) = self.encode(&entry.resource) else { return };
        let delivery = match entry.delivery {
            Delivery::Ahead => osm_xds::Delivery::Wildcard,
            Delivery::OnDemand => osm_xds::Delivery::Named,
        };
        layer.insert(resource, delivery);
    }

    fn encode(&mut self, resource: &Arc<osm_translate::Resource>) -> Option<Arc<osm_xds::Resource>> {
        let address = Arc::as_ptr(resource).addr();
        if let Some((source, encoded)) = self.encoded.get(&address)
            && source.ptr_eq(&Arc::downgrade(resource))
            && let Some(encoded) = encoded.upgrade()
        {
            return Some(encoded);
        }
        let encoded = osm_xds::Resource::from_any(type_url(resource.kind), Arc::clone(&resource.name), &resource.body);
        match encoded.map(Arc::new) {
            Ok(encoded) => {
                self.encoded.insert(address, (Arc::downgrade(resource), Arc::downgrade(&encoded)));
                self.sweep();
                Some(encoded)
            }
            Err(error) => {
                tracing::error!(%error, name = %resource.name, "a resource cannot be encoded and is left out");
                None
            }
        }
    }

    fn sweep(&mut self) {
        if self.encoded.len() > self.sweep_at.max(SMALLEST_SWEEP) {
            self.encoded.retain(|_, (_, encoded)| encoded.strong_count() > 0);
            self.sweep_at = self.encoded.len() * 2;
        }
    }
}
