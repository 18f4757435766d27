use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::{Cache, Epoch, Interest, InterestChange, SnapshotKey, Subscriber};
use crate::layer::{Delivery, Layer};
use crate::policy::ProxyName;
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::type_url::TypeUrl;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream as the cache sees it.
struct Watching {
    subscriber: Subscriber,
    wakes: Arc<Wakes>,
}

impl Watching {
    fn new(cache: &Cache, proxy: &str, interest: &[Interest]) -> Self {
        let subscriber = cache.subscribe(&key(), &ProxyName::new(proxy)).unwrap();
        let changes = interest.iter().map(|what| InterestChange {
            type_url: TypeUrl::ClusterLoadAssignment,
            what: what.clone(),
            held: true,
        });
        subscriber.change_interest(changes);
        subscriber.set_synced(subscriber.current().map(|current| current.epoch));
        let watching = Self { subscriber, wakes: Arc::default() };
        watching.register();
        watching
    }

    fn register(&self) {
        self.subscriber.register(&Waker::from(Arc::clone(&self.wakes)));
    }

    /// Whether it was woken since the last call.
    fn woken(&self) -> bool {
        let woken = self.wakes.0.swap(0, Ordering::Relaxed) > 0;
        self.register();
        woken
    }
}

fn key() -> SnapshotKey {
    SnapshotKey::new("key")
}

fn endpoints(name: &str, content: u32) -> Arc<Resource> {
    let message = ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        policy: Some(Policy { overprovisioning_factor: Some(UInt32Value { value: content + 1 }), ..Policy::default() }),
        ..ClusterLoadAssignment::default()
    };
    Arc::new(Resource::new(name, &message).unwrap())
}

fn publish(cache: &Cache, layer: &Layer) -> super::Publication {
    cache.publish([(key(), Some(Arc::new(Snapshot::new([layer.clone()]))))])
}

#[test]
fn only_streams_that_hold_what_changed_are_woken_and_the_others_stay_synced() {
    let cache = Cache::new();
    let mut layer = Layer::new();
    layer.insert(endpoints("a", 0), Delivery::Wildcard);
    layer.insert(endpoints("n", 0), Delivery::Named);
    assert_eq!(publish(&cache, &layer).epoch, Epoch(1));
    let a = Watching::new(&cache, "a", &[Interest::Names(vec![Arc::from("a")])]);
    let n = Watching::new(&cache, "n", &[Interest::Names(vec![Arc::from("n")])]);
    let all = Watching::new(&cache, "all", &[Interest::Wildcard]);

    layer.insert(endpoints("n", 1), Delivery::Named);
    let publication = publish(&cache, &layer);
    assert_eq!((publication.epoch, publication.changed_keys, publication.woken_streams), (Epoch(2), 1, 1));
    assert_eq!([&a, &n, &all].map(Watching::woken), [false, true, false]);
    assert_eq!([&a, &n, &all].map(|each| each.subscriber.synced()), [Some(Epoch(2)), Some(Epoch(1)), Some(Epoch(2))]);

    layer.insert(endpoints("a", 1), Delivery::Wildcard);
    publish(&cache, &layer);
    assert_eq!([&a, &n, &all].map(Watching::woken), [true, false, true]);
    // It was not synced before, so it is not now.
    assert_eq!(n.subscriber.synced(), Some(Epoch(1)));

    // A name that is given up, and a stream that ends, cause no wake-ups.
    a.subscriber.change_interest([InterestChange {
        type_url: TypeUrl::ClusterLoadAssignment,
        what: Interest::Names(vec![Arc::from("a")]),
        held: false,
    }]);
    drop(all);
    layer.insert(endpoints("a", 2), Delivery::Wildcard);
    assert_eq!(publish(&cache, &layer).woken_streams, 0);
}

#[test]
fn equal_content_changes_nothing_however_it_was_made() {
    let cache = Cache::new();
    let build =
        |names: &[&str]| -> Layer { names.iter().map(|name| (endpoints(name, 0), Delivery::Wildcard)).collect() };
    assert_eq!(publish(&cache, &build(&["a", "b"])).changed_keys, 1);
    let publication = publish(&cache, &build(&["b", "a"]));
    assert_eq!((publication.epoch, publication.changed_keys), (Epoch(1), 0));
    assert_eq!(cache.current(&key()).unwrap().epoch, Epoch(1));
}

#[test]
fn a_key_is_served_from_its_first_publication_until_it_is_withdrawn() {
    let cache = Cache::new();
    assert!(cache.subscribe(&key(), &ProxyName::new("p")).is_none());
    publish(&cache, &Layer::new());
    let watching = Watching::new(&cache, "p", &[]);
    assert_eq!(cache.keys(), [key()]);
    assert_eq!(cache.publish([(key(), None)]).woken_streams, 1);
    assert!(watching.woken() && watching.subscriber.current().is_none());
    assert!(cache.subscribe(&key(), &ProxyName::new("p")).is_none());
    assert_eq!(cache.publish([(key(), None)]).changed_keys, 0);
}

#[test]
fn a_held_back_version_reaches_every_stream_of_the_proxy_and_outlives_them() {
    let cache = Cache::new();
    let mut layer = Layer::new();
    let bad = endpoints("a", 0);
    layer.insert(bad.clone(), Delivery::Wildcard);
    publish(&cache, &layer);
    let (one, two) = (Watching::new(&cache, "p", &[]), Watching::new(&cache, "p", &[]));
    let other = Watching::new(&cache, "q", &[]);
    let proxy = ProxyName::new("p");
    cache.hold_back(&proxy, bad.type_url(), "a", bad.version());
    assert_eq!([&one, &two, &other].map(Watching::woken), [true, true, false]);
    cache.hold_back(&proxy, bad.type_url(), "a", bad.version());
    assert!(!one.woken());
    assert_eq!(two.subscriber.hold_backs().len(), 1);
    assert_eq!(other.subscriber.hold_backs().len(), 0);
    drop((one, two));
    let back = Watching::new(&cache, "p", &[]);
    assert_eq!(back.subscriber.hold_backs().len(), 1);
    back.subscriber.forget_hold_backs(&[(bad.type_url().clone(), Arc::from("a"))]);
    assert_eq!(cache.held_back(&proxy), []);
    assert_eq!(back.subscriber.hold_backs().len(), 0);
}

#[test]
fn what_a_publication_changed_is_kept_where_streams_are_told_of_it_and_it_is_little() {
    let cache = Cache::new();
    let mut layer: Layer = (0..100).map(|number| (endpoints(&format!("e{number}"), 0), Delivery::Wildcard)).collect();
    publish(&cache, &layer);
    let mut change = |names: std::ops::Range<u32>, content: u32| {
        let before = cache.current(&key()).unwrap();
        for number in names {
            layer.insert(endpoints(&format!("e{number}"), content), Delivery::Wildcard);
        }
        publish(&cache, &layer);
        let now = cache.current(&key()).unwrap();
        let differences = now.differences_since(&before, &TypeUrl::ClusterLoadAssignment).len();
        (now.changes.is_some(), differences)
    };
    assert_eq!(change(0..1, 1), (false, 1), "nobody is told");
    let _all = Watching::new(&cache, "all", &[Interest::Wildcard]);
    assert_eq!(change(0..1, 2), (true, 1));
    assert_eq!(change(0..100, 3), (false, 100), "much is found again");
}
