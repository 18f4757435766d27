//! Containment of refusals: the object to blame is held back for the workload that refuses it, everything else goes out.
//!
//! A resource that only the blamed objects made is held back as it is: the proxy keeps what it had. A resource that others
//! made too (the route table of a port that several TrafficTargets open) is made again without the blamed objects. Both end
//! by themselves when an object to blame changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use osm_model::{Identity, ObjectId};
use osm_xds::{ProxyName, Rejection};
use serde_json::Value;

use super::Driver;

/// Objects that are left out of what a workload serves. Those that were blamed together are kept together: which of them it
/// was is not known.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    by_workload: BTreeMap<Identity, Vec<BTreeSet<ObjectId>>>,
}

/// What is let go.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// The objects.
    pub(super) objects: BTreeSet<ObjectId>,
    /// The workloads concerned, with what is still held back.
    pub(super) workloads: Vec<(Identity, BTreeSet<ObjectId>)>,
}

impl HeldBack {
    /// Objects left out of what a workload serves.
    pub(super) fn of(&self, workload: &Identity) -> impl Iterator<Item = &ObjectId> {
        self.by_workload.get(workload).into_iter().flatten().flatten()
    }

    /// Lets go of objects that changed, and of those that were blamed together with them.
    pub(super) fn release(&mut self, changed: &BTreeSet<ObjectId>) -> Released {
        let mut released = Released::default();
        for (workload, blamed) in &mut self.by_workload {
            let go: Vec<BTreeSet<ObjectId>> = blamed.extract_if(.., |objects| !objects.is_disjoint(changed)).collect();
            if !go.is_empty() {
                released.objects.extend(go.into_iter().flatten());
                released.workloads.push((workload.clone(), blamed.iter().flatten().cloned().collect()));
            }
        }
        self.by_workload.retain(|_, blamed| !blamed.is_empty());
        released
    }
}

impl Driver {
    pub(super) fn contain(&mut self, proxy: &ProxyName, rejection: &Rejection, now: Instant) {
        let Some(workload) = self.streams.get(proxy).map(|streams| streams.workload.clone()) else { return };
        let words: Arc<str> = rejection.message.as_str().into();
        for name in suspects(rejection) {
            let Some(version) = rejection.resources.get(&name) else { continue };
            let resource = (rejection.type_url.clone(), Arc::clone(&name), *version);
            let quoted = self.quoted(&self.progress.makers(&workload, &rejection.type_url, &name), &words);
            let blame = self.progress.refuse(proxy, &workload, resource, Arc::clone(&words), &quoted);
            tracing::warn!(%proxy, resource = %name, objects = ?blame.objects, "held back until it changes");
            self.reports.concern(blame.objects.iter().cloned());
            if blame.shared {
                self.leave_out(&workload, &blame.objects, &name, &words, now);
            } else {
                self.cache.hold_back(proxy, &rejection.type_url, name, *version);
            }
        }
    }

    /// Those of `objects` that a proxy's words quote, as Envoy does with an expression that it refuses: the ones that hold
    /// the longest text of the words.
    fn quoted(&self, objects: &BTreeSet<ObjectId>, words: &str) -> BTreeSet<ObjectId> {
        let mut longest = SHORTEST_QUOTE;
        let mut quoted = BTreeSet::new();
        for (name, object) in self.engine.objects() {
            let id = osm_engine::object_id(name);
            if !objects.contains(&id) {
                continue;
            }
            let length = object.to_value().map_or(0, |value| longest_quote(&value["spec"], words));
            if length > longest {
                (longest, quoted) = (length, BTreeSet::new());
            }
            if length == longest {
                quoted.insert(id);
            }
        }
        quoted
    }

    /// Makes what a workload serves again, without these objects.
    fn leave_out(
        &mut self,
        workload: &Identity,
        objects: &BTreeSet<ObjectId>,
        resource: &Arc<str>,
        words: &Arc<str>,
        now: Instant,
    ) {
        self.held_back.by_workload.entry(workload.clone()).or_default().push(objects.clone());
        let held = self.held_back.of(workload).cloned().collect();
        for object in objects {
            self.progress.hold_back(workload, object, Arc::clone(resource), Arc::clone(words));
        }
        let changes = self.engine.update_held_back([], [(workload.clone(), held)]);
        self.publish(&changes, now);
    }
}

/// Shorter texts (a method, a short name) are in words by chance.
const SHORTEST_QUOTE: usize = 4;

/// The length of the longest text in `value` that `words` hold.
fn longest_quote(value: &Value, words: &str) -> usize {
    match value {
        Value::String(text) if words.contains(text.as_str()) => text.len(),
        Value::Array(values) => values.iter().map(|value| longest_quote(value, words)).max().unwrap_or(0),
        Value::Object(fields) => fields.values().map(|value| longest_quote(value, words)).max().unwrap_or(0),
        _ => 0,
    }
}

/// Resources of a refused response that can be to blame: those the proxy names, else the only one. Several unnamed ones are
/// sent again one at a time by the server, and the one to blame is then refused on its own.
fn suspects(rejection: &Rejection) -> Vec<Arc<str>> {
    match (rejection.mentioned.is_empty(), rejection.resources.len()) {
        (false, _) => rejection.mentioned.clone(),
        (true, 1) => rejection.resources.keys().cloned().collect(),
        (true, _) => Vec::new(),
    }
}
