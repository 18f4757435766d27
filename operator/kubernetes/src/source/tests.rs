use std::collections::BTreeMap;

use futures::FutureExt;
use osm_api::{Object, ObjectRef};
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Fault};

const PODS: &str = "/api/v1/pods";
const TARGETS: &str = "/apis/access.smi-spec.io/v1alpha3/traffictargets";

fn pod(name: &str, address: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name, "managedFields": [{}] },
        "spec": { "serviceAccountName": "a", "containers": [{ "name": "c" }] },
        "status": { "phase": "Running", "podIP": address },
    })
}

/// Reads what a source tells into what its reader would hold.
struct Reader {
    events: mpsc::Receiver<SourceEvent>,
    objects: BTreeMap<ObjectRef, Object>,
    problems: Vec<Problem>,
    synced: bool,
    changes: usize,
}

impl Reader {
    fn start(fake: &Fake) -> (Self, StoredObjects) {
        let stored = StoredObjects::default();
        let events = watch(fake.client(), WatchOptions::default(), stored.clone());
        let reader = Self { events, objects: BTreeMap::new(), problems: Vec::new(), synced: false, changes: 0 };
        (reader, stored)
    }

    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                assert!(!changes.is_empty() && changes.is_sorted_by(|a, b| a.0 < b.0), "{changes:?}");
                self.changes += 1;
                for (name, object) in changes {
                    match object {
                        Some(object) => drop(self.objects.insert(name, object)),
                        None => assert!(self.objects.remove(&name).is_some(), "{name} was never told"),
                    }
                }
            }
            SourceEvent::Problems(problems) => self.problems = problems,
            SourceEvent::Synced => assert!(!std::mem::replace(&mut self.synced, true), "said twice"),
        }
    }

    /// Reads until the condition holds. Time is virtual: this cannot take long.
    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + Duration::from_secs(900);
        while !condition(self) {
            match tokio::time::timeout_at(limit, self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                other => panic!("waiting for {what}: {other:?}; {:?} {:?}", self.objects.keys(), self.problems),
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        self.objects.keys().map(|object| object.name.as_str()).collect()
    }

    fn address(&self, name: &str) -> Option<&str> {
        match self.objects.get(&ObjectRef::new(Kind::Pod, "shop", name))? {
            Object::Pod(pod) => pod.status.as_ref()?.pod_ip.as_deref(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_comes_as_one_change_then_synced_then_what_changes() {
    for fake in [Fake::new(), Fake::without_streamed_lists()] {
        for name in ["b", "a", "c"] {
            fake.put(PODS, pod(name, "10.0.0.1"));
        }
        let (mut reader, _) = Reader::start(&fake);
        reader.until("the list", |reader| reader.synced).await;
        assert_eq!((reader.names(), reader.changes), (vec!["a", "b", "c"], 1));
        let Object::Pod(told) = &reader.objects[&ObjectRef::new(Kind::Pod, "shop", "a")] else { panic!() };
        assert_eq!(told.metadata.managed_fields, None);
        assert_eq!(told.spec.as_ref().unwrap().containers.len(), 0, "what the mesh does not use is not kept");
        fake.put(PODS, pod("a", "10.0.0.2"));
        reader.until("a change", |reader| reader.address("a") == Some("10.0.0.2")).await;
        fake.delete(PODS, "shop", "b");
        reader.until("a removal", |reader| reader.names() == ["a", "c"]).await;
        assert!(reader.problems.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_used_where_lists_are_not_streamed() {
    let fake = Fake::without_streamed_lists();
    fake.put(PODS, pod("a", "10.0.0.1"));
    let (mut reader, _) = Reader::start(&fake);
    reader.until("the list", |reader| reader.synced).await;
    let requests = fake.requests("/pods");
    let queries: Vec<&str> = requests.iter().map(|seen| seen.query.as_str()).collect();
    assert!(queries[0].contains("sendInitialEvents=true") && queries[1].contains("limit=250"), "{queries:?}");
    assert!(queries[1].contains("status.phase%21%3DSucceeded"), "{queries:?}");
}

#[tokio::test(start_paused = true)]
async fn every_failure_is_survived_and_nothing_that_was_told_is_lost() {
    let faults = [
        Fault::Status(500),
        Fault::Status(410),
        Fault::TooManyRequests(3),
        Fault::Hang,
        Fault::Broken,
        Fault::Text("<html>bad gateway</html>\n"),
        Fault::Text("{\"type\":\"ADDED\"}\n"),
        Fault::Status(503),
        Fault::Text(""),
    ];
    for fault in faults {
        let fake = Fake::new();
        fake.put(PODS, pod("a", "10.0.0.1"));
        let (mut reader, _) = Reader::start(&fake);
        reader.until("the list", |reader| reader.synced).await;
        for _ in 0..3 {
            fake.fail("/pods", fault.clone());
        }
        fake.end_watches(PODS);
        let limit = Instant::now() + Duration::from_secs(300);
        while fake.watches(PODS) == 0 {
            assert!(Instant::now() < limit, "{fault:?}: nobody watches again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(fake.requests("/pods").len() >= 5, "{fault:?}: all three failures were met");
        fake.put(PODS, pod("b", "10.0.0.2"));
        reader.until("a change", |reader| reader.names() == ["a", "b"]).await;
        reader.until("no problem", |reader| reader.problems.is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_is_followed_by_a_list() {
    for fake in [Fake::new(), Fake::without_streamed_lists()] {
        fake.put(PODS, pod("a", "10.0.0.1"));
        fake.put(PODS, pod("b", "10.0.0.1"));
        let (mut reader, _) = Reader::start(&fake);
        reader.until("the list", |reader| reader.synced).await;
        fake.fail("/pods", Fault::Status(410));
        fake.delete_unseen(PODS, "shop", "a");
        fake.put(PODS, pod("b", "10.0.0.2"));
        fake.put(PODS, pod("c", "10.0.0.3"));
        reader.until("the new state", |reader| reader.names() == ["b", "c"]).await;
        assert_eq!((reader.changes, reader.address("b")), (2, Some("10.0.0.2")), "as one change");
        // As it is said within a watch.
        fake.say(PODS, &json!({ "type": "ERROR", "object": { "code": 410, "message": "too old" } }));
        let before = fake.requests("/pods").len();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(fake.requests("/pods").len() > before);
        fake.put(PODS, pod("c", "10.0.0.4"));
        reader.until("a change", |reader| reader.address("c") == Some("10.0.0.4")).await;
        assert_eq!(reader.problems, []);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_at_the_first_list_delay_it_and_are_told() {
    for fault in [Fault::Status(500), Fault::Hang, Fault::Broken, Fault::TooManyRequests(20), Fault::Status(403)] {
        let fake = Fake::new();
        fake.put(PODS, pod("a", "10.0.0.1"));
        for _ in 0..4 {
            fake.fail("/pods", fault.clone());
        }
        let (mut reader, _) = Reader::start(&fake);
        reader.until("a problem", |reader| !reader.problems.is_empty()).await;
        let problem = reader.problems[0].to_string();
        assert!(problem.contains("pods"), "{problem}");
        assert!(!reader.synced, "{fault:?}");
        reader.until("the list", |reader| reader.synced && reader.problems.is_empty()).await;
        assert_eq!(reader.names(), ["a"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_s_time_to_wait_is_kept_and_waits_grow() {
    let fake = Fake::new();
    fake.fail("/pods", Fault::TooManyRequests(17));
    for _ in 0..8 {
        fake.fail("/pods", Fault::Status(500));
    }
    let (mut reader, _) = Reader::start(&fake);
    reader.until("the list", |reader| reader.synced).await;
    let times: Vec<_> = fake.requests("/pods").iter().map(|seen| seen.at).collect();
    let waits: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= Duration::from_secs(17), "{waits:?}");
    assert!(waits[7] >= Duration::from_secs(5) && waits[7] <= LONGEST_WAIT + Duration::from_millis(10), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_given_up() {
    let fake = Fake::new();
    fake.put(PODS, pod("a", "10.0.0.1"));
    let (mut reader, _) = Reader::start(&fake);
    reader.until("the list", |reader| reader.synced).await;
    let before = fake.requests("/pods").len();
    let silence = WatchOptions::default().silence;
    tokio::time::sleep(silence * 2).await;
    let requests = fake.requests("/pods");
    assert!(requests.len() > before, "the watch was made anew");
    assert!(requests[before].query.contains("resourceVersion=1"), "from where it was: {:?}", requests[before]);
    fake.put(PODS, pod("a", "10.0.0.9"));
    reader.until("a change", |reader| reader.address("a") == Some("10.0.0.9")).await;
}

#[tokio::test(start_paused = true)]
async fn bookmarks_keep_a_watch_alive_and_move_it_on() {
    let fake = Fake::new();
    let (mut reader, _) = Reader::start(&fake);
    reader.until("the list", |reader| reader.synced).await;
    let before = fake.requests("/pods").len();
    for version in 100..110 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let metadata = json!({ "resourceVersion": version.to_string() });
        fake.say(PODS, &json!({ "type": "BOOKMARK", "object": { "metadata": metadata } }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.requests("/pods").len(), before);
    fake.end_watches(PODS);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let requests = fake.requests("/pods");
    assert!(requests[before].query.contains("resourceVersion=109"), "{:?}", requests[before]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_stops_nothing() {
    let fake = Fake::new();
    let odd = json!({ "metadata": { "name": "odd", "namespace": "shop", "uid": "o" }, "spec": 5, "status": [] });
    fake.put(PODS, odd);
    fake.put(PODS, pod("a", "10.0.0.1"));
    let unknown = json!({
        "metadata": { "name": "t", "namespace": "shop", "uid": "t", "generation": 1 },
        "spec": {
            "destination": { "kind": "ServiceAccount", "name": "a" }, "rules": [], "sources": [], "fromTheFuture": { "a": [1] },
        },
        "alsoNew": true, "status": { "conditions": 5 },
    });
    fake.put(TARGETS, unknown);
    let (mut reader, stored) = Reader::start(&fake);
    reader.until("the list", |reader| reader.synced && !reader.problems.is_empty()).await;
    assert_eq!(reader.names(), ["t", "a"], "unknown fields are no matter");
    let problem = reader.problems[0].to_string();
    assert!(problem.starts_with("pod/shop/odd: ") && problem.contains("no effect"), "{problem}");
    let target = ObjectRef::new(Kind::TrafficTarget, "shop", "t");
    assert_eq!(stored.get(&target).unwrap().status, Some(json!({ "conditions": 5 })));
    fake.put(PODS, pod("odd", "10.0.0.2"));
    reader.until("it is mended", |reader| reader.problems.is_empty()).await;
    reader.until("it is told", |reader| reader.address("odd") == Some("10.0.0.2")).await;
}

#[tokio::test(start_paused = true)]
async fn a_status_that_we_write_is_not_told() {
    let fake = Fake::new();
    let target = |status: &str| {
        json!({
            "metadata": { "name": "t", "namespace": "shop", "uid": "t", "generation": 1 },
            "spec": { "destination": { "kind": "ServiceAccount", "name": "a" }, "rules": [], "sources": [] }, "status": { "is": status },
        })
    };
    fake.put(TARGETS, target("old"));
    let (mut reader, stored) = Reader::start(&fake);
    reader.until("the list", |reader| reader.synced).await;
    stored.changed().await;
    fake.put(TARGETS, target("new"));
    let name = ObjectRef::new(Kind::TrafficTarget, "shop", "t");
    assert_eq!(stored.changed().await, [name.clone()].into());
    assert_eq!(stored.get(&name).unwrap().status, Some(json!({ "is": "new" })));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(reader.events.recv().now_or_never(), None);
    assert_eq!(reader.changes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_crd_is_named_and_waited_for() {
    let fake = Fake::new();
    for _ in 0..5 {
        fake.fail("/traffictargets", Fault::Status(404));
    }
    let (mut reader, stored) = Reader::start(&fake);
    reader.until("a problem", |reader| !reader.problems.is_empty()).await;
    let problem = reader.problems[0].to_string();
    assert!(
        problem.contains("traffictargets.access.smi-spec.io") && problem.contains("osm-operator-crds"),
        "{problem}"
    );
    assert!(!reader.synced && !stored.is_listed(Kind::TrafficTarget));
    reader.until("the CRD", |reader| reader.synced && reader.problems.is_empty()).await;
    assert!(stored.is_listed(Kind::TrafficTarget));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_any_more_when_nobody_listens() {
    let fake = Fake::new();
    let (mut reader, _) = Reader::start(&fake);
    reader.until("the list", |reader| reader.synced).await;
    assert_eq!(fake.watches(PODS), 1);
    drop(reader);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.watches(PODS), 0);
    let before = fake.requests("").len();
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(fake.requests("").len(), before);
}

#[tokio::test(start_paused = true)]
async fn an_idle_operator_hardly_asks() {
    let fake = Fake::new();
    let (mut reader, _) = Reader::start(&fake);
    reader.until("the list", |reader| reader.synced).await;
    // As a server that sends bookmarks and ends watches when it was asked to.
    let before = fake.requests("").len();
    for minute in 0..60 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let metadata = json!({ "resourceVersion": (100 + minute).to_string() });
        for seen in fake.requests("") {
            fake.say(&seen.path, &json!({ "type": "BOOKMARK", "object": { "metadata": metadata } }));
            if minute % 5 == 4 {
                fake.end_watches(&seen.path);
            }
        }
    }
    let per_minute = (fake.requests("").len() - before) / 60;
    assert!(per_minute <= 3, "{per_minute} requests a minute");
}
