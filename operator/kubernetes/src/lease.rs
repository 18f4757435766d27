//! Which of several replicas writes: a Lease of `coordination.k8s.io/v1`.

mod elector;
mod record;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use kube::api::{GetParams, PostParams, WatchParams};
use kube::core::Request;
use osm_api::k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::portion;
use crate::error::RequestError;
use crate::keep::Keep;
use crate::request::{send, unusable, within};
use crate::watch::{Line, Lines, open};
use elector::{Elector, Precondition, Step};
use record::Record;
pub(crate) use record::micro_time;

/// How long a request about the Lease may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a watch of the Lease may take to begin, and how long it may then be silent.
const WATCH_SECONDS: u32 = 290;

/// Whether this replica may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It may: it holds the Lease.
    Leader,
    /// Another replica does, or nobody.
    Follower,
}

/// Times of an election. They must rise: `renew_every` < `renew_within` < `duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How long others wait after the last sign of life of the holder before they take over.
    pub duration: Duration,
    /// How long the holder goes on without having renewed.
    pub renew_within: Duration,
    /// How often the holder renews.
    pub renew_every: Duration,
    /// How long to wait after a failure.
    pub retry_after: Duration,
}

impl Default for LeaseTiming {
    /// 30 s, of which the holder uses 20 and renews every 10: six requests a minute, and followers none at all.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(30),
            renew_within: Duration::from_secs(20),
            renew_every: Duration::from_secs(10),
            retry_after: Duration::from_secs(2),
        }
    }
}

/// What an election is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Name of this replica. No two processes may have the same: the pod's name and something random.
    pub holder: String,
    /// Labels of the Lease; [`MeshClaim`](crate::MeshClaim)s are found by one of them.
    pub labels: BTreeMap<String, String>,
    /// Times.
    pub timing: LeaseTiming,
}

/// Takes part in an election.
///
/// Whether another's Lease has run out is told by how long ago *we* saw it change, never by the times written in it, so clocks may
/// differ. The holder counts from before it asked to renew, the others from after they saw it renewed: there are never two.
#[derive(Debug)]
pub struct Lease {
    client: LeaseClient,
    elector: Elector,
    leadership: watch::Sender<Leadership>,
    /// When this replica last became the holder, as it is written into the Lease.
    acquired: Option<Timestamp>,
}

impl Lease {
    /// Prepares to take part; [`Lease::run`] does.
    pub fn new(client: Client, options: LeaseOptions) -> Self {
        let elector = Elector::new(options.holder.clone(), options.timing);
        let leadership = watch::Sender::new(Leadership::Follower);
        Self { client: LeaseClient { client, options }, elector, leadership, acquired: None }
    }

