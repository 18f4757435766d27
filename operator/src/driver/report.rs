//! Status documents: what is written about each object of ours and each workload, and which of it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{Condition, Kind, Object, ObjectRef, Refusal};
use osm_model::{Finding, Identity, ObjectId};
use osm_xds::Published;
use serde_json::{Value, json};

use super::{Driver, Synced};
use crate::account::{Account, ObjectAccount, RootAccount};
use crate::gateway::GatewayNews;
use crate::progress::{ObjectCounts, Proxies};
use crate::publish::snapshot_key;
use crate::roots::RootStatus;
use crate::status::{self, WorkloadCounts};

/// What is written about one object: the object without its `spec`, or a whole ProxySnapshot.
pub type StatusDocument = Value;

/// News of one object of ours or one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The object; the ProxySnapshot of a workload.
    pub name: ObjectRef,
    /// What is known of it now; `None` when it is gone.
    pub known: Option<Known>,
}

/// What is known of an object or workload, in two forms.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The document as this process alone would write it.
    pub document: StatusDocument,
    /// The facts it was made from, to be joined with those of other replicas.
    pub account: Account,
}

/// The documents as they were last written, and what may have changed since. Only that is looked at again: the cost of a
/// report follows the change.
#[derive(Debug, Default)]
pub struct Reports {
    /// Objects that get a status, with their generation.
    subjects: BTreeMap<ObjectId, (ObjectRef, i64)>,
    objects: BTreeSet<ObjectId>,
    workloads: BTreeSet<Identity>,
    /// Workloads of which a proxy has acknowledged something. What that can change is looked up once a report, however many
    /// proxies acknowledge.
    synced: BTreeSet<Identity>,
    every_workload: bool,
    gone: BTreeSet<ObjectRef>,
    documents: BTreeMap<ObjectRef, StatusDocument>,
}

impl Reports {
    /// An object was read, changed or is gone.
    pub(super) fn read(&mut self, name: &ObjectRef, object: Option<&Object>) {
        if !status::has_status(name.kind) {
            return;
        }
        let id = osm_engine::object_id(name);
        match object {
            Some(object) => {
                let generation = object.metadata().generation.unwrap_or_default();
                self.gone.remove(name);
                self.subjects.insert(id.clone(), (name.clone(), generation));
                self.objects.insert(id);
            }
            None => {
                self.subjects.remove(&id);
                self.gone.insert(name.clone());
            }
        }
    }

    /// Something about these objects may have changed.
    pub(super) fn concern(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        self.objects.extend(objects.into_iter().filter(|object| self.subjects.contains_key(object)));
    }

    /// Something about these workloads may have changed.
    pub(super) fn concern_workloads(&mut self, workloads: impl IntoIterator<Item = Identity>) {
        self.workloads.extend(workloads);
    }

    /// A proxy of this workload has acknowledged everything that it was sent.
    pub(super) fn concern_synced(&mut self, workload: Identity) {
        self.synced.insert(workload);
    }

    /// Something about all workloads may have changed.
    pub(super) fn concern_every_workload(&mut self) {
        self.every_workload = true;
    }

