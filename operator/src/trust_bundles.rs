//! The ConfigMap with the roots of the mesh, in every namespace of the mesh: what a pod's sidecar verifies the control plane
//! by, before anything else. Kept by the writer among the replicas: put back when somebody changes or deletes it, and
//! taken away when its namespace leaves the mesh. The keeper also tells since when which roots are in all of them.

mod config_maps;
mod namespaces;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use osm_api::k8s_openapi::api::core::v1::ConfigMap;
use osm_bootstrap::names;
use osm_issuer::{CertificateStore, Change, Clock};
use osm_kubernetes::{Leadership, RequestError, Target, Writer};
use tokio::sync::watch;

use self::config_maps::{Bundle, Due, Everywhere, Known, Present, due, version};
pub use self::namespaces::{MeshNamespaces, Namespaces};
use crate::written_roots::{Newcomers, Places, WrittenRoots};

/// How many writes are under way at the same time.
const CONCURRENT_WRITES: usize = 4;
/// How long to wait after a write that failed: the first time, and at the most.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Keeps the ConfigMaps, whenever this replica is the writer.
#[derive(Debug)]
pub struct TrustBundles {
    /// Writes.
    pub writer: Writer,
    /// Labels of what belongs to this mesh; at least one.
    pub labels: BTreeMap<String, String>,
    /// Where the roots come from.
    pub store: Arc<CertificateStore>,
    /// Which namespaces.
    pub namespaces: watch::Receiver<Namespaces>,
    /// The time.
    pub clock: Clock,
    /// Told since when which roots are in all ConfigMaps.
    pub written: watch::Sender<WrittenRoots>,
}

/// The places that the ConfigMaps are.
#[derive(Debug, Default)]
struct Watched {
    everywhere: Everywhere,
    /// What they hold since when; `None` before all were seen.
    places: Option<Places>,
}

impl TrustBundles {
    /// Runs for ever.
    pub async fn run(mut self, client: Client, mut leadership: watch::Receiver<Leadership>) -> Infallible {
        loop {
            // An error means that nobody leads any more, and then nothing more is to be written.
            if leadership.wait_for(|leadership| *leadership == Leadership::Leader).await.is_err() {
                return std::future::pending().await;
            }
            let mut lost = leadership.clone();
            tokio::select! {
                _ = lost.wait_for(|leadership| *leadership != Leadership::Leader) => {}
                never = self.keep(&client) => match never {},
            }
            // What another writes from now on is not seen here.
            self.written.send_replace(WrittenRoots::Unknown);
        }
    }

    /// Tells what all ConfigMaps hold that are known now.
    fn tell(&self, watched: &mut Watched) {
        let Some(namespaces) = self.namespaces.borrow().clone() else { return };
        let newcomers = match watched.places {
            Some(_) => Newcomers::HeldNothing,
            None => Newcomers::MayHaveHeld,
        };
        let found = namespaces.iter().map(|namespace| (namespace.as_str(), watched.everywhere.roots(namespace)));
        let written = watched.places.get_or_insert_default().look(found, newcomers, self.clock.now());
        self.written.send_if_modified(|told| {
            let differs = *told != written;
            *told = written;
            differs
        });
    }

    async fn keep(&mut self, client: &Client) -> Infallible {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", names::TRUST_BUNDLE_CONFIG_MAP));
        let events = watcher(Api::<ConfigMap>::all(client.clone()), config).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut changes = self.store.subscribe();
        let (mut watched, mut listing) = (Watched::default(), Everywhere::default());
        let mut is_listed = false;
        let mut retry_after = RETRY_AFTER.0;
        loop {
            let mut retry = None;
            if is_listed {
                // Before and after: a namespace that is new is seen empty, and what was put back is seen to have been missing.
                self.tell(&mut watched);
                let is_done = self.write(&mut watched.everywhere).await;
                self.tell(&mut watched);
                if !is_done {
                    retry = Some(retry_after);
                    retry_after = (retry_after * 2).min(RETRY_AFTER.1);
                } else {
                    retry_after = RETRY_AFTER.0;
                }
            }
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(watcher::Event::Init)) => listing = Everywhere::default(),
                    Ok(Some(watcher::Event::InitApply(object))) => enter(&mut listing, object, Presence::There),
                    Ok(Some(watcher::Event::InitDone)) => {
                        watched.everywhere = std::mem::take(&mut listing);
                        is_listed = true;
                    }
                    Ok(Some(watcher::Event::Apply(object))) => enter(&mut watched.everywhere, object, Presence::There),
                    Ok(Some(watcher::Event::Delete(object))) => enter(&mut watched.everywhere, object, Presence::Gone),
                    Ok(None) => return std::future::pending().await,
                    Err(error) => tracing::warn!(%error, "cannot watch the ConfigMaps of trust bundles; trying again"),
                },
                () = async { while changes.next().await != Change::TrustBundle {} } => {}
                changed = self.namespaces.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
                () = wait(retry) => {}
            }
        }
    }

    /// Writes what is due, and says whether nothing is any more.
    async fn write(&mut self, everywhere: &mut Everywhere) -> bool {
        let Some(namespaces) = self.namespaces.borrow_and_update().clone() else { return true };
        let pem = match self.store.trust_bundle().await {
            Ok(bundle) => bundle.pem(),
            Err(error) => {
                tracing::warn!(%error, reason = error.reason(), "trust bundles are not written, the roots are not known");
                return false;
            }
        };
        let bundle = Bundle { pem, labels: self.labels.clone() };
        let writes = futures::stream::iter(due(&bundle, &namespaces, everywhere)).map(|due| {
            let (writer, bundle) = (self.writer.clone(), &bundle);
            async move { (due.clone(), carry_out(&writer, bundle, &due).await) }
        });
        let mut is_done = true;
        let mut writes = std::pin::pin!(writes.buffer_unordered(CONCURRENT_WRITES));
        while let Some((due, outcome)) = writes.next().await {
            match (outcome, due) {
                // The watch will say the same, later.
                (Ok(Some(version)), Due::Apply(namespace)) => {
                    let data = [(names::TRUST_BUNDLE_KEY.to_owned(), bundle.pem.clone())].into();
                    let present = Some(Present { data, labels: bundle.labels.clone() });
                    everywhere.learn(namespace, Known { version, present });
                }
                (Ok(_), Due::Apply(namespace) | Due::Delete(namespace)) => everywhere.deleted(&namespace),
                (Err(error), Due::Apply(namespace) | Due::Delete(namespace)) => {
                    is_done = false;
                    let name = names::TRUST_BUNDLE_CONFIG_MAP;
                    tracing::warn!(%error, %namespace, "cannot write the ConfigMap {name}; trying again");
                }
            }
        }
        is_done
    }
}

/// Gives the version of what was applied.
async fn carry_out(writer: &Writer, bundle: &Bundle, due: &Due) -> Result<Option<u64>, RequestError> {
    match due {
        Due::Apply(namespace) => {
            let stored = writer.apply(&bundle.manifest(namespace)).await?;
            Ok(Some(version(Some(&stored.resource_version))))
        }
        Due::Delete(namespace) => {
            writer.delete(&Target::config_map(namespace.as_str(), names::TRUST_BUNDLE_CONFIG_MAP)).await?;
            Ok(None)
        }
    }
}

/// What an event says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Gone,
}

fn enter(everywhere: &mut Everywhere, object: ConfigMap, presence: Presence) {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let version = version(object.metadata.resource_version.as_deref());
    let present = match presence {
        Presence::There => Some(Present::of(object)),
        Presence::Gone => None,
    };
    everywhere.learn(namespace, Known { version, present });
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
