//! The API server as a source: one list and watch for each kind, and what becomes of their failures.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use osm_api::{Kind, Ownership, Scope};
use osm_source::{Problem, SourceEvent};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backoff::{Backoff, portion};
use crate::client::crd_name;
use crate::error::RequestError;
use crate::gather::{Subject, Tidings, gather};
use crate::keep::Keep;
use crate::known::{Known, News};
use crate::request::ANSWER_WITHIN;
use crate::stored::StoredObjects;
use crate::watch::{Line, Lines, open, page};

/// Events that may wait to be taken. When there are more, nothing more is read.
const CHANNEL_EVENTS: usize = 16;
/// Lines of watches that may wait to be gathered.
const CHANNEL_TIDINGS: usize = 256;
/// First and longest wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often a kind whose CRD is missing is looked for.
const LOOK_FOR_CRD_EVERY: Duration = Duration::from_secs(3);
/// A watch that has lasted this long was a good one, whether it told something or not.
const GOOD_WATCH: Duration = Duration::from_secs(10);

/// How the API server is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// Objects in one page of a list, where lists are not streamed.
    pub page_size: u32,
    /// Whether to ask for streamed lists. A server that does not offer them is read in pages.
    pub streaming_lists: bool,
    /// How long a watch lasts before it is made anew, in seconds; less than 295. Watches end a little apart from one another.
    pub watch_seconds: u32,
    /// How long a watch may be silent before its connection counts as dead. The API server sends a bookmark about every minute.
    pub silence: Duration,
    /// Label selector of the ProxySnapshots that are watched: those of other meshes are none of ours. `None` for all.
    pub proxy_snapshots: Option<String>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            page_size: 250,
            streaming_lists: true,
            watch_seconds: 290,
            silence: Duration::from_secs(150),
            proxy_snapshots: None,
        }
    }
}

/// Reads all kinds of the list from the API server and goes on telling what changes, until the receiver is dropped.
///
/// What is told is what a folder with the same objects would tell, but without the fields that the mesh does not use, and objects
/// of our kinds without status: that goes to `stored`, and a change of status alone is not told. ProxySnapshots go to `stored`
/// only. The objects of a list are told as one change. [`SourceEvent::Synced`] comes when every kind that is told has been listed.
///
/// An object that cannot be decoded is a problem of its own; its last good state, if there was one, stays. A server that refuses,
/// fails, hangs or is away changes nothing of what was told; it is asked again, less and less often, and what it says then is
/// compared with what was told. Must be called within a tokio runtime.
pub fn watch(client: Client, options: WatchOptions, stored: StoredObjects) -> mpsc::Receiver<SourceEvent> {
    let (events, receiver) = mpsc::channel(CHANNEL_EVENTS);
    tokio::spawn(run(client, options, stored, events));
    receiver
}

async fn run(client: Client, options: WatchOptions, stored: StoredObjects, events: mpsc::Sender<SourceEvent>) {
    let (sender, tidings) = mpsc::channel(CHANNEL_TIDINGS);
    // Dropped, and with it all watches, when nobody listens any more.
    let mut watches = JoinSet::new();
    for kind in Kind::ALL {
        let (client, options) = (client.clone(), options.clone());
        let reading = Reading {
            kind: *kind,
            client,
            options,
            known: Known::new(*kind),
            stored: stored.clone(),
            tidings: sender.clone(),
        };
        watches.spawn(reading.run());
    }
    drop(sender);
    let awaited: BTreeSet<Kind> = Kind::ALL.iter().copied().filter(|kind| *kind != Kind::ProxySnapshot).collect();
    let closed = events.clone();
    tokio::select! {
        () = gather(tidings, events, awaited) => {}
        () = closed.closed() => {}
    }
}

/// The reading of one kind.
struct Reading {
    kind: Kind,
    client: Client,
    options: WatchOptions,
    known: Known,
    stored: StoredObjects,
    tidings: mpsc::Sender<Tidings>,
}

/// Why the reading of a kind stops for a moment.
enum Pause {
    /// It failed.
    Failed(RequestError),
    /// Nobody listens any more.
    Closed,
}

impl From<RequestError> for Pause {
    fn from(error: RequestError) -> Self {
        Self::Failed(error)
    }
}

/// How far a kind has been read.
enum Position {
    /// Its objects have to be listed.
    Unlisted,
    /// All has been told up to this version.
    At(String),
}

