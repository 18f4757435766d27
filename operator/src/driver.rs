//! One loop that owns the state of the mesh: it takes what sources, proxies and the certificate store say, brings engine,
//! snapshots and progress up to date, and answers questions about them. Everything here is state without I/O; `run` feeds it.

mod containment;
mod dump;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use osm_api::{Object, ObjectRef};
use osm_engine::{MeshChanges, MeshEngine, Options};
use osm_issuer::{LeafCertificate, PeerIdentity, TrustBundle};
use osm_model::{Identity, ObjectId};
use osm_translate::{PrivateKeyPem, secret_service_certificate, secret_trust_bundle};
use osm_xds::{Cache, Epoch, Event, ProxyName};

pub use dump::Dump;
pub use report::{Reports, StatusDocument};

use crate::metrics::Metrics;
use crate::progress::{Progress, Proxies};
use crate::proxies::ProxyEvent;
use crate::publish::Publisher;

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
    metrics: Arc<Metrics>,
}

/// The open streams of one proxy.
#[derive(Debug)]
struct Streams {
    workload: Identity,
    open: BTreeSet<osm_xds::StreamId>,
}

/// What must be done outside after an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Workloads whose certificate is wanted, because a proxy of theirs is here.
    pub wanted_certificates: BTreeSet<Identity>,
}

impl Driver {
    /// An empty mesh that publishes into `cache`.
    pub fn new(options: Options, cache: Cache, metrics: Arc<Metrics>) -> Self {
        Self {
            engine: MeshEngine::new(options),
            publisher: Publisher::new(cache.clone()),
            cache,
            progress: Progress::default(),
            streams: BTreeMap::new(),
            held_back: containment::HeldBack::default(),
            reports: Reports::default(),
            metrics,
        }
    }

    /// The computation, for reading.
    pub fn engine(&self) -> &MeshEngine {
        &self.engine
    }

    /// Takes over changed objects as one change. `read_at` is when the source noticed them.
    pub fn on_objects(&mut self, objects: Vec<(ObjectRef, Option<Object>)>, read_at: Instant) {
        let changed: BTreeSet<ObjectId> = objects.iter().map(|(name, _)| osm_engine::object_id(name)).collect();
        let gone: Vec<ObjectId> = objects
            .iter()
            .filter(|(_, object)| object.is_none())
            .map(|(name, _)| osm_engine::object_id(name))
            .collect();
        for object in &changed {
            self.progress.release(object);
        }
        let released = self.held_back.release(&changed);
        let changes = self.engine.update_held_back(objects, released);
        let epoch = self.publish(&changes, read_at);
        for object in &changed {
            if &*object.kind == "meshconfig" {
                self.progress.concern_everyone(object, epoch, read_at);
            }
        }
        for object in gone {
            self.progress.forget(&object);
        }
        self.reports.concern(changed);
    }

    fn publish(&mut self, changes: &MeshChanges, read_at: Instant) -> Epoch {
        self.publisher.apply(changes);
        let publication = self.publisher.publish();
        self.progress.publish(changes, publication.epoch, read_at);
        self.reports.concern(changes.findings.iter().cloned());
        self.reports.concern_everything_published();
        self.metrics.publication(changes, &publication);
        publication.epoch
    }

    /// New roots to trust.
    pub fn on_trust_bundle(&mut self, bundle: &TrustBundle) {
        self.publisher.set_trust_bundle(&secret_trust_bundle(&bundle.pem()));
        self.publisher.publish();
    }

    /// A new certificate for a workload.
    pub fn on_certificate(&mut self, leaf: &LeafCertificate) {
        let PeerIdentity::Workload(workload) = leaf.identity() else { return };
        let Ok(identity) = Identity::new(workload.namespace(), workload.service_account()) else { return };
        let material = leaf.material();
        let key = PrivateKeyPem::new(material.expose_private_key_pem());
        let secret = secret_service_certificate(material.certificate_chain_pem(), &key);
        self.publisher.set_certificate(&identity, &secret);
        self.publisher.publish();
    }

    /// Something happened on a stream.
    pub fn on_proxy(&mut self, event: ProxyEvent, now: Instant) -> Effects {
        let mut effects = Effects::default();
        let ProxyEvent { client, event } = event;
        let proxy = client.admission.proxy.clone();
        self.metrics.stream_event(&event);
        match event {
            Event::Connected => {
                let Some(workload) = self.workload(client.admission.key.as_str()) else { return effects };
                effects.wanted_certificates.insert(workload.clone());
                let streams = self.streams.entry(proxy);
                let streams = streams.or_insert_with(|| Streams { workload, open: BTreeSet::new() });
                streams.open.insert(client.stream);
            }
            Event::Disconnected(reason) => {
                tracing::info!(%proxy, %reason, "a proxy's stream ended");
                if let Some(streams) = self.streams.get_mut(&proxy) {
                    streams.open.remove(&client.stream);
                    if streams.open.is_empty() {
                        self.streams.remove(&proxy);
                        self.progress.disconnect(&proxy);
                    }
                }
            }
            Event::Rejected(rejection) => {
                tracing::warn!(
                    %proxy, r#type = rejection.type_url.short_name(), message = rejection.message,
                    "a proxy refused a configuration"
                );
                self.contain(&proxy, &rejection, now);
            }
            Event::Stalled { waiting, waits_for, waited } => tracing::warn!(
                %proxy, waiting = waiting.short_name(), waits_for = waits_for.short_name(), ?waited,
                "a proxy's update waits for an acknowledgement"
            ),
            Event::Synced { epoch } => {
                tracing::debug!(%proxy, epoch = epoch.0, "in sync");
                self.progress.acknowledge(&proxy, now);
            }
            // Nothing that a status says depends on these.
            Event::Sent { .. } | Event::Acknowledged { .. } => return effects,
        }
        self.reports.concern_everything_published();
        effects
    }

    /// The workload a snapshot key names.
    fn workload(&self, key: &str) -> Option<Identity> {
        let (namespace, service_account) = key.split_once('/')?;
        Identity::new(namespace, service_account).ok()
    }

    /// Workloads that have a proxy here.
    pub fn connected_workloads(&self) -> BTreeSet<Identity> {
        self.streams.values().map(|streams| streams.workload.clone()).collect()
    }

    /// Connected proxies, with how far `clients` says each has come: as far as the slowest of its streams.
    fn proxies(&self, clients: &[osm_xds::ClientStatus]) -> Proxies {
        let mut proxies = Proxies::new();
        for client in clients {
            let name = &client.identity.admission.proxy;
            let Some(streams) = self.streams.get(name) else { continue };
            let Some(published) = self.cache.current(&client.identity.admission.key) else { continue };
            let (workload, current) = (streams.workload.clone(), published.epoch);
            let state = crate::progress::ProxyState { workload, current, synced: client.synced };
            proxies
                .entry(name.clone())
                .and_modify(|known| known.synced = known.synced.min(client.synced))
                .or_insert(state);
        }
        proxies
    }
}

#[cfg(test)]
mod tests;
