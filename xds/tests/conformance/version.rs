//! Rules V: nonce, version, ACK and NACK.

use osm_xds::{Event, Snapshot, TypeUrl};
use osm_xds_test_support::{
    CLUSTER, ENDPOINTS, FLEET, LISTENER, Path, ROUTE, Request, SECRET, Stream, TEST_TYPES, Variant, World, endpoints,
    in_variants, route, static_cluster, test_resource,
};

in_variants!(v1_nonce_of_an_earlier_stream_means_nothing, all);
async fn v1_nonce_of_an_earlier_stream_means_nothing(variant: Variant) {
    let world = World::start().await;
    for type_url in TEST_TYPES {
        world.set(test_resource(type_url, "a", 1));
        let mut first = world.stream(variant, type_url).await;
        first.subscribe(type_url, &["a"]);
        let old = first.expect_and_ack(type_url).await;
        let mut second = world.stream(variant, type_url).await;
        second.send(Request::of(type_url, &["a"]).nonce(&old.nonce));
        assert_eq!(second.expect_type(type_url).await.names(), ["a"], "a full answer to an ordinary first request");
    }
}

in_variants!(v1_nonces_are_present_and_unique, all);
async fn v1_nonces_are_present_and_unique(variant: Variant) {
    // The client checks this on every response it reads; here are many on one stream.
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    let mut nonces = std::collections::BTreeSet::new();
    for revision in 2..100 {
        world.set(static_cluster("a", revision));
        assert!(nonces.insert(stream.expect_and_ack(CLUSTER).await.nonce));
    }
}

in_variants!(v2_acknowledgement_gets_no_reply, all);
async fn v2_acknowledgement_gets_no_reply(variant: Variant) {
    let world = World::start().await;
    for type_url in TEST_TYPES {
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a", "b"]);
        stream.expect_and_ack(type_url).await;
        stream.expect_silence(type_url).await;
        stream.expect_silence(type_url).await;
    }
}

in_variants!(v2_rebuilding_equal_content_sends_nothing, all);
async fn v2_rebuilding_equal_content_sends_nothing(variant: Variant) {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        world.put(static_cluster(name, 1));
    }
    world.publish();
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    for name in ["c", "a", "b"] {
        world.remove(CLUSTER, name);
        world.put(static_cluster(name, 1));
        assert_eq!(world.publish().changed_keys, 0, "encoded and put together anew, but equal");
        stream.expect_silence(CLUSTER).await;
    }
    world.set(static_cluster("b", 2));
    assert!(stream.expect_and_ack(CLUSTER).await.names().contains(&"b"), "a real change still goes out");
}

in_variants!(v3_old_version_without_error_is_a_subscription_change, state_of_the_world);
async fn v3_old_version_without_error_is_a_subscription_change(variant: Variant) {
    let world = World::start().await;
    world.set_all(&[(ROUTE, "a", 1), (ROUTE, "b", 1)]);
    let mut stream = world.stream(variant, ROUTE).await;
    stream.subscribe(ROUTE, &["a"]);
    let first = stream.expect_and_ack(ROUTE).await;
    world.set(route("a", 2));
    let second = stream.expect_type(ROUTE).await;
    // It looks like a rejection to a server that compares versions, but there is no error.
    stream.send(Request::of(ROUTE, &["a", "b"]).nonce(&second.nonce).version(&first.version));
    assert!(stream.expect_type(ROUTE).await.get("b").is_some());
    assert!(!world.events().iter().any(|(_, event)| matches!(event, Event::Rejected(_))));
}

in_variants!(v4_nack_sends_nothing_until_content_changes, all);
async fn v4_nack_sends_nothing_until_content_changes(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set(test_resource(type_url, "a", 1));
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a"]);
        let first = stream.expect_type(type_url).await;
        for _ in 0..50 {
            stream.nack(&first, "no");
        }
        // A response to the rejection would be made in the same step in which it is observed.
        world.wait_event(|_, event| matches!(event, Event::Rejected(_)).then_some(())).await;
        assert_eq!(sent(&world, type_url), 1);
        if variant.path == Path::Aggregated {
            stream.expect_silence(type_url).await;
        }
        world.set(test_resource(type_url, "a", 2));
        let second = stream.expect_and_ack(type_url).await;
        assert_eq!(second.get("a").expect("changed").value, test_resource(type_url, "a", 2).value);
        assert_eq!(sent(&world, type_url), 2, "exactly one response more");
        stream.expect_silence(type_url).await;
    }
}

/// How many responses of a type the server has sent.
fn sent(world: &World, type_url: &str) -> usize {
    let is_sent = |event: &Event| matches!(event, Event::Sent { type_url: sent, .. } if sent.as_str() == type_url);
    world.events().iter().filter(|(_, event)| is_sent(event)).count()
}

