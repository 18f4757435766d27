//! Rules R: what responses contain.

use std::collections::{BTreeMap, BTreeSet};

use osm_xds::{Event, ProxyName, Snapshot, TypeUrl};
use osm_xds_test_support::{
    CLUSTER, Client, ENDPOINTS, LISTENER, NODE, ROUTE, Response, SECRET, TEST_TYPES, Variant, WILDCARD_TYPES, World,
    endpoints, generic_secret, in_variants, no_endpoints, static_cluster, test_resource,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

in_variants!(r1_complete_types_carry_the_whole_state, state_of_the_world);
async fn r1_complete_types_carry_the_whole_state(variant: Variant) {
    for type_url in WILDCARD_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1), (type_url, "c", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.watch_all(type_url);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a", "b", "c"]);
        world.set(test_resource(type_url, "b", 2));
        let response = stream.expect_and_ack(type_url).await;
        assert_eq!(response.names(), ["a", "b", "c"], "also what did not change");
        for (name, left) in [("a", vec!["b", "c"]), ("b", vec!["c"]), ("c", vec![])] {
            world.remove(type_url, name);
            world.publish();
            assert_eq!(stream.expect_and_ack(type_url).await.names(), left, "the last one empties the response");
        }
    }
}

in_variants!(r2_other_types_carry_only_what_changed, state_of_the_world);
async fn r2_other_types_carry_only_what_changed(variant: Variant) {
    for type_url in [ENDPOINTS, ROUTE, SECRET] {
        let world = World::start().await;
        let names: Vec<_> = (0..100).map(|number| format!("n{number}")).collect();
        for name in &names {
            world.put(test_resource(type_url, name, 1));
        }
        world.publish();
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(stream.expect_and_ack(type_url).await.resources.len(), 100);
        world.set(test_resource(type_url, "n42", 2));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["n42"]);
        // Absence must not be read as removal, and nothing else says it.
        world.remove(type_url, "n41");
        world.publish();
        stream.expect_silence(type_url).await;
    }
}

in_variants!(r3_delta_carries_only_what_changed, delta);
async fn r3_delta_carries_only_what_changed(variant: Variant) {
    for type_url in WILDCARD_TYPES {
        let world = World::start().await;
        for number in 0..100 {
            world.put(test_resource(type_url, &format!("n{number}"), 1));
        }
        world.publish();
        let mut stream = world.stream(variant, type_url).await;
        stream.watch_all(type_url);
        let mut received = 0;
        while received < 100 {
            received += stream.expect_and_ack(type_url).await.resources.len();
        }
        world.set(test_resource(type_url, "n42", 2));
        let response = stream.expect_and_ack(type_url).await;
        assert_eq!((response.names(), response.removed.len()), (vec!["n42"], 0));
        world.remove(type_url, "n41");
        world.publish();
        let response = stream.expect_and_ack(type_url).await;
        assert_eq!((response.names().len(), response.removed), (0, vec!["n41".to_owned()]));
    }
}

/// What a client holds of one type if it does what responses say.
#[derive(Debug, Default)]
struct Held(BTreeMap<String, Vec<u8>>);

impl Held {
    fn apply(&mut self, variant: Variant, response: &Response) {
        if !variant.is_delta() && WILDCARD_TYPES.contains(&response.type_url.as_str()) {
            self.0.clear();
        }
        for resource in &response.resources {
            self.0.insert(resource.name.clone(), resource.value.clone());
        }
        for name in &response.removed {
            self.0.remove(name);
        }
    }
}

/// What the world holds, for comparison.
#[derive(Debug, Default)]
struct Expected(BTreeMap<String, u32>);

in_variants!(r4_r5_responses_are_well_formed_after_random_changes, all);
async fn r4_r5_responses_are_well_formed_after_random_changes(variant: Variant) {
    // The client checks rules R4 (no name twice) and R5 (types, names and versions agree) on every response. Here it
    // reads many of them, and what it holds at the end must be what the world holds.
    for seed in 0..8 {
        let mut random = StdRng::seed_from_u64(seed);
        for type_url in TEST_TYPES {
            random_changes(variant, type_url, &mut random).await;
        }
    }
}

