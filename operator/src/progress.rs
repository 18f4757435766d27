//! How far each object has come among the proxies it concerns. State without I/O: `now` is an argument.
//!
//! Objects are tied to resources by attribution: a place in a layer (type and name) remembers which objects made what is
//! there. When a place changes, its objects are *on their way* with the epoch of that publication, until every proxy of
//! the place's layer has acknowledged the epoch.

mod count;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use osm_engine::{LayerEntry, LayerKey, MeshChanges};
use osm_model::{Identity, ObjectId, Origin};
use osm_translate::ResourceKind;
use osm_xds::{Epoch, ProxyName, TypeUrl, Version};

pub use self::count::{ObjectCounts, Proxies, ProxyState};
use crate::publish::type_url;
use crate::status;

/// A place in a layer.
type Place = (LayerKey, ResourceKind, Arc<str>);

/// One resource that one proxy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The version refused.
    pub version: Version,
    /// Envoy's words.
    pub message: Arc<str>,
    /// The objects to blame.
    pub objects: BTreeSet<ObjectId>,
}

/// Where an object is on its way.
#[derive(Debug)]
struct ObjectProgress {
    /// Where it has an effect.
    layers: BTreeMap<LayerKey, Footprint>,
    /// The publication that last changed any of it.
    epoch: Epoch,
    /// When the change was read.
    since: Instant,
    /// How long it took until all had acknowledged, once they have.
    took: Option<Duration>,
}

/// What an object does in one layer.
#[derive(Debug)]
struct Footprint {
    /// In how many places.
    places: usize,
    /// The publication that last changed any of them. Proxies of other layers have nothing to acknowledge about it.
    epoch: Epoch,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Progress {
    /// What is there says who made it: names of their own would take more than all the rest here.
    places: BTreeMap<Place, LayerEntry>,
    objects: BTreeMap<ObjectId, ObjectProgress>,
    /// Objects by the layers in which they have an effect.
    by_layer: BTreeMap<LayerKey, BTreeSet<ObjectId>>,
    /// Objects that not every proxy is known to have acknowledged.
    pending: BTreeSet<ObjectId>,
    refusals: BTreeMap<ProxyName, BTreeMap<(TypeUrl, Arc<str>), Refusal>>,
    /// When each proxy last acknowledged something.
    acknowledged_at: BTreeMap<ProxyName, Instant>,
    /// Objects held back from a workload: the resource they spoiled, and Envoy's words.
    held_back: BTreeMap<(ObjectId, Identity), (Arc<str>, Arc<str>)>,
}

/// Who is to blame for a refused resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// The objects.
    pub objects: BTreeSet<ObjectId>,
    /// Whether others, who are not to blame, made the resource too.
    pub shared: bool,
}

impl Progress {
    /// Takes over a publication: `changes` became visible with `epoch`; what changed was read at `since`. Gives the objects
    /// that are on their way with it.
    pub fn publish(&mut self, changes: &MeshChanges, epoch: Epoch, since: Instant) -> BTreeSet<ObjectId> {
        let mut moved = BTreeSet::new();
        for change in &changes.resources {
            let place = (change.layer.clone(), change.kind, Arc::clone(&change.name));
            let before = self.places.remove(&place).as_ref().map(origins_of).unwrap_or_default();
            let after = change.entry.as_ref().map(origins_of).unwrap_or_default();
            let (objects_before, objects_after) = (objects(&before), objects(&after));
            for object in objects_before.difference(&objects_after) {
                self.leave(object, &change.layer);
            }
            for object in objects_after.difference(&objects_before) {
                self.enter(object, &change.layer, epoch, since);
            }
            // Only whoever says something new is on its way; what others say in the same resource is in force already.
            for origin in before.symmetric_difference(&after) {
                self.set_out(&origin.object, &change.layer, epoch, since);
                moved.insert(origin.object.clone());
            }
            if let Some(entry) = &change.entry {
                self.places.insert(place, entry.clone());
            }
            self.forget_refusals(&change.layer, &type_url(change.kind), &change.name);
        }
        moved
    }

    /// An object that concerns every proxy whatever resources it changes (the MeshConfig) was read and is in force with
    /// `epoch`.
    pub fn concern_everyone(&mut self, object: &ObjectId, epoch: Epoch, since: Instant) {
        self.forget(object);
        self.enter(object, &LayerKey::Mesh, epoch, since);
        self.await_acknowledgements(object);
    }

