//! Rules C: a client that comes back and says what it holds.

use osm_xds_test_support::{
    CLUSTER, Client, ENDPOINTS, LISTENER, ROUTE, Request, Response, SECRET, TEST_TYPES, Variant, WILDCARD_TYPES, World,
    eds_cluster, endpoints, in_variants, static_cluster, test_resource,
};

/// The version of a resource as a delta client knows it.
fn version_of(response: &Response, name: &str) -> String {
    response.get(name).expect("in the response").version.clone()
}

in_variants!(c1_current_is_skipped_outdated_is_sent_gone_is_removed, delta);
async fn c1_current_is_skipped_outdated_is_sent_gone_is_removed(variant: Variant) {
    for type_url in WILDCARD_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "current", 1), (type_url, "outdated", 1), (type_url, "gone", 1)]);
        let mut before = world.stream(variant, type_url).await;
        before.watch_all(type_url);
        let held = before.expect_and_ack(type_url).await;
        world.remove(type_url, "gone");
        world.put(test_resource(type_url, "new", 1));
        world.set(test_resource(type_url, "outdated", 2));

        let mut after = world.stream(variant, type_url).await;
        let mut first = Request::of(type_url, &[]);
        for name in ["current", "outdated", "gone"] {
            first = first.holding(name, &version_of(&held, name));
        }
        after.watch_all_with(first);
        let mut names = Vec::new();
        let mut removed = Vec::new();
        // Removals may come in a response of their own.
        while removed.is_empty() || names.is_empty() {
            let response = after.expect_and_ack(type_url).await;
            names.extend(response.resources.into_iter().map(|resource| resource.name));
            removed.extend(response.removed);
        }
        names.sort_unstable();
        assert_eq!((names, removed), (vec!["new".into(), "outdated".into()], vec!["gone".to_owned()]));
        after.expect_silence(type_url).await;
    }
}

in_variants!(c1_versions_of_another_server_are_outdated, delta);
async fn c1_versions_of_another_server_are_outdated(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all_with(Request::of(CLUSTER, &[]).holding("a", "17").holding("", ""));
    assert_eq!(stream.expect_type(CLUSTER).await.names(), ["a"]);
}

in_variants!(c2_claims_count_only_in_the_first_message_of_a_type, delta);
async fn c2_claims_count_only_in_the_first_message_of_a_type(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a", "b"]);
        let held = stream.expect_and_ack(type_url).await;
        world.set(test_resource(type_url, "a", 2));
        let changed = stream.expect_and_ack(type_url).await;
        // Too late: the claim is neither taken up nor held against what was acknowledged since.
        stream.send(
            Request::of(type_url, &["a"])
                .holding("a", &version_of(&changed, "a"))
                .holding("x", &version_of(&held, "b")),
        );
        assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
        stream.expect_silence(type_url).await;
    }
}

in_variants!(c3_named_claims_are_skipped_but_for_endpoints_and_secrets, delta);
async fn c3_named_claims_are_skipped_but_for_endpoints_and_secrets(variant: Variant) {
    for type_url in [CLUSTER, LISTENER, ROUTE, ENDPOINTS, SECRET] {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut before = world.stream(variant, type_url).await;
        before.subscribe(type_url, &["a", "b"]);
        let held = before.expect_and_ack(type_url).await;

        let mut after = world.stream(variant, type_url).await;
        let first = Request::of(type_url, &["a", "b"])
            .holding("a", &version_of(&held, "a"))
            .holding("b", &version_of(&held, "b"));
        after.send(first);
        if [ENDPOINTS, SECRET].contains(&type_url) {
            assert_eq!(after.expect_and_ack(type_url).await.names(), ["a", "b"], "a warming client may wait for it");
        }
        after.expect_silence(type_url).await;
    }
}

