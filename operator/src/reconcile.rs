//! Reconcilers: what the API server holds of each object of ours is made what it should be.
//!
//! One file per kind says what should be, as a pure function ([`Reconciler::plan`]) of what is stored, what the [`Ledger`] knows and
//! the time. This module does what they say: on every replica it listens, on the holder of the Lease it writes. `kube`'s scheduler
//! joins requests about the same object and carries retries; between two writes to one object lies [`WRITE_INTERVAL`] at least.
//! Whoever becomes the holder looks at everything once; where nothing differs nothing is written.

mod events;
mod http_route_group;
mod ledger;
mod mesh_config;
mod mesh_root_certificate;
mod plan;
mod proxy_snapshot;
mod tally;
mod tcp_route;
mod traffic_split;
mod traffic_target;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::runtime::scheduler;
use kube::runtime::scheduler::ScheduleRequest;
use kube::runtime::watcher::DefaultBackoff;
use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{Kind, ObjectRef};
use osm_kubernetes::{EventRecorder, Leadership, RequestError, StoredObjects, Target, Writer, Written};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

pub(crate) use self::ledger::{Ledger, News};
use self::plan::{Plan, Situation};
pub(crate) use self::tally::Tally;
use crate::metrics::Metrics;

/// The least time between two writes to one object.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How long after news of an object it is looked at: what belongs together (the change, and its first acknowledgements) is then
/// one write.
const GATHERING: Duration = Duration::from_millis(150);
/// How long to wait for the first list of a kind.
const UNLISTED_PAUSE: Duration = Duration::from_millis(500);
/// Most objects that are written at a time.
const CONCURRENCY: usize = 8;

/// What is made of the objects of one kind.
trait Reconciler: std::fmt::Debug + Send + Sync {
    /// The kind.
    fn kind(&self) -> Kind;

    /// What is to be written for one object.
    fn plan(&self, situation: &Situation<'_>) -> Plan;
}

/// The reconciler of each of our kinds.
fn reconcilers(mesh_name: &str) -> BTreeMap<Kind, Arc<dyn Reconciler>> {
    let all: [Arc<dyn Reconciler>; 7] = [
        Arc::new(mesh_config::MeshConfig),
        Arc::new(mesh_root_certificate::MeshRootCertificate),
        Arc::new(traffic_target::TrafficTarget),
        Arc::new(http_route_group::HttpRouteGroup),
        Arc::new(tcp_route::TcpRoute),
        Arc::new(traffic_split::TrafficSplit),
        Arc::new(proxy_snapshot::ProxySnapshot { mesh_name: mesh_name.to_owned() }),
    ];
    all.into_iter().map(|reconciler| (reconciler.kind(), reconciler)).collect()
}

/// Pods whose sidecars were made with other settings, as `namespace/name`.
pub(crate) type PodsBehind = watch::Receiver<Arc<[String]>>;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Reconcilers {
    ledger: Ledger,
    writer: Writer,
    events: EventRecorder,
    metrics: Arc<Metrics>,
    pods_behind: PodsBehind,
    kinds: Arc<BTreeMap<Kind, Arc<dyn Reconciler>>>,
}

/// What became of looking at an object.
enum Outcome {
    /// It is as it should be, without a write.
    AsItShouldBe,
    /// It was written.
    Written,
    /// To be looked at again then.
    Later(Instant),
    /// The API server did not take the write.
    Failed(RequestError),
}

impl Reconcilers {
    /// Reconcilers of a mesh, whose objects are created with its name as a label.
    pub(crate) fn new(
        mesh_name: &str,
        ledger: Ledger,
        writer: Writer,
        events: EventRecorder,
        metrics: Arc<Metrics>,
        pods_behind: PodsBehind,
    ) -> Self {
        Self { ledger, writer, events, metrics, pods_behind, kinds: Arc::new(reconcilers(mesh_name)) }
    }

    fn stored(&self) -> &StoredObjects {
        self.writer.stored()
    }