    /// Only objects with a status are counted, and so only they ever stop being waited for.
    fn await_acknowledgements(&mut self, object: &ObjectId) {
        if status::is_counted(object) {
            self.pending.insert(object.clone());
        }
    }

    fn enter(&mut self, object: &ObjectId, layer: &LayerKey, epoch: Epoch, since: Instant) {
        let fresh = || ObjectProgress { layers: BTreeMap::new(), epoch, since, took: None };
        let progress = self.objects.entry(object.clone()).or_insert_with(fresh);
        progress.layers.entry(layer.clone()).or_insert(Footprint { places: 0, epoch }).places += 1;
        self.by_layer.entry(layer.clone()).or_default().insert(object.clone());
    }

    fn leave(&mut self, object: &ObjectId, layer: &LayerKey) {
        let Some(progress) = self.objects.get_mut(object) else { return };
        let Some(footprint) = progress.layers.get_mut(layer) else { return };
        footprint.places -= 1;
        if footprint.places == 0 {
            progress.layers.remove(layer);
            self.leave_layer(object, layer);
        }
    }

    fn leave_layer(&mut self, object: &ObjectId, layer: &LayerKey) {
        if let Some(objects) = self.by_layer.get_mut(layer) {
            objects.remove(object);
            if objects.is_empty() {
                self.by_layer.remove(layer);
            }
        }
    }

    /// The object says something new in a layer.
    fn set_out(&mut self, object: &ObjectId, layer: &LayerKey, epoch: Epoch, since: Instant) {
        let Some(progress) = self.objects.get_mut(object) else { return };
        (progress.epoch, progress.since, progress.took) = (epoch, since, None);
        if let Some(footprint) = progress.layers.get_mut(layer) {
            footprint.epoch = epoch;
        }
        self.await_acknowledgements(object);
    }

    /// Forgets an object that is gone; whatever it made is gone already.
    pub fn forget(&mut self, object: &ObjectId) {
        self.pending.remove(object);
        let Some(progress) = self.objects.remove(object) else { return };
        for layer in progress.layers.keys() {
            self.leave_layer(object, layer);
        }
    }

    /// Objects whose counts an acknowledgement by a proxy of `workload` can change.
    pub fn awaiting(&self, workload: &Identity) -> impl Iterator<Item = &ObjectId> {
        self.pending.iter().filter(move |object| self.effective_epoch(object, workload).is_some())
    }

    /// Whether an object has an effect on every proxy.
    pub fn concerns_everyone(&self, object: &ObjectId) -> bool {
        self.objects.get(object).is_some_and(|progress| progress.layers.contains_key(&LayerKey::Mesh))
    }

    /// The objects that made a resource of a workload.
    pub fn makers(&self, workload: &Identity, type_url: &TypeUrl, name: &Arc<str>) -> BTreeSet<ObjectId> {
        let layers = [LayerKey::Workload(workload.clone()), LayerKey::Mesh];
        let made_by = layers.into_iter().find_map(|layer| {
            let kind = kind_of(type_url)?;
            self.places.get(&(layer, kind, Arc::clone(name)))
        });
        made_by.map(|entry| objects(&origins_of(entry))).unwrap_or_default()
    }

    /// A proxy refused this version. Gives the objects to blame: of those that made the resource, the ones that its words
    /// quote, else the ones that changed last; an object that was there while the resource was still accepted is not to
    /// blame for what came later.
    pub fn refuse(
        &mut self,
        proxy: &ProxyName,
        workload: &Identity,
        resource: (TypeUrl, Arc<str>, Version),
        message: Arc<str>,
        quoted: &BTreeSet<ObjectId>,
    ) -> Blame {
        let (refused_type, name, version) = resource;
        let made_by = self.makers(workload, &refused_type, &name);
        let changed = |object: &ObjectId| self.objects.get(object).map_or(Epoch::default(), |progress| progress.epoch);
        let newest = made_by.iter().map(changed).max().unwrap_or_default();
        let (objects, others): (BTreeSet<ObjectId>, BTreeSet<ObjectId>) = made_by
            .into_iter()
            .partition(|object| if quoted.is_empty() { changed(object) == newest } else { quoted.contains(object) });
        let refusal = Refusal { version, message, objects: objects.clone() };
        self.refusals.entry(proxy.clone()).or_default().insert((refused_type, name), refusal);
        Blame { objects, shared: !others.is_empty() }
    }