in_variants!(v4_nack_may_carry_a_subscription_change, all);
async fn v4_nack_may_carry_a_subscription_change(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a"]);
        let first = stream.expect_type(type_url).await;
        let names: &[&str] = if variant.is_delta() { &["b"] } else { &["a", "b"] };
        stream.send(Request::of(type_url, names).nonce(&first.nonce).error("no"));
        assert!(stream.expect_type(type_url).await.get("b").is_some());
    }
}

in_variants!(v4_nack_of_an_update_keeps_the_rest_going, all);
async fn v4_nack_of_an_update_keeps_the_rest_going(variant: Variant) {
    let world = World::start().await;
    world.set_all(&[(ENDPOINTS, "a", 1), (ENDPOINTS, "b", 1)]);
    let mut stream = world.stream(variant, ENDPOINTS).await;
    stream.subscribe(ENDPOINTS, &["a", "b"]);
    stream.expect_and_ack(ENDPOINTS).await;
    world.set(endpoints("a", 2000));
    let bad = stream.expect_type(ENDPOINTS).await;
    stream.nack(&bad, "no");
    world.set(endpoints("b", 2000));
    let good = stream.expect_and_ack(ENDPOINTS).await;
    assert!(good.get("b").is_some(), "{good:?}");
    stream.expect_silence(ENDPOINTS).await;
}

in_variants!(v5_list_under_a_stale_nonce_is_not_answered, state_of_the_world);
async fn v5_list_under_a_stale_nonce_is_not_answered(variant: Variant) {
    let world = World::start().await;
    world.set_all(&[(ROUTE, "a", 1), (ROUTE, "b", 1)]);
    let mut stream = world.stream(variant, ROUTE).await;
    stream.subscribe(ROUTE, &["a"]);
    let first = stream.expect_and_ack(ROUTE).await;
    world.set(route("a", 2));
    let second = stream.expect_type(ROUTE).await;
    // Sent while the second response was in flight.
    stream.send(Request::of(ROUTE, &["a", "b"]).nonce(&first.nonce).version(&first.version));
    // Had the stale list been taken up, this ACK, which does not have the name, would end it again and the answer
    // would already be under way.
    stream.ack(&second);
    stream.expect_silence(ROUTE).await;
    stream.subscribe(ROUTE, &["b"]);
    assert!(stream.expect_and_ack(ROUTE).await.get("b").is_some(), "the list under the current nonce is answered");
}

in_variants!(v6_delta_subscription_under_a_stale_nonce_is_honoured, delta);
async fn v6_delta_subscription_under_a_stale_nonce_is_honoured(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a"]);
        stream.expect_and_ack(type_url).await;
        stream.send(Request::of(type_url, &["b"]).nonce("stale"));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["b"]);
        stream.send(Request::of(type_url, &[]).nonce("stale").unsubscribe(&["b"]));
        world.set(test_resource(type_url, "b", 2));
        stream.expect_silence(type_url).await;
    }
}

in_variants!(v7_queued_update_of_an_unwatched_type_is_not_sent, all);
async fn v7_queued_update_of_an_unwatched_type_is_not_sent(variant: Variant) {
    let world = World::start().await;
    world.set(endpoints("a", 1001));
    let mut stream = world.stream(variant, ENDPOINTS).await;
    stream.subscribe(ENDPOINTS, &["a"]);
    let held = stream.expect_type(ENDPOINTS).await;
    // Waits for the answer to the first response.
    world.set(endpoints("a", 1002));
    stream.ack_and_unsubscribe(&held, &["a"]);
    expect_no_more_of(&mut stream, "a").await;
    stream.subscribe(ENDPOINTS, &["a"]);
    let answer = stream.expect_and_ack(ENDPOINTS).await;
    assert_eq!(answer.get("a").expect("subscribed again").value, endpoints("a", 1002).value);
}

/// Silence, and the answer that proves it does not carry `name` along.
async fn expect_no_more_of(stream: &mut Stream, name: &str) {
    stream.subscribe(ENDPOINTS, &["fence-50"]);
    let response = stream.expect_and_ack(ENDPOINTS).await;
    assert!(response.get("fence-50").is_some() && response.get(name).is_none(), "{response:?}");
}

in_variants!(v8_many_list_changes_end_in_the_right_state, all);
async fn v8_many_list_changes_end_in_the_right_state(variant: Variant) {
    const CHANGES: usize = 50;
    let world = World::start().await;
    for number in 0..CHANGES {
        world.put(route(&format!("r{number}"), 1));
    }
    world.publish();
    let mut stream = world.stream(variant, ROUTE).await;
    for number in 0..CHANGES {
        stream.subscribe(ROUTE, &[&format!("r{number}")]);
    }
    let mut received = std::collections::BTreeSet::new();
    let mut responses = 0;
    while received.len() < CHANGES {
        let response = stream.expect_and_ack(ROUTE).await;
        responses += 1;
        received.extend(response.resources.into_iter().map(|resource| resource.name));
    }
    stream.expect_silence(ROUTE).await;
    assert!(responses <= CHANGES, "{responses} responses");
}

