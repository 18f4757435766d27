//! Rules S: what is subscribed to.

use osm_xds::Delivery;
use osm_xds_test_support::{
    CLUSTER, ENDPOINTS, FLEET, LISTENER, ROUTE, Request, SECRET, Stream, TEST_TYPES, Variant, WILDCARD_TYPES, World,
    in_variants, test_resource,
};

const NAMED_TYPES: [&str; 3] = [ENDPOINTS, ROUTE, SECRET];

in_variants!(s1_list_replaces_the_former_one, all);
async fn s1_list_replaces_the_former_one(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a", "b"]);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a", "b"]);
        stream.unsubscribe(type_url, &["b"]);
        drain_answer_to_shorter_list(&mut stream, type_url, &["a"]).await;
        world.set(test_resource(type_url, "b", 2));
        stream.expect_silence(type_url).await;
        world.set(test_resource(type_url, "a", 2));
        let response = stream.expect_and_ack(type_url).await;
        assert!(response.get("a").is_some() && response.get("b").is_none(), "{response:?}");
    }
}

/// A type whose responses are complete may be answered with the smaller state when its list gets shorter: allowed, not
/// demanded. Nothing but exactly that state is accepted here.
async fn drain_answer_to_shorter_list(stream: &mut Stream, type_url: &str, names: &[&str]) {
    if stream.variant().is_delta() || !WILDCARD_TYPES.contains(&type_url) {
        return;
    }
    stream.subscribe(type_url, &["fence-40"]);
    let response = stream.expect_and_ack(type_url).await;
    if response.get("fence-40").is_none() {
        assert_eq!(response.names(), names);
        assert!(stream.expect_and_ack(type_url).await.get("fence-40").is_some());
    }
}

in_variants!(s2_newly_listed_name_is_sent_at_the_same_version, all);
async fn s2_newly_listed_name_is_sent_at_the_same_version(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a"]);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
        stream.subscribe(type_url, &["b"]);
        assert!(stream.expect_and_ack(type_url).await.get("b").is_some());
    }
}

in_variants!(s3_unlisted_and_listed_again_is_sent_again, all);
async fn s3_unlisted_and_listed_again_is_sent_again(variant: Variant) {
    for type_url in NAMED_TYPES {
        let world = World::start().await;
        world.set(test_resource(type_url, "a", 1));
        let mut stream = world.stream(variant, type_url).await;
        for _ in 0..3 {
            stream.subscribe(type_url, &["a"]);
            assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
            stream.unsubscribe(type_url, &["a"]);
        }
    }
}

in_variants!(s4_empty_list_is_a_wildcard_only_at_first, state_of_the_world);
async fn s4_empty_list_is_a_wildcard_only_at_first(variant: Variant) {
    for type_url in WILDCARD_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        // The four steps of the protocol's documentation. First: an empty list means everything.
        stream.watch_all(type_url);
        let one = stream.expect_type(type_url).await;
        assert_eq!(one.names(), ["a", "b"]);
        // Second: a name beside the wildcard. It was added, so it is answered; `*` goes on.
        stream.ack_with_list(&one, &["*", "a"]);
        let two = stream.expect_type(type_url).await;
        assert_eq!(two.names(), ["a", "b"]);
        world.set(test_resource(type_url, "b", 2));
        stream.ack_with_list(&two, &["*", "a"]);
        let three = stream.expect_type(type_url).await;
        assert_eq!(three.get("b").expect("`*` is still there").value, test_resource(type_url, "b", 2).value);
        // Third: the name alone.
        stream.ack_with_list(&three, &["a"]);
        world.set(test_resource(type_url, "b", 3));
        world.set(test_resource(type_url, "a", 3));
        let mut last = stream.expect_type(type_url).await;
        while last.get("a").expect("named").value != test_resource(type_url, "a", 3).value {
            assert_eq!(last.names(), ["a"]);
            stream.ack_with_list(&last, &["a"]);
            last = stream.expect_type(type_url).await;
        }
        assert_eq!(last.names(), ["a"], "`*` is gone, the name goes on");
        // Fourth: the empty list is equal to the first request and means the opposite.
        stream.ack_with_list(&last, &[]);
        world.set(test_resource(type_url, "a", 4));
        expect_nothing_but_fence(&mut stream, type_url).await;
    }
}

