//! One loop that owns the state of the mesh: it takes what sources, proxies and the certificate store say, brings engine,
//! snapshots and progress up to date, and answers questions about them. Everything here is state without I/O; `run` feeds it.

mod containment;
mod dump;
mod pods;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use osm_api::{Kind, Object, ObjectRef};
use osm_engine::{LayerKey, MESH_CONFIG_NAME, MeshChanges, MeshEngine, Options};
use osm_issuer::{LeafCertificate, PeerIdentity, TrustBundle};
use osm_model::{Identity, ObjectId};
use osm_translate::{PrivateKeyPem, ResourceKind, secret_service_certificate, secret_trust_bundle};
use osm_xds::{Admission, Cache, ClientIdentity, Epoch, Event, ProxyName, Publication, StreamId};
use tracing::field::Empty;

pub use dump::Dump;
pub use pods::KnownPods;
pub(crate) use report::conditions_of;
pub use report::{Known, Report, Reports, StatusDocument};

use crate::gateway::GatewayNews;
use crate::logging::{TRACES, number};
use crate::metrics::Metrics;
use crate::progress::{Progress, Proxies, ProxyState};
use crate::proxies::ProxyEvent;
use crate::publish::Publisher;
use crate::roots::RootStatus;

/// The state of the mesh in one process.
#[derive(Debug)]
pub struct Driver {
    engine: MeshEngine,
    cache: Cache,
    publisher: Publisher,
    progress: Progress,
    /// Open streams by proxy; a proxy may have two while it reconnects.
    streams: BTreeMap<ProxyName, Streams>,
    held_back: containment::HeldBack,
    reports: Reports,
    /// What the keeper of the roots knows of MeshRootCertificates.
    roots: BTreeMap<ObjectId, RootStatus>,
    /// The MeshConfig in use, and what is known of the ingress gateway that it asks for.
    mesh_config: ObjectRef,
    gateway: Option<GatewayNews>,
    /// Whether that is still to be reported, also where the document stays as it is.
    gateway_is_news: bool,
    pods: KnownPods,
    metrics: Arc<Metrics>,
}

/// The open streams of one proxy.
#[derive(Debug)]
struct Streams {
    workload: Identity,
    open: BTreeSet<StreamId>,
}

/// What must be done outside after an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Workloads whose certificate is wanted, because a proxy of theirs is here.
    pub wanted_certificates: BTreeSet<Identity>,
    /// Proxies whose pod is gone: their streams are to be closed.
    pub dismissed: BTreeSet<ProxyName>,
    /// The publication that takes changed objects to proxies; `None` when nothing changed for any.
    pub published: Option<Epoch>,
}

impl Driver {
    /// An empty mesh that publishes into `cache`.
    pub fn new(options: Options, cache: Cache, metrics: Arc<Metrics>) -> Self {
        Self::with_pods(options, cache, metrics, KnownPods::default())
    }

    /// Likewise; `pods` are the pods that it knows from now on.
    pub fn with_pods(options: Options, cache: Cache, metrics: Arc<Metrics>, pods: KnownPods) -> Self {
        let namespace = options.control_plane_namespace.to_string();
        Self {
            engine: MeshEngine::new(options),
            publisher: Publisher::new(cache.clone()),
            cache,
            progress: Progress::default(),
            streams: BTreeMap::new(),
            held_back: containment::HeldBack::default(),
            reports: Reports::default(),
            roots: BTreeMap::new(),
            mesh_config: ObjectRef::new(Kind::MeshConfig, namespace, MESH_CONFIG_NAME),
            gateway: None,
            gateway_is_news: false,
            pods,
            metrics,
        }
    }

    /// The pods that the objects show, for whoever admits proxies.
    pub fn known_pods(&self) -> &KnownPods {
        &self.pods
    }

    /// The computation, for reading.
    pub fn engine(&self) -> &MeshEngine {
        &self.engine
    }

    /// Takes over changed objects as one change. `read_at` is when the source noticed them.
    pub fn on_objects(&mut self, objects: Vec<(ObjectRef, Option<Object>)>, read_at: Instant) -> Effects {
        let dismissed = self.pods.update(&objects);
        let changed: BTreeSet<ObjectId> = objects.iter().map(|(name, _)| osm_engine::object_id(name)).collect();
        let gone: Vec<ObjectId> = objects
            .iter()
            .filter(|(_, object)| object.is_none())
            .map(|(name, _)| osm_engine::object_id(name))
            .collect();
        let released = self.held_back.release(&changed);
        for object in changed.iter().chain(&released.objects) {
            self.progress.release(object);
        }
        self.reports.concern(released.objects);
        for (name, object) in &objects {
            self.reports.read(name, object.as_ref());
        }
        let changes = self.resolve(objects, released.workloads);
        let Publication { epoch, changed_keys, .. } = self.publish(&changes, read_at);
        for object in &changed {
            if &*object.kind == "meshconfig" {
                self.progress.concern_everyone(object, epoch, read_at);
            }
        }
        for object in gone {
            self.progress.forget(&object);
        }
        Effects { dismissed, published: (changed_keys > 0).then_some(epoch), ..Effects::default() }
    }

