//! The ConfigMap with the roots of the mesh, in every namespace of the mesh: what a pod's sidecar verifies the control plane
//! by, before anything else. Kept by the writer among the replicas: put back when somebody changes or deletes it, and
//! taken away when its namespace leaves the mesh. The keeper also tells since when which roots are in all of them.

mod config_maps;
mod namespaces;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use osm_api::k8s_openapi::api::core::v1::ConfigMap;
use osm_api::{Kind, ObjectRef};
use osm_bootstrap::names;
use osm_issuer::{CertificateStore, Change, Clock};
use osm_kubernetes::{EventRecorder, EventType, FIELD_MANAGER, Leadership, RequestError, Target, Writer};
use tokio::sync::watch;

use self::config_maps::{Bundle, Due, Everywhere, Known, Present, due, version};
pub use self::namespaces::{MeshNamespaces, Namespaces};
use crate::written_roots::{Newcomers, Pace, Places, WrittenRoots};

/// How many writes are under way at the same time.
const CONCURRENT_WRITES: usize = 4;
/// How long to wait after a write that failed: the first time, and at the most.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often the same roots are put back into one ConfigMap at the most.
const PUT_BACK_EVERY: Duration = Duration::from_secs(10);

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
#[derive(Debug)]
struct Watched {
    everywhere: Everywhere,
    /// What they hold since when; `None` before all were seen.
    places: Option<Places>,
    /// The roots that were put into them.
    pace: Pace<Arc<str>>,
    events: EventRecorder,
}

/// What is left to be done after writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// A write failed.
    Failed,
    /// Somebody changes what was put back a moment ago.
    Later(Duration),
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
        let events_of = EventRecorder::new(client.clone(), self.writer.stored().clone(), FIELD_MANAGER.to_owned());
        let mut watched = Watched {
            everywhere: Everywhere::default(),
            places: None,
            pace: Pace::new(PUT_BACK_EVERY),
            events: events_of,
        };
        let mut listing = Everywhere::default();
        let mut is_listed = false;
        let mut retry_after = RETRY_AFTER.0;
        loop {
            let mut retry = None;
            if is_listed {
                // Before and after: a namespace that is new is seen empty, and what was put back is seen to have been missing.
                self.tell(&mut watched);
                let left = self.write(&mut watched).await;
                self.tell(&mut watched);
                retry = match left {
                    Left::Nothing => None,
                    Left::Failed => Some(retry_after),
                    Left::Later(wait) => Some(wait),
                };
                retry_after = match left {
                    Left::Failed => (retry_after * 2).min(RETRY_AFTER.1),
                    Left::Nothing | Left::Later(_) => RETRY_AFTER.0,
                };
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

    /// Writes what is due, and says what is left.
    async fn write(&mut self, watched: &mut Watched) -> Left {
        let Some(namespaces) = self.namespaces.borrow_and_update().clone() else { return Left::Nothing };
        let pem = match self.store.trust_bundle().await {
            Ok(bundle) => bundle.pem(),
            Err(error) => {
                tracing::warn!(%error, reason = error.reason(), "trust bundles are not written, the roots are not known");
                return Left::Failed;
            }
        };
        let bundle = Bundle { pem, labels: self.labels.clone() };
        let (due, wait) = watched.due_now(&bundle, &namespaces);
        let writes = futures::stream::iter(due).map(|due| {
            let (writer, bundle) = (self.writer.clone(), &bundle);
            async move { (due.clone(), carry_out(&writer, bundle, &due).await) }
        });
        let mut left = wait.map_or(Left::Nothing, Left::Later);
        let mut writes = std::pin::pin!(writes.buffer_unordered(CONCURRENT_WRITES));
        while let Some((due, outcome)) = writes.next().await {
            match (outcome, due) {
                // The watch will say the same, later.
                (Ok(Some(version)), Due::Apply(namespace)) => watched.applied(namespace, version, &bundle),
                (Ok(_), Due::Apply(namespace) | Due::Delete(namespace)) => watched.everywhere.deleted(&namespace),
                (Err(error), Due::Apply(namespace) | Due::Delete(namespace)) => {
                    left = Left::Failed;
                    let name = names::TRUST_BUNDLE_CONFIG_MAP;
                    tracing::warn!(%error, %namespace, "cannot write the ConfigMap {name}; trying again");
                }
            }
        }
        left
    }
}

impl Watched {
    /// What is to be written now, and how long to wait for the rest.
    fn due_now(&mut self, bundle: &Bundle, namespaces: &BTreeSet<String>) -> (Vec<Due>, Option<Duration>) {
        let (now, roots) = (Instant::now(), Arc::<str>::from(bundle.pem.as_str()));
        self.pace.retain(|namespace| namespaces.contains(namespace));
        for namespace in namespaces {
            if self.everywhere.get(namespace).is_some_and(|present| bundle.is_in(present)) {
                self.pace.found(namespace, Arc::clone(&roots));
            }
        }
        let mut longest: Option<Duration> = None;
        let mut due = due(bundle, namespaces, &self.everywhere);
        due.retain(|due| {
            let Due::Apply(namespace) = due else { return true };
            let wait = self.pace.wait(namespace, &roots, now);
            longest = longest.max(wait);
            wait.is_none()
        });
        (due, longest)
    }

    /// Notes what was applied, and tells of it if it was there before.
    fn applied(&mut self, namespace: String, version: u64, bundle: &Bundle) {
        let roots = Arc::<str>::from(bundle.pem.as_str());
        if self.pace.was_there(&namespace, &roots) {
            let name = names::TRUST_BUNDLE_CONFIG_MAP;
            let note = format!(
                "The ConfigMap {name} was changed or deleted, and is put back: sidecars verify the control plane by it. Leave it to \
                 the control plane."
            );
            tracing::warn!(%namespace, "the ConfigMap {name} was changed or deleted by somebody else, and is put back");
            let object = ObjectRef::new(Kind::Namespace, "", namespace.as_str());
            self.events.record(&object, EventType::Warning, "TrustBundleRestored", &note);
        }
        self.pace.written(&namespace, roots, Instant::now());
        let data = [(names::TRUST_BUNDLE_KEY.to_owned(), bundle.pem.clone())].into();
        let present = Some(Present { data, labels: bundle.labels.clone() });
        self.everywhere.learn(namespace, Known { version, present });
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
