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

use super::Driver;

/// Objects that are left out of what a workload serves.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    by_workload: BTreeMap<Identity, BTreeSet<ObjectId>>,
}

impl HeldBack {
    /// Objects left out of what a workload serves.
    pub(super) fn of(&self, workload: &Identity) -> impl Iterator<Item = &ObjectId> {
        self.by_workload.get(workload).into_iter().flatten()
    }

    /// Lets go of objects that changed. Gives the workloads concerned with what is still held back.
    pub(super) fn release(&mut self, changed: &BTreeSet<ObjectId>) -> Vec<(Identity, BTreeSet<ObjectId>)> {
        let mut concerned = Vec::new();
        for (workload, objects) in &mut self.by_workload {
            let before = objects.len();
            objects.retain(|object| !changed.contains(object));
            if objects.len() < before {
                concerned.push((workload.clone(), objects.clone()));
            }
        }
        self.by_workload.retain(|_, objects| !objects.is_empty());
        concerned
    }
}

impl Driver {
    pub(super) fn contain(&mut self, proxy: &ProxyName, rejection: &Rejection, now: Instant) {
        let Some(workload) = self.streams.get(proxy).map(|streams| streams.workload.clone()) else { return };
        let words: Arc<str> = rejection.message.as_str().into();
        for name in suspects(rejection) {
            let Some(version) = rejection.resources.get(&name) else { continue };
            let resource = (rejection.type_url.clone(), Arc::clone(&name), *version);
            let blame = self.progress.refuse(proxy, &workload, resource, Arc::clone(&words));
            tracing::warn!(%proxy, resource = %name, objects = ?blame.objects, "held back until it changes");
            self.reports.concern(blame.objects.iter().cloned());
            if blame.shared {
                self.leave_out(&workload, &blame.objects, &name, &words, now);
            } else {
                self.cache.hold_back(proxy, &rejection.type_url, name, *version);
            }
        }
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
        let held = self.held_back.by_workload.entry(workload.clone()).or_default();
        held.extend(objects.iter().cloned());
        let held = held.clone();
        for object in objects {
            self.progress.hold_back(workload, object, Arc::clone(resource), Arc::clone(words));
        }
        let changes = self.engine.update_held_back([], [(workload.clone(), held)]);
        self.publish(&changes, now);
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