    fn resolve(
        &mut self,
        objects: Vec<(ObjectRef, Option<Object>)>,
        held_back: Vec<(Identity, BTreeSet<ObjectId>)>,
    ) -> MeshChanges {
        let span = tracing::info_span!(target: TRACES, "resolve", computed = Empty, findings = Empty);
        let changes = span.in_scope(|| self.engine.update_held_back(objects, held_back));
        span.record("computed", number(changes.work.computed)).record("findings", number(changes.findings.len()));
        changes
    }

    fn publish(&mut self, changes: &MeshChanges, read_at: Instant) -> Publication {
        let resources = number(changes.resources.len());
        let span = tracing::info_span!(target: TRACES, "push", resources, epoch = Empty, workloads = Empty);
        let _entered = span.enter();
        self.publisher.apply(changes);
        let publication = self.publisher.publish();
        let moved = self.progress.publish(changes, publication.epoch, read_at);
        self.reports.concern(moved);
        self.reports.concern(changes.findings.iter().cloned());
        self.concern_workloads(changes);
        self.metrics.publication(changes, &publication);
        span.record("epoch", number(publication.epoch.0)).record("workloads", number(publication.changed_keys));
        publication
    }

    /// Workloads whose snapshot differs.
    fn concern_workloads(&mut self, changes: &MeshChanges) {
        self.reports.concern_workloads(changes.workloads.keys().cloned());
        let mut of_everyone = false;
        for change in &changes.resources {
            match &change.layer {
                LayerKey::Workload(workload) => self.reports.concern_workloads([workload.clone()]),
                // Endpoints are no part of a version; they matter only to whoever must acknowledge them.
                LayerKey::Mesh if change.kind == ResourceKind::Endpoints => of_everyone = true,
                LayerKey::Mesh => self.reports.concern_every_workload(),
            }
        }
        if of_everyone {
            self.reports.concern_workloads(self.connected_workloads());
        }
    }

    /// There is news of a MeshRootCertificate; `None` when it is gone.
    pub fn on_root_status(&mut self, name: &ObjectRef, status: Option<RootStatus>) {
        let id = osm_engine::object_id(name);
        match status {
            Some(status) => drop(self.roots.insert(id.clone(), status)),
            None => drop(self.roots.remove(&id)),
        }
        self.reports.concern([id]);
    }

    /// There is news of the ingress gateway; `None` when nothing is known of it any more.
    pub fn on_gateway(&mut self, news: Option<GatewayNews>) {
        self.gateway = news;
        self.gateway_is_news = true;
        self.reports.concern([osm_engine::object_id(&self.mesh_config)]);
    }

    /// New roots to trust. Gives the epoch of the publication that tells proxies.
    pub fn on_trust_bundle(&mut self, bundle: &TrustBundle) -> Epoch {
        self.publisher.set_trust_bundle(&secret_trust_bundle(&bundle.pem()));
        self.publisher.publish().epoch
    }

    /// A new certificate for a workload. Gives whose, and the epoch of the publication that tells its proxies; `None` for
    /// certificates of others than workloads.
    pub fn on_certificate(&mut self, leaf: &LeafCertificate) -> Option<(Identity, Epoch)> {
        let PeerIdentity::Workload(workload) = leaf.identity() else { return None };
        let identity = Identity::new(workload.namespace(), workload.service_account()).ok()?;
        let material = leaf.material();
        let key = PrivateKeyPem::new(material.expose_private_key_pem());
        let secret = secret_service_certificate(material.certificate_chain_pem(), &key);
        self.publisher.set_certificate(&identity, &secret);
        let epoch = self.publisher.publish().epoch;
        Some((identity, epoch))
    }