/// No response carries anything but the resource that proves it. A type whose responses are complete may be answered
/// with the now empty state.
async fn expect_nothing_but_fence(stream: &mut Stream, type_url: &str) {
    stream.subscribe(type_url, &["fence-42"]);
    loop {
        let response = stream.expect_and_ack(type_url).await;
        if response.names() == ["fence-42"] {
            break;
        }
        assert!(response.resources.is_empty() && !stream.variant().is_delta(), "{response:?}");
    }
}

in_variants!(s4_delta_wildcard_ends_only_by_unsubscribing, delta);
async fn s4_delta_wildcard_ends_only_by_unsubscribing(variant: Variant) {
    for type_url in WILDCARD_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        // The four steps of the protocol's documentation.
        stream.send(Request::of(type_url, &[]));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a", "b"]);
        stream.send(Request::of(type_url, &["a"]));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
        world.set(test_resource(type_url, "b", 2));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["b"], "`*` goes on");
        stream.send(Request::of(type_url, &[]).unsubscribe(&["*"]));
        // `b` is not subscribed to any more; saying so is allowed.
        let world_changes = [("b", 3), ("a", 3)];
        for (name, revision) in world_changes {
            world.set(test_resource(type_url, name, revision));
        }
        loop {
            let response = stream.expect_and_ack(type_url).await;
            assert!(response.get("b").is_none(), "`*` is gone");
            if response.get("a").is_some() {
                break;
            }
        }
        stream.send(Request::of(type_url, &[]).unsubscribe(&["a"]));
        world.set(test_resource(type_url, "a", 4));
        // An empty list is no wildcard now.
        stream.send(Request::of(type_url, &[]));
        expect_nothing_but_fence(&mut stream, type_url).await;
    }
}

in_variants!(s5_explicit_wildcard_and_names_hold_side_by_side, all);
async fn s5_explicit_wildcard_and_names_hold_side_by_side(variant: Variant) {
    for type_url in WILDCARD_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        world.put_for(FLEET, test_resource(type_url, "hidden", 1), Delivery::Named);
        world.publish();
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["*", "hidden"]);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a", "b", "hidden"]);
        // Drop the wildcard, keep the name.
        stream.unsubscribe(type_url, &["*"]);
        world.set(test_resource(type_url, "b", 2));
        stream.subscribe(type_url, &["fence-41"]);
        loop {
            let response = stream.expect_and_ack(type_url).await;
            assert!(response.get("b").is_none() && response.get("a").is_none(), "{response:?}");
            if response.get("fence-41").is_some() {
                break;
            }
        }
        // Drop the name, keep the wildcard.
        stream.subscribe(type_url, &["*"]);
        loop {
            let response = stream.expect_and_ack(type_url).await;
            if response.get("a").is_some() && response.get("b").is_some() {
                break;
            }
        }
        stream.unsubscribe(type_url, &["hidden"]);
        world.put_for(FLEET, test_resource(type_url, "hidden", 2), Delivery::Named);
        world.set(test_resource(type_url, "a", 2));
        loop {
            let response = stream.expect_and_ack(type_url).await;
            assert!(response.get("hidden").is_none(), "{response:?}");
            let changed = response.get("a");
            if changed.is_some_and(|a| a.value == test_resource(type_url, "a", 2).value) {
                break;
            }
        }
    }
}

in_variants!(s6_empty_first_list_of_a_named_type_means_nothing, all);
async fn s6_empty_first_list_of_a_named_type_means_nothing(variant: Variant) {
    for type_url in NAMED_TYPES {
        let world = World::start().await;
        world.set(test_resource(type_url, "a", 1));
        let mut stream = world.stream(variant, type_url).await;
        stream.send(Request::of(type_url, &[]));
        world.set(test_resource(type_url, "a", 2));
        stream.expect_silence(type_url).await;
        stream.subscribe(type_url, &["a"]);
        assert!(stream.expect_and_ack(type_url).await.get("a").is_some());
    }
}

in_variants!(s7_phantom_unsubscription_is_ignored, delta);
async fn s7_phantom_unsubscription_is_ignored(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set(test_resource(type_url, "a", 1));
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a"]);
        stream.expect_and_ack(type_url).await;
        stream.unsubscribe(type_url, &["never-held", "fence-59"]);
        stream.expect_silence(type_url).await;
        world.set(test_resource(type_url, "a", 2));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
    }
}