    /// An object is held back from a workload since one of its proxies refused `resource` in the words of `message`.
    pub fn hold_back(&mut self, workload: &Identity, object: &ObjectId, resource: Arc<str>, message: Arc<str>) {
        self.held_back.insert((object.clone(), workload.clone()), (resource, message));
    }

    /// The object changed, or is gone: whether proxies accept it will show anew.
    pub fn release(&mut self, object: &ObjectId) {
        self.held_back.retain(|(held, _), _| held != object);
    }

    /// A proxy has acknowledged everything that it was sent.
    pub fn acknowledge(&mut self, proxy: &ProxyName, now: Instant) {
        self.acknowledged_at.insert(proxy.clone(), now);
    }

    /// A proxy is gone: what it refused concerns nobody any more.
    pub fn disconnect(&mut self, proxy: &ProxyName) {
        self.refusals.remove(proxy);
        self.acknowledged_at.remove(proxy);
    }

    /// What a proxy refuses at present.
    pub fn refusals_of(&self, proxy: &ProxyName) -> impl Iterator<Item = (&(TypeUrl, Arc<str>), &Refusal)> {
        self.refusals.get(proxy).into_iter().flatten()
    }

    /// A resource changed: what was said of its former version is history.
    fn forget_refusals(&mut self, layer: &LayerKey, type_url: &TypeUrl, name: &Arc<str>) {
        let key = (type_url.clone(), Arc::clone(name));
        for (proxy, refusals) in &mut self.refusals {
            let concerned = match layer {
                LayerKey::Mesh => true,
                LayerKey::Workload(identity) => is_proxy_of(proxy, identity),
            };
            if concerned {
                refusals.remove(&key);
            }
        }
        self.refusals.retain(|_, refusals| !refusals.is_empty());
    }

    /// What is held back from a workload: resource and Envoy's words.
    pub fn held_back_of(&self, workload: &Identity) -> impl Iterator<Item = &(Arc<str>, Arc<str>)> {
        self.held_back.iter().filter(move |((_, held_from), _)| held_from == workload).map(|(_, refusal)| refusal)
    }

    /// The publication that a workload's proxies run the object with; `None` if it does not concern them.
    fn effective_epoch(&self, object: &ObjectId, workload: &Identity) -> Option<Epoch> {
        let layers = &self.objects.get(object)?.layers;
        let own = LayerKey::Workload(workload.clone());
        [LayerKey::Mesh, own].iter().filter_map(|layer| Some(layers.get(layer)?.epoch)).max()
    }

    /// Objects that have an effect on the proxies of a workload beyond what concerns everyone, ordered.
    pub fn contributors(&self, workload: &Identity) -> impl ExactSizeIterator<Item = &ObjectId> {
        static NONE: BTreeSet<ObjectId> = BTreeSet::new();
        self.by_layer.get(&LayerKey::Workload(workload.clone())).unwrap_or(&NONE).iter()
    }
}

/// What made a resource and put it where it is.
fn origins_of(entry: &LayerEntry) -> BTreeSet<Origin> {
    entry.resource.origins.iter().chain(entry.because.iter()).cloned().collect()
}

fn objects(origins: &BTreeSet<Origin>) -> BTreeSet<ObjectId> {
    origins.iter().map(|origin| origin.object.clone()).collect()
}

fn is_proxy_of(proxy: &ProxyName, identity: &Identity) -> bool {
    let workload = proxy.as_str().rsplit_once('/').map(|(workload, _)| workload);
    workload.is_some_and(|workload| *workload == identity.to_string())
}

fn kind_of(type_url: &TypeUrl) -> Option<ResourceKind> {
    match type_url {
        TypeUrl::Cluster => Some(ResourceKind::Cluster),
        TypeUrl::ClusterLoadAssignment => Some(ResourceKind::Endpoints),
        TypeUrl::Listener => Some(ResourceKind::Listener),
        TypeUrl::ScopedRouteConfiguration => Some(ResourceKind::ScopedRoutes),
        TypeUrl::RouteConfiguration => Some(ResourceKind::Routes),
        _ => None,
    }
}