    /// Something happened on a stream.
    pub fn on_proxy(&mut self, event: ProxyEvent, now: Instant) -> Effects {
        let mut effects = Effects::default();
        let ProxyEvent { client, event } = event;
        self.metrics.stream_event(&event);
        // Two of three events, when all proxies are sent something; nothing that a status says depends on them.
        if matches!(event, Event::Sent { .. } | Event::Acknowledged { .. }) {
            return effects;
        }
        let proxy = client.admission.proxy.clone();
        let Some(workload) = workload_of(client.admission.key.as_str()) else { return effects };
        match event {
            Event::Connected => {
                if !self.pods.may_be(workload.namespace.as_str(), &client.node) {
                    // The pod went while its proxy was being admitted.
                    effects.dismissed.insert(proxy.clone());
                }
                let fresh = || Streams { workload: workload.clone(), open: BTreeSet::new() };
                self.streams.entry(proxy).or_insert_with(fresh).open.insert(client.stream);
                self.concern_population(&workload);
                effects.wanted_certificates.insert(workload);
            }
            Event::Disconnected(reason) => {
                tracing::info!(%proxy, %reason, "a proxy's stream ended");
                self.disconnect(&proxy, client.stream);
                self.concern_population(&workload);
            }
            Event::Rejected(rejection) => {
                tracing::warn!(
                    %proxy, r#type = rejection.type_url.short_name(), message = rejection.message,
                    "a proxy refused a configuration"
                );
                self.contain(&proxy, &rejection, now);
                self.reports.concern_workloads([workload]);
            }
            Event::Stalled { waiting, waits_for, waited } => tracing::warn!(
                %proxy, waiting = waiting.short_name(), waits_for = waits_for.short_name(), ?waited,
                "a proxy's update waits for an acknowledgement"
            ),
            Event::Synced { epoch } => {
                tracing::debug!(%proxy, epoch = epoch.0, "in sync");
                self.progress.acknowledge(&proxy, now);
                self.reports.concern_synced(workload);
            }
            Event::Sent { .. } | Event::Acknowledged { .. } => {}
        }
        effects
    }

    fn disconnect(&mut self, proxy: &ProxyName, stream: StreamId) {
        let Some(streams) = self.streams.get_mut(proxy) else { return };
        streams.open.remove(&stream);
        if streams.open.is_empty() {
            self.streams.remove(proxy);
            self.progress.disconnect(proxy);
        }
    }

    /// A workload has other proxies than before: all its objects concern others now.
    fn concern_population(&mut self, workload: &Identity) {
        let everyone = self.reports.subjects().filter(|object| self.progress.concerns_everyone(object));
        let objects: Vec<ObjectId> = self.progress.contributors(workload).chain(everyone).cloned().collect();
        let held_back: Vec<ObjectId> = self.held_back.of(workload).cloned().collect();
        self.reports.concern(objects.into_iter().chain(held_back));
        self.reports.concern_workloads([workload.clone()]);
    }

    /// Workloads that have a proxy here.
    fn connected_workloads(&self) -> BTreeSet<Identity> {
        self.streams.values().map(|streams| streams.workload.clone()).collect()
    }

    /// Whom the newest publication concerns, if its epoch is `epoch`: connected proxies whose snapshot it changed.
    pub fn concerned(&self, epoch: Epoch, synced: &Synced) -> Concerned {
        let mut proxies = BTreeSet::new();
        let mut outstanding = BTreeSet::new();
        for (client, synced) in synced {
            if self.cache.current(&client.admission.key).is_some_and(|published| published.epoch == epoch) {
                proxies.insert(&client.admission.proxy);
                if *synced < Some(epoch) {
                    outstanding.insert(client.stream);
                }
            }
        }
        Concerned { proxies: proxies.len(), outstanding }
    }

    /// Connected proxies, each as far as the slowest of its streams.
    fn proxies(&self, synced: &Synced) -> Proxies {
        let mut proxies = Proxies::new();
        for (client, synced) in synced {
            let Admission { key, proxy } = &client.admission;
            let (Some(workload), Some(published)) = (workload_of(key.as_str()), self.cache.current(key)) else {
                continue;
            };
            let state = ProxyState { current: published.epoch, synced: *synced };
            let of_workload = proxies.entry(workload).or_default();
            let known = of_workload.entry(proxy.clone()).or_insert(state);
            known.synced = known.synced.min(*synced);
        }
        proxies
    }
}

/// What the server says of its streams: whose they are, and up to which epoch each has acknowledged everything.
pub type Synced = [(Arc<ClientIdentity>, Option<Epoch>)];

/// Whom a publication concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concerned {
    /// How many proxies.
    pub proxies: usize,
    /// Their streams that have not acknowledged it.
    pub outstanding: BTreeSet<StreamId>,
}

/// The workload a snapshot key names.
fn workload_of(key: &str) -> Option<Identity> {
    let (namespace, service_account) = key.split_once('/')?;
    Identity::new(namespace, service_account).ok()
}

#[cfg(test)]
mod tests;
