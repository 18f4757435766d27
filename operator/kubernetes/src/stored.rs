//! What the API server holds beside the part of an object that the mesh reads: status, and what a write refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use osm_api::{Kind, ObjectRef};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

/// The objects of our kinds as the API server has them, without their spec. Handles are clones of one another.
///
/// The source fills it from its watches, and a [`Writer`](crate::Writer) with what it has written, so that its own writes
/// coming back are no news.
#[derive(Clone, Debug, Default)]
pub struct StoredObjects {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectRef, Entry>,
    changed: BTreeSet<ObjectRef>,
    listed: BTreeSet<Kind>,
}

/// Status is kept as text: a tree of it takes several times the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uid: Box<str>,
    resource_version: Box<str>,
    generation: i64,
    status: Option<Box<str>>,
}

/// What the API server holds of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredObject {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`; 0 if it has none.
    pub generation: i64,
    /// `status`.
    pub status: Option<Value>,
}

impl StoredObjects {
    /// What is known of an object; `None` when it is not there.
    pub fn get(&self, object: &ObjectRef) -> Option<StoredObject> {
        let entry = self.shared.state.lock().objects.get(object).cloned()?;
        Some(StoredObject {
            uid: entry.uid.into(),
            resource_version: entry.resource_version.into(),
            generation: entry.generation,
            status: entry.status.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        })
    }

    /// The objects of a kind, ordered. Of kinds that are not ours there are none.
    pub fn references(&self, kind: Kind) -> Vec<ObjectRef> {
        self.shared.state.lock().objects.keys().filter(|object| object.kind == kind).cloned().collect()
    }

    /// Whether the objects of a kind have been listed once. Before that, what is not here may be there all the same.
    pub fn is_listed(&self, kind: Kind) -> bool {
        self.shared.state.lock().listed.contains(&kind)
    }

    /// Waits until objects are new, gone, or have a status that we have not written, and gives all of them. What is given once is
    /// not given again; meant for one reader.
    pub async fn changed(&self) -> BTreeSet<ObjectRef> {
        loop {
            let news = self.shared.news.notified();
            let changed = std::mem::take(&mut self.shared.state.lock().changed);
            if !changed.is_empty() {
                return changed;
            }
            news.await;
        }
    }

    /// A watch has shown the object.
    pub(crate) fn seen(&self, object: &ObjectRef, stored: StoredObject) {
        let news = {
            let mut state = self.shared.state.lock();
            let entry = Entry::from(stored);
            let news = match state.objects.get(object) {
                Some(known) if known.is_newer_than(&entry) => return,
                Some(known) => !known.says_the_same(&entry),
                None => true,
            };
            state.objects.insert(object.clone(), entry);
            if news {
                state.changed.insert(object.clone());
            }
            news
        };
        if news {
            self.shared.news.notify_one();
        }
    }

    /// A watch has shown that the object is gone.
    pub(crate) fn gone(&self, object: &ObjectRef) {
        let was_there = {
            let mut state = self.shared.state.lock();
            let was_there = state.objects.remove(object).is_some();
            if was_there {
                state.changed.insert(object.clone());
            }
            was_there
        };
        if was_there {
            self.shared.news.notify_one();
        }
    }

    /// We have written the object, and this is what the server answered.
    pub(crate) fn written(&self, object: &ObjectRef, stored: StoredObject) {
        let mut state = self.shared.state.lock();
        let entry = Entry::from(stored);
        if !state.objects.get(object).is_some_and(|known| known.is_newer_than(&entry)) {
            state.objects.insert(object.clone(), entry);
        }
    }

    /// All objects of the kind have been shown.
    pub(crate) fn listed(&self, kind: Kind) {
        self.shared.state.lock().listed.insert(kind);
    }
}

impl StoredObject {
    /// Reads it from an object as the API server gives it; `status` is taken out.
    pub(crate) fn take(object: &mut Value) -> Self {
        let status = object.as_object_mut().and_then(|fields| fields.remove("status"));
        let text = |field| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Self {
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            generation: object["metadata"]["generation"].as_i64().unwrap_or_default(),
            status: status.filter(|status| !status.is_null()),
        }
    }
}

impl Entry {
    /// Whether this is a later state of the same object. Versions of an object are numbers that rise; where they are not, the
    /// last one shown counts.
    fn is_newer_than(&self, other: &Self) -> bool {
        let number = |entry: &Self| entry.resource_version.parse::<u64>().ok();
        match (number(self), number(other)) {
            (Some(known), Some(other_version)) => self.uid == other.uid && known > other_version,
            _ => false,
        }
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.uid == other.uid && self.status == other.status
    }
}

impl From<StoredObject> for Entry {
    fn from(stored: StoredObject) -> Self {
        Self {
            uid: stored.uid.into(),
            resource_version: stored.resource_version.into(),
            generation: stored.generation,
            status: stored.status.map(|status| status.to_string().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::json;

    use super::*;

    fn stored(uid: &str, version: u64, status: &str) -> StoredObject {
        StoredObject {
            uid: uid.into(),
            resource_version: version.to_string(),
            generation: 1,
            status: Some(json!({ "is": status })),
        }
    }

    #[test]
    fn only_what_we_did_not_write_is_news() {
        let objects = StoredObjects::default();
        let target = ObjectRef::new(Kind::TrafficTarget, "shop", "buyer");
        objects.seen(&target, stored("a", 1, "old"));
        assert_eq!(objects.changed().now_or_never(), Some([target.clone()].into()));
        objects.written(&target, stored("a", 2, "ours"));
        objects.seen(&target, stored("a", 2, "ours"));
        assert_eq!(objects.changed().now_or_never(), None);
        objects.seen(&target, stored("a", 3, "theirs"));
        assert_eq!(objects.changed().now_or_never(), Some([target.clone()].into()));
        objects.gone(&target);
        assert_eq!(objects.changed().now_or_never(), Some([target.clone()].into()));
        assert_eq!(objects.get(&target), None);
        objects.gone(&target);
        assert_eq!(objects.changed().now_or_never(), None);
    }

    #[test]
    fn a_watch_that_lags_behind_does_not_take_back_what_was_written() {
        let objects = StoredObjects::default();
        let target = ObjectRef::new(Kind::TrafficTarget, "shop", "buyer");
        objects.written(&target, stored("a", 9, "ours"));
        objects.seen(&target, stored("a", 8, "before"));
        assert_eq!(objects.get(&target), Some(stored("a", 9, "ours")));
        // Another object of that name has versions of its own.
        objects.seen(&target, stored("b", 3, "another"));
        assert_eq!(objects.get(&target), Some(stored("b", 3, "another")));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let objects = StoredObjects::default();
        let target = ObjectRef::new(Kind::TrafficTarget, "shop", "buyer");
        let waiting = tokio::spawn({
            let objects = objects.clone();
            async move { objects.changed().await }
        });
        tokio::task::yield_now().await;
        objects.seen(&target, stored("a", 1, "new"));
        assert_eq!(waiting.await.unwrap(), [target].into());
    }
}