in_variants!(v9_restarted_server_does_not_resend_what_is_held, all);
async fn v9_restarted_server_does_not_resend_what_is_held(variant: Variant) {
    for type_url in [CLUSTER, LISTENER] {
        let before = World::start().await;
        before.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = before.stream(variant, type_url).await;
        stream.watch_all(type_url);
        let held = stream.expect_and_ack(type_url).await;
        drop(stream);
        before.stop().await;

        // Another process with another history: the same content came about in other steps and another order.
        let after = World::start().await;
        after.set(test_resource(type_url, "b", 7));
        after.set(test_resource(type_url, "b", 1));
        after.set(test_resource(type_url, "a", 1));
        let mut stream = after.stream(variant, type_url).await;
        let mut first = Request::of(type_url, &[]);
        if variant.is_delta() {
            for resource in &held.resources {
                first = first.holding(&resource.name, &resource.version);
            }
        } else {
            first = first.version(&held.version);
        }
        stream.watch_all_with(first);
        after.set(test_resource(type_url, "a", 2));
        let response = stream.expect_type(type_url).await;
        assert_eq!(
            response.get("a").expect("changed").value,
            test_resource(type_url, "a", 2).value,
            "the first thing sent is the change"
        );
    }
}

#[test]
fn v9_versions_are_a_function_of_content() {
    let snapshot = |resources: &[(&str, &str, u32)]| {
        let layer = resources
            .iter()
            .map(|(type_url, name, revision)| {
                let resource = test_resource(type_url, name, *revision);
                let made = osm_xds::Resource::from_any(TypeUrl::parse(type_url), *name, &resource.value);
                (std::sync::Arc::new(made.expect("well formed")), osm_xds::Delivery::Wildcard)
            })
            .collect();
        Snapshot::new([layer])
    };
    let one = snapshot(&[(CLUSTER, "a", 1), (CLUSTER, "b", 1), (SECRET, "s", 1)]);
    let other = snapshot(&[(SECRET, "s", 2), (CLUSTER, "b", 1), (CLUSTER, "a", 1)]);
    assert_eq!(one.type_version(&TypeUrl::Cluster), other.type_version(&TypeUrl::Cluster));
    assert_ne!(one.type_version(&TypeUrl::Secret), other.type_version(&TypeUrl::Secret));
}

in_variants!(v10_named_types_are_sent_on_reconnect_whatever_the_version, state_of_the_world);
async fn v10_named_types_are_sent_on_reconnect_whatever_the_version(variant: Variant) {
    for type_url in [ENDPOINTS, SECRET, ROUTE] {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a"]);
        let held = stream.expect_and_ack(type_url).await;
        let mut again = world.stream(variant, type_url).await;
        // The set of names has grown meanwhile, and the version cannot tell.
        again.send(Request::of(type_url, &["a", "b"]).version(&held.version));
        assert_eq!(again.expect_type(type_url).await.names(), ["a", "b"]);
    }
}

in_variants!(v11_rejection_is_kept_with_the_clients_words, all);
async fn v11_rejection_is_kept_with_the_clients_words(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    let publication = world.set(static_cluster("a", 2));
    let refused = stream.expect_type(CLUSTER).await;
    stream.nack(&refused, "Error adding/updating cluster(s) a: too slow");
    let (client, rejection) = world
        .wait_event(|client, event| match event {
            Event::Rejected(rejection) => Some((client.clone(), rejection.clone())),
            _ => None,
        })
        .await;
    assert_eq!(client.admission.proxy.as_str(), osm_xds_test_support::NODE);
    assert_eq!(client.admission.key.as_str(), FLEET);
    assert_eq!(rejection.type_url, TypeUrl::Cluster);
    assert_eq!(rejection.epoch, publication.epoch);
    assert_eq!(rejection.message, "Error adding/updating cluster(s) a: too slow");
    let names: Vec<_> = rejection.resources.keys().map(AsRef::as_ref).collect();
    assert_eq!(names, ["a"]);
    let mentioned: Vec<_> = rejection.mentioned.iter().map(AsRef::as_ref).collect();
    assert_eq!(mentioned, ["a"]);
    let current = world.cache.current(&client.admission.key).expect("published");
    let entry = current.snapshot.get(&TypeUrl::Cluster, "a").expect("there");
    assert_eq!(rejection.resources["a"], entry.resource.version());
    // It is also kept for whoever looks later.
    let clients = world.server().server().clients();
    let kept = clients[0].types.iter().find(|status| status.type_url == TypeUrl::Cluster).expect("asked for");
    let last = kept.last_rejection.as_ref().expect("kept");
    assert_eq!(
        (last.message.as_str(), last.resources.get("a")),
        (rejection.message.as_str(), rejection.resources.get("a"))
    );
}
