//! The mesh as it follows from the objects, kept up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use osm_api::{Object, ObjectRef};
use osm_incremental::{Changes, Engine, Stats, Work};
use osm_model::{Finding, Identity, InboundView, MeshSettings, ObjectId, ServiceId};
use osm_translate::ResourceKind;

use crate::program::MeshProgram;
use crate::value::{ItemValue, LayerEntry, ReachedService, Value};
use crate::{Item, Key, LayerKey, Options};

/// Holds the objects and everything that follows from them.
#[derive(Debug)]
pub struct MeshEngine {
    engine: Engine<MeshProgram>,
    /// How many findings there are: counting them anew takes a walk through everything.
    findings: usize,
}

/// What one update changed.
#[derive(Debug, Default)]
pub struct MeshChanges {
    /// Resources that appeared in a layer, changed in it, or left it (`None`), ordered.
    pub resources: Vec<ResourceChange>,
    /// Objects about which there are other findings now than before.
    pub findings: BTreeSet<ObjectId>,
    /// Workload identities that appeared (`true`) or are gone (`false`).
    pub workloads: BTreeMap<Identity, bool>,
    /// What it cost, in counts.
    pub work: Work,
}

/// One changed place in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceChange {
    /// The layer.
    pub layer: LayerKey,
    /// The type of the resource.
    pub kind: ResourceKind,
    /// The name of the resource.
    pub name: Arc<str>,
    /// What is there now.
    pub entry: Option<LayerEntry>,
}

impl MeshEngine {
    /// An empty mesh.
    pub fn new(options: Options) -> Self {
        let mut engine = Engine::new(MeshProgram);
        engine.update([(Key::Options, Some(Value::Options(Arc::new(options))))]);
        Self { engine, findings: 0 }
    }

    /// Replaces the options.
    pub fn set_options(&mut self, options: Options) -> MeshChanges {
        self.update_inputs([(Key::Options, Some(Value::Options(Arc::new(options))))])
    }

    /// Sets (`Some`) and removes (`None`) objects, as one change: nobody ever sees half of it.
    pub fn update(&mut self, objects: impl IntoIterator<Item = (ObjectRef, Option<Object>)>) -> MeshChanges {
        self.update_held_back(objects, [])
    }

    /// As [`MeshEngine::update`], and sets which objects are held back from what a workload serves.
    pub fn update_held_back(
        &mut self,
        objects: impl IntoIterator<Item = (ObjectRef, Option<Object>)>,
        held_back: impl IntoIterator<Item = (Identity, BTreeSet<ObjectId>)>,
    ) -> MeshChanges {
        let objects = objects.into_iter().map(|(name, object)| (Key::Object(name), object.map(Value::Object)));
        let held_back = held_back.into_iter().map(|(workload, objects)| {
            let objects = (!objects.is_empty()).then(|| Value::HeldBack(Arc::new(objects)));
            (Key::HeldBack(workload), objects)
        });
        self.update_inputs(objects.chain(held_back))
    }

    fn update_inputs(&mut self, inputs: impl IntoIterator<Item = (Key, Option<Value>)>) -> MeshChanges {
        let changes = self.engine.update(inputs);
        for change in changes.items.iter().filter(|change| matches!(change.index, Key::Findings(_))) {
            // A finding is a key without a value: it comes or goes, and is never another.
            match change.value {
                Some(_) => self.findings += 1,
                None => self.findings -= 1,
            }
        }
        in_terms_of_the_mesh(changes)
    }

    /// The objects the mesh is made of.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectRef, &Object)> {
        self.engine.values().filter_map(|(key, value)| match (key, value) {
            (Key::Object(name), Value::Object(object)) => Some((name, object)),
            _ => None,
        })
    }

    /// Resources of one layer, ordered by type and name.
    pub fn layer(&self, layer: &LayerKey) -> impl Iterator<Item = &LayerEntry> {
        self.engine.get_items(&Key::Layer(layer.clone())).values().filter_map(entry)
    }

    /// Workload identities, ordered.
    pub fn workloads(&self) -> impl Iterator<Item = &Identity> {
        let items = self.engine.get_items(&Key::Workloads).keys();
        items.filter_map(|item| if let Item::Identity(identity) = item { Some(identity) } else { None })
    }

    /// Findings about one object, ordered by field.
    pub fn findings_of(&self, object: &ObjectId) -> impl Iterator<Item = &Finding> {
        self.engine.get_items(&Key::Findings(object.clone())).keys().filter_map(finding)
    }

    /// How many findings there are.
    pub fn finding_count(&self) -> usize {
        self.findings
    }

    /// All findings, ordered by object. Walks through everything: for dumps.
    pub fn findings(&self) -> Vec<&Finding> {
        let indexes = self.engine.indexes().filter(|(key, _)| matches!(key, Key::Findings(_)));
        let mut findings: Vec<&Finding> = indexes.flat_map(|(_, items)| items.keys().filter_map(finding)).collect();
        findings.sort();
        findings
    }

    /// Mesh-wide settings in force.
    pub fn settings(&self) -> Option<&Arc<MeshSettings>> {
        match self.engine.get(&Key::Settings)? {
            Value::Settings(settings) => Some(settings),
            _ => None,
        }
    }

    /// What a workload serves.
    pub fn inbound(&self, identity: &Identity) -> Option<&InboundView> {
        match self.engine.get(&Key::Inbound(identity.clone()))? {
            Value::Inbound(view) => Some(view),
            _ => None,
        }
    }

    /// What a workload may reach by grants; what is open to everybody is in [`MeshEngine::permissive_services`].
    pub fn reach(&self, identity: &Identity) -> Option<&BTreeMap<ServiceId, ReachedService>> {
        match self.engine.get(&Key::Reach(identity.clone()))? {
            Value::Reach(reached) => Some(reached),
            _ => None,
        }
    }

    /// Services open to every workload.
    pub fn permissive_services(&self) -> impl Iterator<Item = &ServiceId> {
        let items = self.engine.get_items(&Key::PermissiveServices).keys();
        items.filter_map(|item| if let Item::Service(service) = item { Some(service) } else { None })
    }

    /// Sizes and total work.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }
}

fn entry(value: &ItemValue) -> Option<&LayerEntry> {
    if let ItemValue::Entry(entry) = value { Some(entry) } else { None }
}

fn finding(item: &Item) -> Option<&Finding> {
    if let Item::Finding(finding) = item { Some(finding) } else { None }
}

/// The engine's changes in the mesh's terms.
fn in_terms_of_the_mesh(changes: Changes<MeshProgram>) -> MeshChanges {
    let mut result = MeshChanges { work: changes.work, ..MeshChanges::default() };
    for change in changes.items {
        match (change.index, change.item) {
            (Key::Layer(layer), Item::Resource(kind, name)) => {
                let entry = change.value.as_ref().and_then(entry).cloned();
                result.resources.push(ResourceChange { layer, kind, name, entry });
            }
            (Key::Findings(object), _) => {
                result.findings.insert(object);
            }
            (Key::Workloads, Item::Identity(identity)) => {
                result.workloads.insert(identity, change.value.is_some());
            }
            _ => {}
        }
    }
    result
}