    /// Writes while this replica holds the Lease, for ever.
    pub(crate) async fn run(self, mut leadership: watch::Receiver<Leadership>) -> Infallible {
        loop {
            let is = |wanted: Leadership| move |held: &Leadership| *held == wanted;
            if leadership.wait_for(is(Leadership::Leader)).await.is_err() {
                // The election has ended, and with it everything that is written.
                return std::future::pending().await;
            }
            self.metrics.leader(true);
            tracing::info!("this replica holds the Lease and writes");
            tokio::select! {
                never = self.lead() => match never {},
                _ = leadership.wait_for(is(Leadership::Follower)) => {}
            }
            self.metrics.leader(false);
            tracing::info!("this replica does not hold the Lease any more and writes nothing");
        }
    }

    /// Everything that is stored, or that something is known of.
    fn everything(&self) -> BTreeSet<ObjectRef> {
        let stored = self.kinds.keys().flat_map(|kind| self.stored().references(*kind));
        self.ledger.objects().into_iter().chain(stored).collect()
    }

    async fn lead(&self) -> Infallible {
        let (requests, requested) = mpsc::unbounded_channel();
        let mut queue = pin!(scheduler(UnboundedReceiverStream::new(requested)));
        let request = |object: ObjectRef, at: Instant| {
            // The other end lives as long as this function.
            let _ = requests.send(ScheduleRequest { message: object, run_at: at.into() });
        };
        let request_all = |objects: BTreeSet<ObjectRef>, after: Duration| {
            let at = Instant::now() + after;
            objects.into_iter().for_each(|object| request(object, at));
        };
        request_all(self.everything(), Duration::ZERO);
        let mut pods_behind = self.pods_behind.clone();
        let mut pace = Pace::default();
        let mut running: FuturesUnordered<BoxFuture<'_, (ObjectRef, Outcome)>> = FuturesUnordered::new();
        let mut in_flight: BTreeSet<ObjectRef> = BTreeSet::new();
        loop {
            let has_room = running.len() < CONCURRENCY;
            tokio::select! {
                objects = self.stored().changed() => request_all(objects, GATHERING),
                objects = self.ledger.changed() => request_all(objects, GATHERING),
                Ok(()) = pods_behind.changed() => {
                    request_all(self.stored().references(Kind::MeshConfig).into_iter().collect(), GATHERING);
                }
                Some(object) = async { queue.as_mut().hold_unless(|object| !in_flight.contains(object)).next().await },
                    if has_room =>
                {
                    match pace.free_at(&object, Instant::now()) {
                        Some(at) => request(object, at),
                        None => {
                            in_flight.insert(object.clone());
                            running.push(Box::pin(self.reconcile(object)));
                        }
                    }
                }
                Some((object, outcome)) = running.next(), if !running.is_empty() => {
                    in_flight.remove(&object);
                    if let Some(at) = pace.note(&object, &outcome, Instant::now()) {
                        request(object.clone(), at);
                    }
                    if let Outcome::Failed(error) = outcome {
                        self.metrics.reconcile_failed(object.kind);
                        tracing::warn!(%object, %error, "cannot write; trying again");
                    }
                }
            }
            self.metrics.reconciling(running.len());
        }
    }

    /// Looks at one object and does what has to be done.
    async fn reconcile(&self, object: ObjectRef) -> (ObjectRef, Outcome) {
        let started = Instant::now();
        let outcome = match self.carry_out(&object).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        };
        self.metrics.reconciled(object.kind, started.elapsed());
        (object, outcome)
    }

    async fn carry_out(&self, object: &ObjectRef) -> Result<Outcome, RequestError> {
        let Some(reconciler) = self.kinds.get(&object.kind) else { return Ok(Outcome::AsItShouldBe) };
        if !self.stored().is_listed(object.kind) {
            return Ok(Outcome::Later(Instant::now() + UNLISTED_PAUSE));
        }
        let stored = self.stored().get(object);
        let entry = self.ledger.entry(object);
        let pods_behind = Arc::clone(&*self.pods_behind.borrow());
        let plan = reconciler.plan(&Situation {
            object,
            stored: stored.as_ref(),
            entry: &entry,
            pods_behind: &pods_behind,
            now: Instant::now(),
            time: Timestamp::now(),
        });
        let written = match &plan {
            Plan::Nothing => return Ok(Outcome::AsItShouldBe),
            Plan::LookAgain(at) => return Ok(Outcome::Later(*at)),
            Plan::Status(status) => self.writer.patch_status(object, status).await?,
            Plan::Create { object: manifest, status } => {
                self.writer.apply(manifest).await?;
                self.metrics.api_write(object.kind);
                self.writer.patch_status(object, status).await?
            }
            Plan::Delete => self.writer.delete(&Target::from(object)).await?,
        };
        if written != Written::Written {
            return Ok(Outcome::AsItShouldBe);
        }
        self.metrics.api_write(object.kind);
        self.metrics.status_written();
        if let Plan::Status(status) | Plan::Create { status, .. } = &plan {
            let before = stored.as_ref().and_then(|stored| stored.status.as_ref());
            for event in events::flips(before, status) {
                self.events.record(object, event.severity, &event.reason, &event.message);
            }
        }
        Ok(Outcome::Written)
    }
}