    /// Whether this replica may write, now and whenever it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Takes part until `stop` is ready; then gives the Lease back, so that another replica need not wait.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        let mut news: Option<Lines> = None;
        loop {
            self.publish();
            let step = self.elector.step(Instant::now(), portion());
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.take(step, &mut news) => {}
            }
        }
        self.release().await;
    }

    /// Does what the elector wants next. May be dropped at any point.
    async fn take(&mut self, step: Step, news: &mut Option<Lines>) {
        match step {
            Step::Read => {
                *news = None;
                let answer = self.in_time(self.client.read()).await;
                self.elector.read(answer.map_err(|error| self.complain(&error)), Instant::now());
            }
            Step::Write(precondition) => {
                *news = None;
                self.write(precondition).await;
            }
            Step::Hold(until) => tokio::time::sleep_until(until).await,
            Step::Watch { version, until } => self.watch(&version, until, news).await,
        }
    }

    /// Nothing may take longer than the leadership that it is about.
    async fn in_time<T>(&self, request: impl Future<Output = Result<T, RequestError>>) -> Result<T, RequestError> {
        let most = Instant::now() + ANSWER_WITHIN;
        let until = self.elector.leads_until().map_or(most, |until| until.min(most));
        tokio::time::timeout_at(until, request).await.unwrap_or(Err(RequestError::TimedOut(ANSWER_WITHIN)))
    }

    async fn write(&mut self, precondition: Precondition) {
        let started = Instant::now();
        let time = Timestamp::now();
        let renewed = self.elector.leads_until().is_some();
        let acquired = self.acquired.filter(|_| renewed).unwrap_or(time);
        let transitions = self.elector.transitions() + i64::from(!renewed && precondition != Precondition::Absent);
        let record = Record::held(&self.client.options, acquired, time, transitions);
        match self.in_time(self.client.write(&record, &precondition)).await {
            Ok(version) => {
                self.acquired = Some(acquired);
                self.elector.written(record, version, started, Instant::now());
            }
            Err(error) => {
                // Another replica was quicker; who it was is read next.
                if !matches!(error, RequestError::Conflict(_)) {
                    self.complain(&error);
                }
                self.elector.not_written(Instant::now());
            }
        }
    }

    /// Waits for the holder to renew, to give back, or to run out of time.
    async fn watch(&mut self, version: &str, until: Instant, news: &mut Option<Lines>) {
        let stream = match news {
            Some(stream) => stream,
            None => match tokio::time::timeout_at(until, self.client.watch(version)).await {
                Ok(Ok(stream)) => news.insert(stream),
                Ok(Err(error)) => {
                    self.complain(&error);
                    return self.elector.lost_sight(Instant::now());
                }
                Err(_) => return,
            },
        };
        let line = match tokio::time::timeout_at(until, stream.next()).await {
            Ok(line) => line,
            Err(_) => return,
        };
        match line {
            Some(Ok(Line::Applied(object))) => self.elector.read(Ok(Record::read(&object)), Instant::now()),
            Some(Ok(Line::Deleted(_))) => self.elector.read(Ok(None), Instant::now()),
            Some(Ok(Line::Bookmark { .. })) => {}
            Some(Err(error)) => {
                *news = None;
                if error != RequestError::Expired {
                    self.complain(&error);
                }
                self.elector.lost_sight(Instant::now());
            }
            None => {
                *news = None;
                self.elector.lost_sight(Instant::now());
            }
        }
    }

    fn complain(&self, error: &RequestError) {
        let LeaseOptions { namespace, name, .. } = &self.client.options;
        tracing::warn!(lease = format!("{namespace}/{name}"), %error, "the Lease cannot be used, trying again");
    }

    fn publish(&self) {
        let now = self.elector.leadership(Instant::now());
        let changed = self.leadership.send_if_modified(|before| std::mem::replace(before, now) != now);
        if changed {
            tracing::info!(leadership = ?now, holder = self.elector.holder().unwrap_or("nobody"), "leadership changed");
        }
    }

    async fn release(mut self) {
        let Some(version) = self.elector.resign() else { return };
        self.publish();
        let record = Record::released(&self.client.options, Timestamp::now(), self.elector.transitions());
        if let Err(error) = self.client.write(&record, &Precondition::Version(version)).await {
            tracing::warn!(%error, "the Lease is not given back, others wait until it runs out");
        }
    }
}

/// The requests about one Lease.
struct LeaseClient {
    client: Client,
    options: LeaseOptions,
}

impl std::fmt::Debug for LeaseClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(f)
    }
}

impl LeaseClient {
    fn path(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.options.namespace)
    }

    async fn read(&self) -> Result<Option<(Record, String)>, RequestError> {
        let name = &self.options.name;
        let request = Request::new(self.path()).get(name, &GetParams::default()).map_err(unusable)?;
        match send(&self.client, request).await {
            Ok(object) => Ok(Record::read(&object)),
            Err(RequestError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the record if the Lease is as expected; gives its new version.
    async fn write(&self, record: &Record, precondition: &Precondition) -> Result<String, RequestError> {
        let parameters = PostParams { field_manager: Some(crate::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let requests = Request::new(self.path());
        let LeaseOptions { namespace, name, labels, .. } = &self.options;
        let object = |version: Option<&str>| record.object(namespace, name, labels, version).to_string().into_bytes();
        let request = match precondition {
            Precondition::Absent => requests.create(&parameters, object(None)),
            Precondition::Version(version) => requests.replace(name, &parameters, object(Some(version))),
        };
        let answer = within(ANSWER_WITHIN, self.client.request_text(request.map_err(unusable)?)).await?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| crate::request::not_json(&error))?;
        Ok(answer["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
    }

    async fn watch(&self, version: &str) -> Result<Lines, RequestError> {
        let fields = format!("metadata.name={}", self.options.name);
        let parameters = WatchParams::default().fields(&fields).timeout(WATCH_SECONDS);
        open(&self.client, &self.path(), &parameters, version, Keep::All).await
    }
}
