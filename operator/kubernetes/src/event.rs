//! Events: what people read in `kubectl describe`.

mod series;

use std::time::Duration;

use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{ObjectRef, Scope};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::RequestError;
use crate::lease::micro_time;
use crate::request::{send, unusable};
use crate::stored::StoredObjects;
use series::{Series, Write};

/// Events that may wait to be looked at. More are dropped: they are for people, and nobody waits for them.
const WAITING: usize = 1_024;

/// Longest note that the API server takes, in bytes.
const MAX_NOTE_BYTES: usize = 1_024;

/// Namespace of events about objects without one.
const DEFAULT_NAMESPACE: &str = "default";

/// Whether an event is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// All is as it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordedEvent {
    /// The object.
    pub object: ObjectRef,
    /// Good or bad.
    pub type_: EventType,
    /// Why, in one word for programs, as in the object's conditions.
    pub reason: String,
    /// What happened, in a sentence for people.
    pub note: String,
}

/// How much is written about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// Writes in a row.
    pub burst: u32,
    /// How long it takes until there may be one more.
    pub refill: Duration,
    /// How often the count of an event that repeats is written at the most.
    pub count_every: Duration,
}

impl Default for EventLimits {
    /// Three, then one each half minute; counts each minute.
    fn default() -> Self {
        Self { burst: 3, refill: Duration::from_secs(30), count_every: Duration::from_secs(60) }
    }
}

/// Records events, in the background and within limits: of each object a few a minute, however often it fails. What repeats is
/// counted in the series of the first. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    events: mpsc::Sender<RecordedEvent>,
}

impl EventRecorder {
    /// A recorder that writes as `instance`, the name of this replica. Must be called within a tokio runtime; stops with its last
    /// handle.
    pub fn new(client: Client, stored: StoredObjects, instance: String) -> Self {
        Self::with_limits(client, stored, instance, EventLimits::default())
    }

    /// As [`EventRecorder::new`], within other limits.
    pub fn with_limits(client: Client, stored: StoredObjects, instance: String, limits: EventLimits) -> Self {
        let (events, receiver) = mpsc::channel(WAITING);
        let recording = Recording { client, stored, instance, series: Series::new(limits) };
        tokio::spawn(recording.run(receiver));
        Self { events }
    }

    /// Records an event. Never waits, and never fails.
    pub fn record(&self, object: &ObjectRef, type_: EventType, reason: &str, note: &str) {
        let note = shorten(note);
        let event = RecordedEvent { object: object.clone(), type_, reason: reason.to_owned(), note };
        if self.events.try_send(event).is_err() {
            tracing::debug!(%object, reason, "an event is dropped");
        }
    }
}

fn shorten(note: &str) -> String {
    let mut end = note.len().min(MAX_NOTE_BYTES);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}

struct Recording {
    client: Client,
    stored: StoredObjects,
    instance: String,
    series: Series,
}

impl Recording {
    async fn run(mut self, mut events: mpsc::Receiver<RecordedEvent>) {
        let forever = Duration::from_secs(3_600);
        loop {
            let due = self.series.next_due().unwrap_or_else(|| Instant::now() + forever);
            let writes = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.series.record(event, Instant::now(), Timestamp::now()).into_iter().collect(),
                    None => return,
                },
                () = tokio::time::sleep_until(due) => self.series.due(Instant::now()),
            };
            for write in writes {
                if let Err(error) = self.write(&write).await {
                    // An event is not worth a second try; the conditions of the object say the same.
                    tracing::debug!(%error, object = %write.event().object, "an event cannot be written");
                    self.series.failed(&write, matches!(error, RequestError::NotFound(_)));
                }
            }
        }
    }

    async fn write(&self, write: &Write) -> Result<(), RequestError> {
        let event = write.event();
        let namespace = match event.object.kind.scope() {
            Scope::Namespaced => event.object.namespace.as_str(),
            Scope::Cluster => DEFAULT_NAMESPACE,
        };
        let requests = Request::new(format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
        let request = match write {
            Write::New { event, name, time } => {
                let parameters =
                    PostParams { field_manager: Some(crate::FIELD_MANAGER.to_owned()), ..PostParams::default() };
                let body = self.event(event, namespace, name, *time).to_string().into_bytes();
                requests.create(&parameters, body)
            }
            Write::Again { name, count, last, .. } => {
                let series = json!({ "series": { "count": count, "lastObservedTime": micro_time(*last) } });
                let parameters =
                    PatchParams { field_manager: Some(crate::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                requests.patch(name, &parameters, &Patch::Merge(series))
            }
        };
        send(&self.client, request.map_err(unusable)?).await.map(drop)
    }

    fn event(&self, event: &RecordedEvent, namespace: &str, name: &str, time: Timestamp) -> serde_json::Value {
        let RecordedEvent { object, type_, reason, note } = event;
        let mut regarding = json!({
            "apiVersion": object.kind.api_version(), "kind": object.kind.as_str(), "name": object.name,
        });
        if object.kind.scope() == Scope::Namespaced {
            regarding["namespace"] = object.namespace.as_str().into();
        }
        // kubectl finds the events of an object by its uid.
        if let Some(stored) = self.stored.get(object) {
            regarding["uid"] = stored.uid.into();
            regarding["resourceVersion"] = stored.resource_version.into();
        }
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": { "namespace": namespace, "name": name },
            "eventTime": micro_time(time),
            "reportingController": "openservicemesh.io/osm-operator",
            "reportingInstance": self.instance,
            "action": "Reconcile",
            "regarding": regarding,
            "type": type_.as_str(), "reason": reason, "note": note,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_cut_between_letters() {
        let note = "ä".repeat(600);
        let cut = shorten(&note);
        assert!(cut.len() <= MAX_NOTE_BYTES && note.starts_with(&cut) && cut.len() >= MAX_NOTE_BYTES - 1);
        assert_eq!(shorten("short"), "short");
    }
}