/// When each object may be written again.
#[derive(Default)]
struct Pace {
    written: BTreeMap<ObjectRef, Instant>,
    failures: BTreeMap<ObjectRef, Retry>,
}

struct Retry {
    backoff: Box<DefaultBackoff>,
    not_before: Instant,
}

impl Pace {
    /// When an object may be looked at, if not now.
    fn free_at(&self, object: &ObjectRef, now: Instant) -> Option<Instant> {
        let written = self.written.get(object).map(|at| *at + WRITE_INTERVAL);
        let failed = self.failures.get(object).map(|retry| retry.not_before);
        written.max(failed).filter(|at| *at > now)
    }

    /// Takes note of an outcome; gives when to look at the object again.
    fn note(&mut self, object: &ObjectRef, outcome: &Outcome, now: Instant) -> Option<Instant> {
        self.written.retain(|_, at| *at + WRITE_INTERVAL > now);
        match outcome {
            Outcome::AsItShouldBe | Outcome::Later(_) => drop(self.failures.remove(object)),
            Outcome::Written => {
                self.failures.remove(object);
                self.written.insert(object.clone(), now);
            }
            // What it is now was read; decide anew at once.
            Outcome::Failed(RequestError::Conflict(_)) => return Some(now),
            Outcome::Failed(error) => {
                let fresh = || Retry { backoff: Box::default(), not_before: now };
                let retry = self.failures.entry(object.clone()).or_insert_with(fresh);
                let wait = retry.backoff.next().unwrap_or(WRITE_INTERVAL);
                let asked = match error {
                    RequestError::Throttled(wait) => *wait,
                    _ => Duration::ZERO,
                };
                retry.not_before = now + wait.max(asked);
                return Some(retry.not_before);
            }
        }
        match outcome {
            Outcome::Later(at) => Some(*at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ObjectRef {
        ObjectRef::new(Kind::TrafficTarget, "shop", "buyer")
    }

    #[test]
    fn each_of_our_kinds_has_a_reconciler_of_its_own() {
        let kinds: BTreeSet<Kind> = reconcilers("osm").into_keys().collect();
        assert_eq!(kinds, Kind::own().collect());
    }

    #[test]
    fn an_object_is_written_once_an_interval() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.free_at(&object(), now), None);
        assert_eq!(pace.note(&object(), &Outcome::Written, now), None);
        assert_eq!(pace.free_at(&object(), now), Some(now + WRITE_INTERVAL));
        assert_eq!(pace.free_at(&object(), now + WRITE_INTERVAL), None);
    }

    #[test]
    fn failures_are_tried_again_later_and_later_and_as_late_as_the_server_asks() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let failed = || Outcome::Failed(RequestError::Unavailable("gone".to_owned()));
        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(pace.note(&object(), &failed(), now).unwrap() - now);
        }
        assert!(waits[5] > waits[0], "{waits:?}");
        assert!(pace.free_at(&object(), now).is_some());
        let asked = Duration::from_secs(3600);
        assert_eq!(pace.note(&object(), &Outcome::Failed(RequestError::Throttled(asked)), now), Some(now + asked));
        assert_eq!(pace.note(&object(), &Outcome::AsItShouldBe, now), None);
        assert_eq!(pace.free_at(&object(), now), None, "forgotten once it went well");
    }

    #[test]
    fn a_conflict_is_decided_anew_at_once() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.note(&object(), &Outcome::Failed(RequestError::Conflict(String::new())), now), Some(now));
    }
}