impl Reading {
    async fn run(mut self) {
        let mut position = Position::Unlisted;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut failing = false;
        loop {
            let begun = Instant::now();
            let told = self.read(&mut position, &mut failing).await;
            let good = begun.elapsed() >= GOOD_WATCH;
            let error = match told {
                Ok(()) if good => {
                    backoff.reset();
                    continue;
                }
                // The server ended the watch at once; it may do so again.
                Ok(()) => None,
                Err(Pause::Closed) => return,
                Err(Pause::Failed(error)) => Some(error),
            };
            if good {
                backoff.reset();
            }
            let wait = self.wait(error.as_ref(), &mut backoff);
            if let Some(error) = error {
                if error == RequestError::Expired {
                    tracing::debug!(kind = %self.kind, "the version to go on from is not kept, listing again");
                    position = Position::Unlisted;
                } else {
                    self.failed(&error, &mut failing, &position).await;
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn wait(&self, error: Option<&RequestError>, backoff: &mut Backoff) -> Duration {
        let wait = backoff.next(portion());
        match error {
            Some(RequestError::Throttled(after)) => wait.max(*after),
            Some(RequestError::NotFound(_)) => wait.min(LOOK_FOR_CRD_EVERY),
            Some(_) | None => wait,
        }
    }

    /// Reads until the server ends the watch.
    async fn read(&mut self, position: &mut Position, failing: &mut bool) -> Result<(), Pause> {
        if matches!(position, Position::Unlisted) && self.options.streaming_lists {
            match self.streamed_list().await {
                Ok((lines, version)) => {
                    *position = Position::At(version);
                    self.recovered(failing).await?;
                    return self.follow(lines, position).await;
                }
                Err(Pause::Failed(RequestError::Invalid(message))) => {
                    tracing::info!(kind = %self.kind, message, "the server does not stream lists, reading pages");
                    self.options.streaming_lists = false;
                }
                Err(Pause::Failed(error @ RequestError::TimedOut(_))) => {
                    // It may not know of streamed lists at all, and never say that one is complete.
                    self.options.streaming_lists = false;
                    return Err(error.into());
                }
                Err(other) => return Err(other),
            }
        }
        let version = match position {
            Position::At(version) => version.clone(),
            Position::Unlisted => {
                let version = self.paged_list().await?;
                *position = Position::At(version.clone());
                version
            }
        };
        let parameters = self.watch_parameters();
        let lines = open(&self.client, &self.path(), &parameters, &version, Keep::of(self.kind)).await?;
        self.recovered(failing).await?;
        self.follow(lines, position).await
    }

    /// Lists by a watch that begins with what is there. Gives the watch to go on with, and from which version it does.
    async fn streamed_list(&mut self) -> Result<(Lines, String), Pause> {
        let parameters = self.watch_parameters().initial_events();
        // Without a version the list is not older than anything that was ever told, from whichever server it comes.
        let mut lines = open(&self.client, &self.path(), &parameters, "", Keep::of(self.kind)).await?;
        self.known.begin_list();
        let mut news = News::default();
        loop {
            match next(&mut lines, ANSWER_WITHIN).await? {
                Some(Line::Applied(object)) => news.extend(self.known.apply(object)),
                Some(Line::Deleted(object)) => news.extend(self.known.delete(&object)),
                Some(Line::Bookmark { version, initial_end: true }) => {
                    self.listed(news).await?;
                    return Ok((lines, version));
                }
                Some(Line::Bookmark { .. }) => {}
                None => {
                    let message = "the server ended a streamed list before its end".to_owned();
                    return Err(RequestError::Unavailable(message).into());
                }
            }
        }
    }

    /// Lists page by page; gives the version to watch from.
    async fn paged_list(&mut self) -> Result<String, Pause> {
        self.known.begin_list();
        let mut news = News::default();
        let mut parameters = ListParams::default().limit(self.options.page_size);
        parameters.field_selector = field_selector(self.kind).map(str::to_owned);
        parameters.label_selector = self.label_selector().map(str::to_owned);
        loop {
            let page = page(&self.client, &self.path(), &parameters, Keep::of(self.kind)).await?;
            for object in page.items {
                news.extend(self.known.apply(object));
            }
            parameters.continue_token = page.next;
            if parameters.continue_token.is_none() {
                self.listed(news).await?;
                return Ok(page.version);
            }
        }
    }

    /// Tells what a list has brought, and that it is complete.
    async fn listed(&mut self, mut news: News) -> Result<(), Pause> {
        news.extend(self.known.end_list());
        self.tell(news, Some(self.kind)).await?;
        self.stored.listed(self.kind);
        Ok(())
    }

    async fn follow(&mut self, mut lines: Lines, position: &mut Position) -> Result<(), Pause> {
        while let Some(line) = next(&mut lines, self.options.silence).await? {
            let (version, news) = match line {
                Line::Applied(object) => (version(&object), self.known.apply(object)),
                Line::Deleted(object) => (version(&object), self.known.delete(&object)),
                Line::Bookmark { version, .. } => (version, News::default()),
            };
            if !version.is_empty() {
                *position = Position::At(version);
            }
            self.tell(news, None).await?;
        }
        Ok(())
    }

    async fn tell(&self, news: News, listed: Option<Kind>) -> Result<(), Pause> {
        for (object, stored) in news.stored {
            match stored {
                Some(stored) => self.stored.seen(&object, stored),
                None => self.stored.gone(&object),
            }
        }
        let problems: Vec<_> =
            news.problems.into_iter().map(|(object, problem)| (Subject::Object(object), problem)).collect();
        if news.changes.is_empty() && problems.is_empty() && listed.is_none() {
            return Ok(());
        }
        self.send(Tidings { changes: news.changes, problems, listed }).await
    }

    async fn send(&self, tidings: Tidings) -> Result<(), Pause> {
        self.tidings.send(tidings).await.map_err(|_| Pause::Closed)
    }

    /// Reading works again.
    async fn recovered(&self, failing: &mut bool) -> Result<(), Pause> {
        if !std::mem::replace(failing, false) {
            return Ok(());
        }
        tracing::info!(kind = %self.kind, "the kind is read again");
        let problems = vec![(Subject::Kind(self.kind), None)];
        self.send(Tidings { problems, ..Tidings::default() }).await
    }

    /// A failure while all is known may be over at once, as when the server restarts; it is told when it repeats. One that keeps
    /// us from knowing anything is told at once.
    async fn failed(&self, error: &RequestError, failing: &mut bool, position: &Position) {
        let repeated = std::mem::replace(failing, true);
        tracing::warn!(kind = %self.kind, %error, "the kind cannot be read, trying again");
        if repeated || !error.is_transient() || matches!(position, Position::Unlisted) {
            let problems = vec![(Subject::Kind(self.kind), Some(kind_problem(self.kind, error)))];
            // Nobody listens: the next thing to be told finds out, too.
            let _ = self.send(Tidings { problems, ..Tidings::default() }).await;
        }
    }

    fn path(&self) -> String {
        let (group, version, plural) = (self.kind.group(), self.kind.storage_version(), self.kind.plural());
        if group.is_empty() { format!("/api/{version}/{plural}") } else { format!("/apis/{group}/{version}/{plural}") }
    }

    fn watch_parameters(&self) -> WatchParams {
        // Watches that begin together would otherwise end together.
        let apart = (f64::from(self.options.watch_seconds) * portion() / 20.0) as u32;
        let parameters = WatchParams::default().timeout(self.options.watch_seconds.saturating_sub(apart).max(1));
        let parameters = match self.label_selector() {
            Some(labels) => parameters.labels(labels),
            None => parameters,
        };
        match field_selector(self.kind) {
            Some(fields) => parameters.fields(fields),
            None => parameters,
        }
    }

    fn label_selector(&self) -> Option<&str> {
        self.options.proxy_snapshots.as_deref().filter(|_| self.kind == Kind::ProxySnapshot)
    }
}

/// The next line; `None` when the server ends the watch. A connection that is silent for too long is given up.
async fn next(lines: &mut Lines, silence: Duration) -> Result<Option<Line>, RequestError> {
    match tokio::time::timeout(silence, lines.next()).await {
        Ok(line) => line.transpose(),
        Err(_) => Err(RequestError::TimedOut(silence)),
    }
}

/// Pods that have ended are none of the mesh's business, and of old Jobs there can be many.
fn field_selector(kind: Kind) -> Option<&'static str> {
    (kind == Kind::Pod).then_some("status.phase!=Succeeded,status.phase!=Failed")
}

fn version(object: &serde_json::Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

fn kind_problem(kind: Kind, error: &RequestError) -> Problem {
    let name = match kind.ownership() {
        Ownership::Own => crd_name(kind),
        Ownership::Read => kind.plural().to_owned(),
    };
    let (message, remedy) = match error {
        RequestError::NotFound(_) if kind.ownership() == Ownership::Own => (
            format!("there is no CustomResourceDefinition {name} with version {}", kind.storage_version()),
            "install the CRDs (chart osm-operator-crds); the operator waits for them".to_owned(),
        ),
        RequestError::Forbidden(_) => (
            format!("{name} may not be read: {error}"),
            format!("let the operator's ServiceAccount list and watch {name}{}", everywhere(kind)),
        ),
        _ => (
            format!("{name} cannot be read: {error}"),
            "see whether the API server is well; what was read before stays in force".to_owned(),
        ),
    };
    Problem::of_source(message, remedy)
}

fn everywhere(kind: Kind) -> &'static str {
    match kind.scope() {
        Scope::Namespaced => " in all namespaces",
        Scope::Cluster => "",
    }
}

#[cfg(test)]
mod equality_tests;
#[cfg(test)]
mod tests;
