//! Status documents: what is written about each object of ours and each workload, and which of it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{Condition, Kind, Object, ObjectRef, ProxySnapshot, Refusal};
use osm_model::{Finding, Identity, ObjectId};
use osm_xds::ClientStatus;
use serde_json::{Value, json};

use super::Driver;
use crate::progress::Proxies;
use crate::publish::snapshot_key;
use crate::status::{self, WorkloadCounts};

/// What is written about one object: the object without its `spec`, or a whole ProxySnapshot.
pub type StatusDocument = Value;

/// The documents as they were last written, and what may have changed since.
#[derive(Debug, Default)]
pub struct Reports {
    objects: BTreeSet<ObjectId>,
    everything: bool,
    documents: BTreeMap<ObjectRef, StatusDocument>,
}

impl Reports {
    /// Something about these objects may have changed.
    pub(super) fn concern(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        self.objects.extend(objects);
    }

    /// Proxies moved: any count may have changed.
    pub(super) fn concern_everything_published(&mut self) {
        self.everything = true;
    }

    /// Whether [`Driver::report`] has anything to look at.
    pub fn is_due(&self) -> bool {
        self.everything || !self.objects.is_empty()
    }

    /// All documents, ordered.
    pub fn documents(&self) -> impl Iterator<Item = (&ObjectRef, &StatusDocument)> {
        self.documents.iter()
    }
}

impl Driver {
    /// Whether [`Driver::report`] has anything to do.
    pub fn report_is_due(&self) -> bool {
        self.reports.is_due()
    }

    /// All status documents as of the last [`Driver::report`].
    pub fn documents(&self) -> impl Iterator<Item = (&ObjectRef, &StatusDocument)> {
        self.reports.documents()
    }

    /// Brings the documents up to date; gives those that differ, and `None` for those that are gone.
    pub fn report(
        &mut self,
        clients: &[ClientStatus],
        now: Instant,
        time: Timestamp,
    ) -> Vec<(ObjectRef, Option<StatusDocument>)> {
        let proxies = self.proxies(clients);
        let everything = std::mem::take(&mut self.reports.everything);
        let concerned = std::mem::take(&mut self.reports.objects);
        let mut wanted: BTreeMap<ObjectRef, StatusDocument> = BTreeMap::new();
        let mut gone: BTreeSet<ObjectRef> = self.reports.documents.keys().cloned().collect();
        let objects: Vec<(ObjectRef, Object)> = self
            .engine
            .objects()
            .filter(|(name, _)| status::has_status(name.kind))
            .map(|(name, object)| (name.clone(), object.clone()))
            .collect();
        for (name, object) in objects {
            gone.remove(&name);
            let id = osm_engine::object_id(&name);
            if (everything || concerned.contains(&id))
                && let Some(document) = self.object_document(&name, &object, &id, &proxies, now, time)
            {
                wanted.insert(name, document);
            }
        }
        let workloads: Vec<Identity> = self.engine.workloads().cloned().collect();
        for workload in workloads {
            let name = ObjectRef::new(Kind::ProxySnapshot, workload.namespace.as_str(), &*workload.service_account);
            gone.remove(&name);
            if everything && let Some(document) = self.workload_document(&workload, &name, &proxies, time) {
                wanted.insert(name, document);
            }
        }
        self.reports.documents.retain(|name, _| !gone.contains(name));
        self.reports.documents.extend(wanted.clone());
        let written = wanted.into_iter().map(|(name, document)| (name, Some(document)));
        written.chain(gone.into_iter().map(|name| (name, None))).collect()
    }

    fn object_document(
        &mut self,
        name: &ObjectRef,
        object: &Object,
        id: &ObjectId,
        proxies: &Proxies,
        now: Instant,
        time: Timestamp,
    ) -> Option<StatusDocument> {
        let counts = self.progress.count(id, proxies, now);
        if let Some(took) = counts.took.filter(|_| counts.arrived) {
            self.metrics.propagated(took);
        }
        let findings: Vec<&Finding> = self.engine.findings_of(id).collect();
        let desired = status::conditions(&findings, &counts);
        let previous = self.reports.documents.get(name).and_then(|document| document.get("status"));
        let generation = object.metadata().generation.unwrap_or_default();
        let propagation = status::propagation(&counts);
        let conditions = previous.map(conditions_of).unwrap_or_default();
        let status = status::object_status(previous, &conditions, &desired, &propagation, generation, time)?;
        Some(json!({
            "apiVersion": name.kind.api_version(),
            "kind": name.kind.as_str(),
            "metadata": { "namespace": name.namespace, "name": name.name, "generation": generation },
            "status": status,
        }))
    }

    fn workload_document(
        &self,
        workload: &Identity,
        name: &ObjectRef,
        proxies: &Proxies,
        time: Timestamp,
    ) -> Option<StatusDocument> {
        let published = self.cache.current(&snapshot_key(workload))?;
        let mut counts = WorkloadCounts::default();
        for (proxy, _) in proxies.iter().filter(|(_, state)| state.workload == *workload) {
            counts.connected += 1;
            let before = counts.rejections.len();
            counts.rejections.extend(self.progress.refusals_of(proxy).map(|((_, resource), refusal)| Refusal {
                proxy: proxy.to_string(),
                resource: Some(resource.to_string()),
                message: refusal.message.to_string(),
            }));
            counts.rejections.extend(self.progress.held_back_of(workload).map(|(resource, words)| Refusal {
                proxy: proxy.to_string(),
                resource: Some(resource.to_string()),
                message: words.to_string(),
            }));
            counts.rejected += u32::from(counts.rejections.len() > before);
        }
        counts.synced = self.synced_proxies(workload, proxies);
        let contributors: Vec<&ObjectId> = self.progress.contributors(workload).collect();
        let previous = self.reports.documents.get(name);
        let conditions = previous.and_then(|document| document.get("status")).map(conditions_of).unwrap_or_default();
        let snapshot: ProxySnapshot =
            status::proxy_snapshot(workload, &published.snapshot, &counts, &contributors, &conditions, time);
        let document = serde_json::to_value(snapshot).ok()?;
        (previous != Some(&document)).then_some(document)
    }

    /// Proxies of a workload that have acknowledged everything that is current for it.
    fn synced_proxies(&self, workload: &Identity, proxies: &Proxies) -> u32 {
        let Some(published) = self.cache.current(&snapshot_key(workload)) else { return 0 };
        let synced = proxies.values().filter(|proxy| {
            proxy.workload == *workload && proxy.synced.is_some_and(|synced| synced >= published.epoch)
        });
        u32::try_from(synced.count()).unwrap_or(u32::MAX)
    }
}

fn conditions_of(status: &Value) -> Vec<Condition> {
    let conditions = status.get("conditions").cloned().unwrap_or_default();
    serde_json::from_value(conditions).unwrap_or_default()
}