in_variants!(s8_subscribing_again_to_a_held_name_is_answered, delta);
async fn s8_subscribing_again_to_a_held_name_is_answered(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set(test_resource(type_url, "a", 1));
        let mut stream = world.stream(variant, type_url).await;
        for _ in 0..3 {
            stream.send(Request::of(type_url, &["a"]));
            assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
        }
        // Also together with the ACK of the answer before.
        stream.send(Request::of(type_url, &["a"]));
        let response = stream.expect_type(type_url).await;
        stream.send(Request::of(type_url, &["a"]).nonce(&response.nonce));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
    }
}

in_variants!(s9_missing_name_is_reported_and_comes_when_created, delta);
async fn s9_missing_name_is_reported_and_comes_when_created(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["late"]);
        assert_eq!(stream.expect_and_ack(type_url).await.removed, ["late"]);
        world.set(test_resource(type_url, "late", 1));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["late"], "unasked");
        world.remove(type_url, "late");
        world.publish();
        assert_eq!(stream.expect_and_ack(type_url).await.removed, ["late"]);
        world.set(test_resource(type_url, "late", 2));
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["late"], "again");
    }
}

in_variants!(s10_un_naming_under_a_wildcard_is_answered, delta);
async fn s10_un_naming_under_a_wildcard_is_answered(variant: Variant) {
    for type_url in WILDCARD_TYPES {
        let world = World::start().await;
        world.set(test_resource(type_url, "a", 1));
        world.put_for(FLEET, test_resource(type_url, "hidden", 1), Delivery::Named);
        world.publish();
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["*", "a", "hidden"]);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a", "hidden"]);
        stream.unsubscribe(type_url, &["a"]);
        let covered = stream.expect_and_ack(type_url).await;
        assert_eq!((covered.names(), covered.removed.len()), (vec!["a"], 0), "still covered");
        stream.unsubscribe(type_url, &["hidden"]);
        let uncovered = stream.expect_and_ack(type_url).await;
        assert_eq!((uncovered.names().len(), uncovered.removed), (0, vec!["hidden".to_owned()]), "not covered");
    }
}

in_variants!(s12_resource_that_appears_later_is_pushed, all);
async fn s12_resource_that_appears_later_is_pushed(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set(test_resource(type_url, "a", 1));
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a", "late"]);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
        world.set(test_resource(type_url, "late", 1));
        assert!(stream.expect_and_ack(type_url).await.get("late").is_some());
    }
}

in_variants!(s13_odd_lists_are_defined, all);
async fn s13_odd_lists_are_defined(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        // Duplicates count once; the empty string names nothing.
        stream.send(Request::of(type_url, &["a", "a", "", "a"]));
        let response = stream.expect_type(type_url).await;
        assert_eq!(response.names(), ["a"]);
        if variant.is_delta() {
            // Subscribed and unsubscribed in one message: it is subscribed to, as S8 asks for an answer.
            stream.send(Request::of(type_url, &["b"]).nonce(&response.nonce).unsubscribe(&["b"]));
            assert_eq!(stream.expect_and_ack(type_url).await.names(), ["b"]);
            stream.send(Request::of(type_url, &[""]).unsubscribe(&["", "", "a", "b"]));
        } else {
            // A list of one empty string is how some clients say "nothing".
            stream.ack_with_list(&response, &[""]);
        }
        world.set(test_resource(type_url, "a", 2));
        expect_nothing_but_fence(&mut stream, type_url).await;
    }
}

in_variants!(s14_named_subscriber_sees_only_its_names, all);
async fn s14_named_subscriber_sees_only_its_names(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a"]);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
        world.set_all(&[(type_url, "b", 2), (type_url, "c", 1)]);
        stream.expect_silence(type_url).await;
    }
}

in_variants!(s14_wildcard_does_not_bring_what_is_delivered_by_name, all);
async fn s14_wildcard_does_not_bring_what_is_delivered_by_name(variant: Variant) {
    for type_url in WILDCARD_TYPES {
        let world = World::start().await;
        world.set(test_resource(type_url, "a", 1));
        world.put_for(FLEET, test_resource(type_url, "hidden", 1), Delivery::Named);
        world.publish();
        let mut stream = world.stream(variant, type_url).await;
        stream.watch_all(type_url);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
        stream.subscribe(type_url, &["hidden"]);
        assert!(stream.expect_and_ack(type_url).await.get("hidden").is_some());
        let listener_or_other = if type_url == LISTENER { CLUSTER } else { LISTENER };
        world.set(test_resource(listener_or_other, "elsewhere", 1));
        stream.expect_silence(type_url).await;
    }
}