    /// Objects that get a status.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &ObjectId> {
        self.subjects.keys()
    }

    /// Whether [`Driver::report`] has anything to look at.
    fn is_due(&self) -> bool {
        self.every_workload
            || !(self.synced.is_empty() && self.workloads.is_empty() && self.objects.is_empty() && self.gone.is_empty())
    }

    /// All documents, ordered.
    pub(super) fn documents(&self) -> impl Iterator<Item = (&ObjectRef, &StatusDocument)> {
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

    /// Brings the documents up to date; gives those that differ, and `None` for those that are gone. `synced` is what the
    /// server says of its streams.
    pub fn report(&mut self, synced: &Synced, now: Instant, time: Timestamp) -> Vec<Report> {
        let proxies = self.proxies(synced);
        for workload in std::mem::take(&mut self.reports.synced) {
            self.reports.concern(self.progress.awaiting(&workload).cloned());
            self.reports.concern_workloads([workload]);
        }
        let mut written: Vec<Report> = Vec::new();
        for id in std::mem::take(&mut self.reports.objects) {
            let Some((name, generation)) = self.reports.subjects.get(&id).cloned() else { continue };
            if let Some(known) = self.object_document(&name, generation, &id, &proxies, now, time) {
                written.push(Report { name, known: Some(known) });
            }
        }
        let concerned = std::mem::take(&mut self.reports.workloads);
        let workloads = match std::mem::take(&mut self.reports.every_workload) {
            true => self.engine.workloads().cloned().collect(),
            false => concerned,
        };
        for workload in workloads {
            let name = ObjectRef::new(Kind::ProxySnapshot, workload.namespace.as_str(), &*workload.service_account);
            match self.cache.current(&snapshot_key(&workload)) {
                Some(published) => {
                    let known = self.workload_document(&workload, &published, &name, &proxies, time);
                    written.extend(known.map(|known| Report { name, known: Some(known) }));
                }
                None => drop(self.reports.gone.insert(name)),
            }
        }
        let gone = std::mem::take(&mut self.reports.gone);
        let gone = gone.into_iter().filter(|name| self.reports.documents.contains_key(name));
        written.extend(gone.map(|name| Report { name, known: None }));
        for Report { name, known } in &written {
            match known {
                Some(known) => drop(self.reports.documents.insert(name.clone(), known.document.clone())),
                None => drop(self.reports.documents.remove(name)),
            }
        }
        written
    }

    fn object_document(
        &mut self,
        name: &ObjectRef,
        generation: i64,
        id: &ObjectId,
        proxies: &Proxies,
        now: Instant,
        time: Timestamp,
    ) -> Option<Known> {
        if let Some(root) = self.roots.get(id) {
            return self.root_document(name, generation, root, time);
        }
        let counts = self.progress.count(id, proxies, now);
        if let Some(took) = counts.took.filter(|_| counts.arrived) {
            self.metrics.propagated(took);
        }
        let gateway = self.gateway_news(name, generation);
        let more = gateway.iter().flat_map(|news| &news.findings);
        let findings: Vec<&Finding> = self.engine.findings_of(id).chain(more).collect();
        let details = status::details(&findings);
        let desired = status::conditions(&details, &counts, 0);
        let previous = self.reports.documents.get(name).and_then(|document| document.get("status"));
        let propagation = status::propagation(&counts);
        let conditions = previous.map(conditions_of).unwrap_or_default();
        let gateway = match gateway {
            Some(news) => Some(news.status.clone()),
            None if *name == self.mesh_config => None,
            None => Some(Value::Null),
        };
        let mut status = status::object_status(None, &conditions, &desired, &propagation, generation, time)?;
        if let Some(gateway) = gateway.as_ref().filter(|gateway| !gateway.is_null()) {
            status["ingressGateway"] = gateway.clone();
        }
        let is_news = *name == self.mesh_config && std::mem::take(&mut self.gateway_is_news);
        if previous == Some(&status) && !is_news {
            return None;
        }
        let document = json!({
            "apiVersion": name.kind.api_version(),
            "kind": name.kind.as_str(),
            "metadata": { "namespace": name.namespace, "name": name.name, "generation": generation },
            "status": status,
        });
        let account = ObjectAccount { generation, details, counts, root: None, gateway };
        Some(Known { document, account: Account::Object(account) })
    }

    /// What is said of the ingress gateway in this generation of the MeshConfig in use.
    fn gateway_news(&self, name: &ObjectRef, generation: i64) -> Option<&GatewayNews> {
        self.gateway.as_ref().filter(|news| *name == self.mesh_config && news.generation >= generation)
    }

    /// Of a MeshRootCertificate, which concerns proxies by certificates and not by resources that it makes.
    fn root_document(&self, name: &ObjectRef, generation: i64, root: &RootStatus, time: Timestamp) -> Option<Known> {
        // What was said of a former generation says nothing of this one.
        if root.generation < generation {
            return None;
        }
        let findings: Vec<&Finding> = root.findings.iter().collect();
        let details = status::details(&findings);
        let (targeted, acknowledged) = (root.targeted, root.acknowledged);
        let counts = ObjectCounts { targeted, acknowledged, ..ObjectCounts::default() };
        let desired = status::root_conditions(&details, root.programmed.clone());
        let previous = self.reports.documents.get(name).and_then(|document| document.get("status"));
        let conditions = previous.map(conditions_of).unwrap_or_default();
        let propagation = status::propagation(&counts);
        let mut status = status::object_status(None, &conditions, &desired, &propagation, generation, time)?;
        for (field, value) in root.fields.iter().filter(|(_, value)| !value.is_null()) {
            status[field] = value.clone();
        }
        let document = json!({
            "apiVersion": name.kind.api_version(),
            "kind": name.kind.as_str(),
            "metadata": { "namespace": name.namespace, "name": name.name, "generation": generation },
            "status": status,
        });
        let differs = previous != document.get("status");
        let root = Some(RootAccount { programmed: root.programmed.clone(), fields: root.fields.clone() });
        differs.then_some(Known {
            document,
            account: Account::Object(ObjectAccount { generation, details, counts, root, gateway: Some(Value::Null) }),
        })
    }

    fn workload_document(
        &self,
        workload: &Identity,
        published: &Published,
        name: &ObjectRef,
        proxies: &Proxies,
        time: Timestamp,
    ) -> Option<Known> {
        let mut counts = WorkloadCounts::default();
        for (proxy, state) in proxies.get(workload).into_iter().flatten() {
            counts.connected += 1;
            counts.synced += u32::from(state.synced.is_some_and(|synced| synced >= published.epoch));
            let before = counts.rejections.len();
            let refused = self.progress.refusals_of(proxy).map(|((_, resource), refusal)| (resource, &refusal.message));
            let held_back = self.progress.held_back_of(workload).map(|(resource, words)| (resource, words));
            counts.rejections.extend(refused.chain(held_back).map(|(resource, message)| Refusal {
                proxy: proxy.to_string(),
                resource: Some(resource.to_string()),
                message: message.to_string(),
            }));
            counts.rejected += u32::from(counts.rejections.len() > before);
        }
        let contributors = self.progress.contributors(workload);
        let previous = self.reports.documents.get(name);
        let conditions = previous.and_then(|document| document.get("status")).map(conditions_of).unwrap_or_default();
        let account = status::workload_account(workload, &published.snapshot, counts, contributors);
        let snapshot = status::proxy_snapshot(workload.namespace.as_str(), &account, &conditions, time);
        let document = serde_json::to_value(snapshot).ok()?;
        let differs = previous != Some(&document);
        differs.then_some(Known { document, account: Account::Workload(account) })
    }
}

/// The conditions in a status.
pub(crate) fn conditions_of(status: &Value) -> Vec<Condition> {
    let conditions = status.get("conditions").cloned().unwrap_or_default();
    serde_json::from_value(conditions).unwrap_or_default()
}