async fn random_changes(variant: Variant, type_url: &str, random: &mut impl Rng) {
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let world = World::start().await;
    let mut expected = Expected::default();
    let mut held = Held::default();
    let mut subscribed = BTreeSet::new();
    let mut stream = world.stream(variant, type_url).await;
    let mut unanswered = Vec::new();
    for revision in 1..60 {
        let name = *NAMES.choose(random).expect("some names");
        match random.random_range(0..10) {
            0..=2 => {
                expected.0.insert(name.into(), revision);
                world.set(test_resource(type_url, name, revision));
            }
            3 if expected.0.contains_key(name) => {
                expected.0.remove(name);
                world.remove(type_url, name);
                world.publish();
            }
            4..=5 => {
                subscribed.insert(name);
                stream.subscribe(type_url, &[name]);
            }
            6 if subscribed.contains(name) => {
                subscribed.remove(name);
                held.0.remove(name);
                stream.unsubscribe(type_url, &[name]);
            }
            7 if !unanswered.is_empty() => {
                let response: Response = unanswered.remove(0);
                stream.nack(&response, "no, for no reason");
            }
            _ if !unanswered.is_empty() => {
                let response: Response = unanswered.remove(0);
                held.apply(variant, &response);
                stream.ack(&response);
            }
            _ => {}
        }
        if unanswered.is_empty()
            && let Some(response) = stream.try_next().await
        {
            unanswered.push(response);
        }
    }
    // Settle: every name gets new content, so that nothing rejected stays behind, and everything is accepted.
    for name in NAMES {
        subscribed.insert(name);
        stream.subscribe(type_url, &[name]);
        expected.0.insert(name.into(), 100);
        world.put(test_resource(type_url, name, 100));
    }
    world.publish();
    for response in unanswered {
        held.apply(variant, &response);
        stream.ack(&response);
    }
    let goal: BTreeMap<_, _> = expected
        .0
        .iter()
        .map(|(name, revision)| (name.clone(), test_resource(type_url, name, *revision).value.to_vec()))
        .collect();
    while held.0 != goal {
        let response = stream.expect_and_ack(type_url).await;
        held.apply(variant, &response);
    }
}

in_variants!(r6_first_wildcard_answer_is_sent_even_when_empty, all);
async fn r6_first_wildcard_answer_is_sent_even_when_empty(variant: Variant) {
    let world = World::start().await;
    for type_url in WILDCARD_TYPES {
        let mut client = world.client(variant).await;
        client.watch_all(type_url);
        let response = client.expect_and_ack(type_url).await;
        assert!(response.resources.is_empty() && response.removed.is_empty(), "{response:?}");
        client.expect_silence(type_url).await;
    }
}

in_variants!(r6_named_types_with_nothing_get_no_answer, state_of_the_world);
async fn r6_named_types_with_nothing_get_no_answer(variant: Variant) {
    let world = World::start().await;
    for type_url in [ENDPOINTS, ROUTE, SECRET] {
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["missing"]);
        stream.expect_silence(type_url).await;
    }
}

in_variants!(r7_cluster_without_endpoints_gets_an_empty_assignment, all);
async fn r7_cluster_without_endpoints_gets_an_empty_assignment(variant: Variant) {
    let world = World::start().await;
    world.set(no_endpoints("idle"));
    let mut stream = world.stream(variant, ENDPOINTS).await;
    stream.subscribe(ENDPOINTS, &["idle"]);
    let response = stream.expect_and_ack(ENDPOINTS).await;
    assert_eq!(response.get("idle").expect("an explicit answer").value, no_endpoints("idle").value);
    world.set(endpoints("idle", 2000));
    stream.expect_and_ack(ENDPOINTS).await;
    world.set(no_endpoints("idle"));
    assert_eq!(stream.expect_and_ack(ENDPOINTS).await.get("idle").expect("again").value, no_endpoints("idle").value);
}

#[test]
fn r8_equal_input_gives_one_hash() {
    let mut versions = BTreeSet::new();
    let mut names: Vec<_> = (0..50).map(|number| format!("n{number}")).collect();
    for round in 0..1000 {
        // Another order of insertion each time.
        names.rotate_left(round % 7 + 1);
        let layer = names
            .iter()
            .map(|name| {
                let resource = static_cluster(name, 1);
                let made = osm_xds::Resource::from_any(TypeUrl::Cluster, name.as_str(), &resource.value);
                (std::sync::Arc::new(made.expect("well formed")), osm_xds::Delivery::Wildcard)
            })
            .collect();
        versions.insert(Snapshot::new([layer]).type_version(&TypeUrl::Cluster));
    }
    assert_eq!(versions.len(), 1);
}

