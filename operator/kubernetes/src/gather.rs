//! Gathers what the watches of all kinds say into events for one reader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use osm_api::{Kind, Object, ObjectRef};
use osm_source::{Problem, SourceEvent};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long changes are gathered after others were told. The first after a pause is told at once.
pub(crate) const GATHER: Duration = Duration::from_millis(10);

/// Most changes that are told as one event, beyond the list of a kind that they come from.
const MOST_CHANGES: usize = 5_000;

/// What a watch tells.
#[derive(Debug, Default)]
pub(crate) struct Tidings {
    /// Objects, each in its latest state.
    pub(crate) changes: Vec<(ObjectRef, Option<Object>)>,
    /// Problems, each in place of what was said before about the same.
    pub(crate) problems: Vec<(Subject, Option<Problem>)>,
    /// All objects of a kind have been listed.
    pub(crate) listed: Option<Kind>,
}

/// What a problem is about. Kinds come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// All objects of a kind.
    Kind(Kind),
    /// One object.
    Object(ObjectRef),
}

/// What has been told and what has not.
#[derive(Debug)]
struct Gathering {
    changes: BTreeMap<ObjectRef, Option<Object>>,
    problems: BTreeMap<Subject, Problem>,
    problems_differ: bool,
    /// Kinds whose list is not there yet.
    awaited: BTreeSet<Kind>,
    synced: bool,
}

impl Gathering {
    fn new(awaited: BTreeSet<Kind>) -> Self {
        Self { changes: BTreeMap::new(), problems: BTreeMap::new(), problems_differ: false, awaited, synced: false }
    }

    fn add(&mut self, tidings: Tidings) {
        self.changes.extend(tidings.changes);
        for (subject, problem) in tidings.problems {
            let before = match problem.clone() {
                Some(problem) => self.problems.insert(subject, problem),
                None => self.problems.remove(&subject),
            };
            self.problems_differ |= before != problem;
        }
        if let Some(kind) = tidings.listed {
            self.awaited.remove(&kind);
        }
    }

    /// What there is to tell.
    fn take(&mut self) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        if !self.changes.is_empty() {
            events.push(SourceEvent::Changes(std::mem::take(&mut self.changes).into_iter().collect()));
        }
        if std::mem::take(&mut self.problems_differ) {
            events.push(SourceEvent::Problems(self.problems.values().cloned().collect()));
        }
        if self.awaited.is_empty() && !std::mem::replace(&mut self.synced, self.awaited.is_empty()) {
            events.push(SourceEvent::Synced);
        }
        events
    }
}

/// Tells until nobody listens or nobody says anything any more.
pub(crate) async fn gather(
    mut tidings: mpsc::Receiver<Tidings>,
    events: mpsc::Sender<SourceEvent>,
    awaited: BTreeSet<Kind>,
) {
    let mut gathering = Gathering::new(awaited);
    let mut last_told: Option<Instant> = None;
    while let Some(first) = tidings.recv().await {
        gathering.add(first);
        let until = last_told.map_or_else(Instant::now, |told| told + GATHER);
        loop {
            while let Ok(more) = tidings.try_recv() {
                gathering.add(more);
            }
            if gathering.changes.len() > MOST_CHANGES || Instant::now() >= until {
                break;
            }
            match tokio::time::timeout_at(until, tidings.recv()).await {
                Ok(Some(more)) => gathering.add(more),
                Ok(None) | Err(_) => break,
            }
        }
        for event in gathering.take() {
            if events.send(event).await.is_err() {
                return;
            }
            last_told = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(name: &str, account: &str) -> Tidings {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "serviceAccountName": account },
        });
        let object = osm_api::decode(object, osm_api::Strictness::Lenient).unwrap();
        Tidings { changes: vec![(object.reference(), Some(object))], ..Tidings::default() }
    }

    fn names(event: &SourceEvent) -> Vec<&str> {
        match event {
            SourceEvent::Changes(changes) => changes.iter().map(|(object, _)| object.name.as_str()).collect(),
            SourceEvent::Problems(_) | SourceEvent::Synced => panic!("{event:?}"),
        }
    }

    fn start(awaited: &[Kind]) -> (mpsc::Sender<Tidings>, mpsc::Receiver<SourceEvent>) {
        let (sender, tidings) = mpsc::channel(100);
        let (events, receiver) = mpsc::channel(16);
        tokio::spawn(gather(tidings, events, awaited.iter().copied().collect()));
        (sender, receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_is_told_at_once_and_those_soon_after_it_together() {
        let (sender, mut events) = start(&[Kind::Pod]);
        let begun = Instant::now();
        sender.send(change("a", "x")).await.unwrap();
        assert_eq!(names(&events.recv().await.unwrap()), ["a"]);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for name in ["d", "c", "b"] {
            sender.send(change(name, "x")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        sender.send(change("c", "y")).await.unwrap();
        let together = events.recv().await.unwrap();
        assert_eq!(names(&together), ["b", "c", "d"]);
        let SourceEvent::Changes(changes) = &together else { panic!("{together:?}") };
        let Some(Object::Pod(pod)) = &changes[1].1 else { panic!("{together:?}") };
        assert_eq!(pod.spec.as_ref().unwrap().service_account_name.as_deref(), Some("y"), "the latest state counts");
        assert!(begun.elapsed() <= GATHER + Duration::from_millis(2), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn synced_is_said_once_after_every_list() {
        let (sender, mut events) = start(&[Kind::Pod, Kind::Service]);
        sender.send(Tidings { listed: Some(Kind::Service), ..Tidings::default() }).await.unwrap();
        sender.send(Tidings { listed: Some(Kind::Pod), ..change("a", "x") }).await.unwrap();
        assert_eq!(names(&events.recv().await.unwrap()), ["a"]);
        assert_eq!(events.recv().await, Some(SourceEvent::Synced));
        sender.send(Tidings { listed: Some(Kind::Pod), ..change("b", "x") }).await.unwrap();
        assert_eq!(names(&events.recv().await.unwrap()), ["b"]);
        drop(sender);
        assert_eq!(events.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn problems_are_told_when_they_change() {
        let (sender, mut events) = start(&[Kind::Pod]);
        let object = ObjectRef::new(Kind::Pod, "shop", "a");
        let problem = Problem::of_object(object.clone(), "is bad", "mend it");
        let tell = |problem: Option<Problem>| Tidings {
            problems: vec![(Subject::Object(object.clone()), problem)],
            ..Tidings::default()
        };
        sender.send(tell(Some(problem.clone()))).await.unwrap();
        assert_eq!(events.recv().await, Some(SourceEvent::Problems(vec![problem.clone()])));
        sender.send(tell(Some(problem))).await.unwrap();
        sender.send(tell(None)).await.unwrap();
        assert_eq!(events.recv().await, Some(SourceEvent::Problems(vec![])));
        sender.send(tell(None)).await.unwrap();
        drop(sender);
        assert_eq!(events.recv().await, None);
    }
}