in_variants!(c4_each_type_is_answered_without_waiting_for_another, aggregated);
async fn c4_each_type_is_answered_without_waiting_for_another(variant: Variant) {
    let world = World::start().await;
    world.put(eds_cluster("a", 1));
    world.put(endpoints("a", 2000));
    world.set_all(&[(LISTENER, "l", 1), (ROUTE, "r", 1), (SECRET, "s", 1)]);
    // A reconnecting Envoy asks in any order; clusters may come last.
    let mut stream = world.stream(variant, CLUSTER).await;
    for (type_url, name) in [(ENDPOINTS, "a"), (ROUTE, "r"), (SECRET, "s")] {
        stream.subscribe(type_url, &[name]);
        assert_eq!(stream.expect_and_ack(type_url).await.names(), [name]);
    }
    stream.watch_all(LISTENER);
    assert_eq!(stream.expect_and_ack(LISTENER).await.names(), ["l"]);
    stream.watch_all(CLUSTER);
    assert_eq!(stream.expect_and_ack(CLUSTER).await.names(), ["a"]);
    // The cluster was sent, so it warms and needs its endpoints again.
    if !variant.is_delta() {
        let repeat = stream.repeat(ENDPOINTS);
        stream.send(repeat);
    }
    assert_eq!(stream.expect_and_ack(ENDPOINTS).await.names(), ["a"]);
    stream.expect_silence(CLUSTER).await;
}

in_variants!(c4_endpoints_are_sent_again_when_clusters_come_late_and_are_not_acknowledged, aggregated);
async fn c4_endpoints_are_sent_again_when_clusters_come_late_and_are_not_acknowledged(variant: Variant) {
    let world = World::start().await;
    world.put(eds_cluster("a", 1));
    world.set(endpoints("a", 2000));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.subscribe(ENDPOINTS, &["a"]);
    stream.expect_and_ack(ENDPOINTS).await;
    stream.watch_all(CLUSTER);
    let clusters = stream.expect_type(CLUSTER).await;
    // Envoy acknowledges a cluster response at once, but nothing may depend on it.
    assert_eq!(stream.expect_and_ack(ENDPOINTS).await.names(), ["a"]);
    stream.ack(&clusters);
    stream.expect_silence(CLUSTER).await;
}

in_variants!(c6_reconnecting_fleet_moves_almost_nothing, all);
async fn c6_reconnecting_fleet_moves_almost_nothing(variant: Variant) {
    const CLIENTS: usize = 50;
    const RESOURCES: usize = 200;
    let world = World::start().await;
    for number in 0..RESOURCES {
        world.put(static_cluster(&format!("cluster-{number}"), 1));
        world.put(test_resource(LISTENER, &format!("listener-{number}"), 1));
    }
    world.publish();
    let mut full_sync = 0;
    let mut held = Vec::new();
    let mut first = world.client(variant).await;
    for type_url in [CLUSTER, LISTENER] {
        first.watch_all(type_url);
        let mut responses: Vec<Response> = Vec::new();
        while responses.iter().map(|response| response.resources.len()).sum::<usize>() < RESOURCES {
            responses.push(first.expect_and_ack(type_url).await);
        }
        full_sync += responses.iter().map(|response| response.size).sum::<usize>();
        held.push((type_url, responses));
    }
    let mut bytes = 0;
    for number in 0..CLIENTS {
        let mut client = Client::new(world.connect().await, variant, &format!("fleet/{number}"));
        for (type_url, responses) in &held {
            let mut request = Request::of(type_url, &[]);
            for response in responses {
                request.version.clone_from(&response.version);
                for resource in response.resources.iter().filter(|_| variant.is_delta()) {
                    request = request.holding(&resource.name, &resource.version);
                }
            }
            client.on(type_url).watch_all_with(request);
        }
        for (type_url, _) in &held {
            // A delta client may be told that there is nothing to tell, once.
            if variant.is_delta() {
                let empty = client.expect_and_ack(type_url).await;
                assert!(empty.resources.is_empty() && empty.removed.is_empty(), "{empty:?}");
                bytes += empty.size;
            }
        }
        for (type_url, _) in &held {
            client.expect_silence(type_url).await;
        }
    }
    assert!(bytes * 100 < full_sync * CLIENTS, "{bytes} bytes of {}", full_sync * CLIENTS);
}