in_variants!(r9_large_states_are_sent_in_small_messages, delta);
async fn r9_large_states_are_sent_in_small_messages(variant: Variant) {
    const COUNT: usize = 10_000;
    let world = World::start().await;
    for number in 0..COUNT {
        world.put(static_cluster(&format!("cluster-with-a-name-of-usual-length-{number}"), 1));
    }
    world.publish();
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    let mut names = BTreeSet::new();
    while names.len() < COUNT {
        let response = stream.expect_and_ack(CLUSTER).await;
        assert!(response.size < 64 * 1024, "{} bytes, far from the 4 MiB that clients accept", response.size);
        for resource in response.resources {
            assert!(names.insert(resource.name), "sent twice");
        }
    }
    stream.expect_silence(CLUSTER).await;
}

in_variants!(r9_partial_types_are_split_in_state_of_the_world_too, state_of_the_world);
async fn r9_partial_types_are_split_in_state_of_the_world_too(variant: Variant) {
    const COUNT: usize = 3_000;
    let world = World::start().await;
    let names: Vec<_> = (0..COUNT).map(|number| format!("secret-{number}")).collect();
    for name in &names {
        world.put(generic_secret(name, &"x".repeat(2_000)));
    }
    world.publish();
    let mut stream = world.stream(variant, SECRET).await;
    stream.subscribe(SECRET, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut received = BTreeSet::new();
    while received.len() < COUNT {
        let response = stream.expect_and_ack(SECRET).await;
        assert!(response.size < 4 * 1024 * 1024, "{} bytes", response.size);
        received.extend(response.resources.into_iter().map(|resource| resource.name));
    }
}

in_variants!(r10_held_back_resource_does_not_block_the_others, all);
async fn r10_held_back_resource_does_not_block_the_others(variant: Variant) {
    for type_url in [CLUSTER, LISTENER, ROUTE] {
        let world = World::start().await;
        world.set_all(&[(type_url, "good", 1), (type_url, "bad", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["good", "bad"]);
        stream.expect_and_ack(type_url).await;
        world.set_all(&[(type_url, "good", 2), (type_url, "bad", 2)]);
        let refused = stream.expect_type(type_url).await;
        stream.nack(&refused, "bad is bad");
        let rejection = world
            .wait_event(|_, event| match event {
                Event::Rejected(rejection) => Some(rejection.clone()),
                _ => None,
            })
            .await;
        assert_eq!(rejection.mentioned.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["bad"]);
        // The embedder blames one of them; the rest goes out at once, with the last good version of the bad one where
        // the response is the complete state.
        let proxy = ProxyName::new(NODE);
        world.cache.hold_back(&proxy, &rejection.type_url, "bad", rejection.resources["bad"]);
        let response = stream.expect_and_ack(type_url).await;
        assert_eq!(response.get("good").expect("not held back").value, test_resource(type_url, "good", 2).value);
        if let Some(bad) = response.get("bad") {
            assert_eq!(bad.value, test_resource(type_url, "bad", 1).value, "the last good version");
        }
        stream.expect_silence(type_url).await;
        // Fixed: it goes out by itself.
        world.set(test_resource(type_url, "bad", 3));
        let response = stream.expect_and_ack(type_url).await;
        assert_eq!(response.get("bad").expect("fixed").value, test_resource(type_url, "bad", 3).value);
        assert!(world.cache.held_back(&proxy).is_empty(), "it lapsed");
    }
}

in_variants!(r10_other_proxies_are_not_affected_by_what_is_held_back, all);
async fn r10_other_proxies_are_not_affected_by_what_is_held_back(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let current = world.cache.current(&osm_xds::SnapshotKey::new("fleet")).expect("published");
    let version = current.snapshot.get(&TypeUrl::Cluster, "a").expect("there").resource.version();
    world.cache.hold_back(&ProxyName::new(NODE), &TypeUrl::Cluster, "a", version);
    let mut affected = world.client(variant).await;
    affected.watch_all(CLUSTER);
    assert!(affected.expect_and_ack(CLUSTER).await.resources.is_empty());
    let mut other = Client::new(world.connect().await, variant, "fleet/2");
    other.watch_all(CLUSTER);
    assert_eq!(other.expect_and_ack(CLUSTER).await.names(), ["a"]);
    // Asked for by name it is answered, as not there where that can be said.
    affected.subscribe(CLUSTER, &["a"]);
    if variant.is_delta() {
        assert_eq!(affected.expect_and_ack(CLUSTER).await.removed, ["a"]);
    }
    affected.expect_silence(CLUSTER).await;
}
