//! Rules W: the order of a change, and warming.

use std::time::Duration;

use osm_xds::{Event, TypeUrl};
use osm_xds_test_support::{
    CLUSTER, Client, ENDPOINTS, EXTENSION, LISTENER, ROUTE, Response, SCOPED_ROUTE, SECRET, Stream, TEST_TYPES,
    Variant, World, WorldBuilder, eds_cluster, endpoints, extension, generic_secret, in_variants, listener, route,
    static_cluster, test_resource,
};

/// A world with one resource of each type, and a stream that holds all of them.
async fn settled(world: &World, variant: Variant) -> Stream {
    for type_url in TEST_TYPES {
        world.put(test_resource(type_url, "a", 1));
    }
    world.put(eds_cluster("a", 1));
    world.publish();
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    stream.subscribe(ENDPOINTS, &["a", "b"]);
    skip_removed(&mut stream, ENDPOINTS).await;
    stream.subscribe(SECRET, &["a", "b"]);
    skip_removed(&mut stream, SECRET).await;
    stream.watch_all(LISTENER);
    stream.expect_and_ack(LISTENER).await;
    stream.watch_all(SCOPED_ROUTE);
    stream.expect_and_ack(SCOPED_ROUTE).await;
    stream.subscribe(ROUTE, &["a", "b"]);
    skip_removed(&mut stream, ROUTE).await;
    stream.expect_silence(CLUSTER).await;
    stream
}

/// The answer to a subscription to `a`, which is there, and `b`, which is not.
async fn skip_removed(stream: &mut Stream, type_url: &str) {
    let response = stream.expect_and_ack(type_url).await;
    assert_eq!(response.names(), ["a"]);
    let missing = if stream.variant().is_delta() { vec!["b".to_owned()] } else { Vec::new() };
    assert_eq!(response.removed, missing);
}

in_variants!(w1_one_change_goes_out_in_make_before_break_order, aggregated);
async fn w1_one_change_goes_out_in_make_before_break_order(variant: Variant) {
    let world = World::start().await;
    let mut stream = settled(&world, variant).await;
    // One change touches every type: everything called `a` is replaced by something called `b`.
    for type_url in TEST_TYPES {
        world.remove(type_url, "a");
        world.put(test_resource(type_url, "b", 1));
    }
    world.put(eds_cluster("b", 1));
    world.publish();
    let mut arrived: Vec<Response> = Vec::new();
    let removed = |arrived: &[Response], type_url: &str| {
        arrived.iter().any(|response| {
            response.type_url == type_url
                && (response.removed.iter().any(|name| name == "a")
                    || (!variant.is_delta() && response.names() == ["b"]))
        })
    };
    // Clusters and listeners say in both protocols that something is gone.
    while !(removed(&arrived, CLUSTER) && removed(&arrived, LISTENER) && added(&arrived, ROUTE).is_some()) {
        let response = stream.expect().await;
        stream.ack(&response);
        arrived.push(response);
    }
    let positions: Vec<_> = [CLUSTER, ENDPOINTS, SECRET, LISTENER, SCOPED_ROUTE, ROUTE]
        .map(|type_url| added(&arrived, type_url).expect("`b` of every type arrived"))
        .to_vec();
    assert!(positions.is_sorted(), "additions in order: {positions:?}");
    let last_addition = positions.last().copied().expect("some");
    let cluster_removal = arrived
        .iter()
        .position(|response| response.type_url == CLUSTER && removed(std::slice::from_ref(response), CLUSTER))
        .expect("the cluster is removed");
    assert!(cluster_removal > last_addition, "the cluster goes when nothing names it any more");
}

/// Where the new resource of a type arrived.
fn added(arrived: &[Response], type_url: &str) -> Option<usize> {
    arrived.iter().position(|response| response.type_url == type_url && response.get("b").is_some())
}

in_variants!(w2_changed_cluster_is_followed_by_its_endpoints, aggregated);
async fn w2_changed_cluster_is_followed_by_its_endpoints(variant: Variant) {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        world.put(eds_cluster(name, 1));
        world.put(endpoints(name, 2000));
    }
    world.publish();
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    stream.subscribe(ENDPOINTS, &["a", "b", "c"]);
    stream.expect_and_ack(ENDPOINTS).await;
    for revision in 2..20 {
        world.set(eds_cluster("b", revision));
        assert!(stream.expect_and_ack(CLUSTER).await.get("b").is_some());
        let followed = stream.expect_and_ack(ENDPOINTS).await;
        assert_eq!(followed.names(), ["b"], "unchanged, but the cluster warms; and no other");
        stream.expect_silence(CLUSTER).await;
    }
}

in_variants!(w2_new_cluster_is_followed_by_its_endpoints_if_they_were_asked_for, aggregated);
async fn w2_new_cluster_is_followed_by_its_endpoints_if_they_were_asked_for(variant: Variant) {
    let world = World::start().await;
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    world.put(eds_cluster("late", 1));
    world.set(endpoints("late", 2000));
    stream.expect_and_ack(CLUSTER).await;
    stream.expect_silence(CLUSTER).await;
    stream.subscribe(ENDPOINTS, &["late"]);
    assert_eq!(stream.expect_and_ack(ENDPOINTS).await.names(), ["late"]);
    stream.expect_silence(CLUSTER).await;
}

in_variants!(w3_repeated_endpoints_request_after_clusters_is_answered, [sotw_ads SOTW_ADS]);
async fn w3_repeated_endpoints_request_after_clusters_is_answered(variant: Variant) {
    let world = World::start().await;
    world.put(eds_cluster("a", 1));
    world.set(endpoints("a", 2000));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    stream.subscribe(ENDPOINTS, &["a"]);
    stream.expect_and_ack(ENDPOINTS).await;
    for revision in 2..10 {
        world.set(eds_cluster("a", revision));
        stream.expect_and_ack(CLUSTER).await;
        // Word for word the ACK of before: same list, version and nonce.
        let repeat = stream.repeat(ENDPOINTS);
        stream.send(repeat);
        let answer = stream.expect_and_ack(ENDPOINTS).await;
        assert_eq!(answer.names(), ["a"]);
        stream.expect_silence(CLUSTER).await;
    }
}

in_variants!(w4_route_waits_until_its_cluster_is_acknowledged, aggregated);
async fn w4_route_waits_until_its_cluster_is_acknowledged(variant: Variant) {
    let world = World::start().await;
    let mut stream = settled(&world, variant).await;
    world.put(eds_cluster("b", 1));
    world.put(endpoints("b", 2001));
    world.set(route("a", 2));
    let clusters = stream.expect_type(CLUSTER).await;
    assert!(clusters.get("b").is_some());
    // The endpoints need not wait for the ACK of the cluster, the route must.
    let assignment = stream.expect_type(ENDPOINTS).await;
    assert_eq!(assignment.names(), ["b"]);
    stream.expect_silence(ROUTE).await;
    stream.ack(&clusters);
    stream.expect_silence(ROUTE).await;
    stream.ack(&assignment);
    assert_eq!(stream.expect_and_ack(ROUTE).await.names(), ["a"]);
}

in_variants!(w4_cluster_stays_until_routes_without_it_are_acknowledged, aggregated);
async fn w4_cluster_stays_until_routes_without_it_are_acknowledged(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("old", 1));
    let mut stream = settled(&world, variant).await;
    world.remove(CLUSTER, "old");
    world.set(route("a", 2));
    let route = stream.expect_type(ROUTE).await;
    // The client withholds the ACK: it never sees the removal, however much else changes.
    for revision in 0..5 {
        world.set(generic_secret("a", &format!("secret {revision}")));
        stream.expect_and_ack(SECRET).await;
        stream.expect_silence(CLUSTER).await;
    }
    stream.ack(&route);
    let removal = stream.expect_and_ack(CLUSTER).await;
    if variant.is_delta() {
        assert_eq!((removal.removed.clone(), removal.names().len()), (vec!["old".to_owned()], 0));
    } else {
        assert_eq!(removal.names(), ["a"]);
    }
}

in_variants!(w5_unanswered_step_stops_later_steps_of_that_proxy_only, aggregated);
async fn w5_unanswered_step_stops_later_steps_of_that_proxy_only(variant: Variant) {
    let world = WorldBuilder::default()
        .settings(|settings| settings.stream.stall_limit = Duration::from_millis(50))
        .start()
        .await;
    let mut silent = settled(&world, variant).await;
    let mut other = Client::new(world.connect().await, variant, "fleet/2");
    other.watch_all(CLUSTER);
    other.expect_and_ack(CLUSTER).await;
    other.subscribe(ROUTE, &["a"]);
    other.expect_and_ack(ROUTE).await;

    world.put(static_cluster("b", 1));
    world.set(route("a", 2));
    let clusters = silent.expect_type(CLUSTER).await;
    assert!(other.expect_and_ack(CLUSTER).await.get("b").is_some());
    assert_eq!(other.expect_and_ack(ROUTE).await.names(), ["a"], "the other proxy goes on");
    // After the limit the wait becomes visible, and the step is still not taken.
    let (proxy, waiting, waits_for) = world
        .wait_event(|client, event| match event {
            Event::Stalled { waiting, waits_for, .. } => {
                Some((client.admission.proxy.clone(), waiting.clone(), waits_for.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!(proxy.as_str(), osm_xds_test_support::NODE);
    assert!([TypeUrl::Listener, TypeUrl::ScopedRouteConfiguration, TypeUrl::RouteConfiguration].contains(&waiting));
    assert_eq!(waits_for, TypeUrl::Cluster);
    silent.expect_silence(ROUTE).await;
    silent.ack(&clusters);
    assert_eq!(silent.expect_and_ack(ROUTE).await.names(), ["a"]);
}

in_variants!(w5_rejected_step_stops_later_steps_of_that_proxy, aggregated);
async fn w5_rejected_step_stops_later_steps_of_that_proxy(variant: Variant) {
    let world = World::start().await;
    let mut stream = settled(&world, variant).await;
    world.put(static_cluster("b", 1));
    world.set(route("a", 2));
    let clusters = stream.expect_type(CLUSTER).await;
    stream.nack(&clusters, "b is bad");
    stream.expect_silence(ROUTE).await;
    // The fix lets the change through as a whole.
    world.set(static_cluster("b", 2));
    assert!(stream.expect_and_ack(CLUSTER).await.get("b").is_some());
    assert_eq!(stream.expect_and_ack(ROUTE).await.names(), ["a"]);
}

in_variants!(w7_rotated_secret_is_sent_alone, all);
async fn w7_rotated_secret_is_sent_alone(variant: Variant) {
    let world = World::start().await;
    world.put(static_cluster("a", 1));
    world.put(listener("l", 1));
    world.set(generic_secret("s", "first"));
    let mut client = world.client(variant).await;
    client.watch_all(CLUSTER);
    client.expect_and_ack(CLUSTER).await;
    client.watch_all(LISTENER);
    client.expect_and_ack(LISTENER).await;
    client.subscribe(SECRET, &["s"]);
    client.expect_and_ack(SECRET).await;
    for rotation in 0..20 {
        world.set(generic_secret("s", &format!("rotation {rotation}")));
        assert_eq!(client.expect_and_ack(SECRET).await.names(), ["s"]);
    }
    client.expect_silence(CLUSTER).await;
    client.expect_silence(LISTENER).await;
}

in_variants!(w7_secret_subscriptions_survive_listener_churn, all);
async fn w7_secret_subscriptions_survive_listener_churn(variant: Variant) {
    let world = World::start().await;
    world.put(listener("l", 1));
    world.set(generic_secret("s", "0"));
    let mut client = world.client(variant).await;
    client.watch_all(LISTENER);
    client.expect_and_ack(LISTENER).await;
    for round in 1..30 {
        client.subscribe(SECRET, &["s"]);
        let response = client.expect_and_ack(SECRET).await;
        assert_eq!(response.get("s").expect("there").value, generic_secret("s", &(round - 1).to_string()).value);
        world.set(listener("l", round + 1));
        client.expect_and_ack(LISTENER).await;
        // The listener that used it drains; the one that replaces it asks again.
        client.unsubscribe(SECRET, &["s"]);
        client.expect_silence(SECRET).await;
        world.set(generic_secret("s", &round.to_string()));
    }
    client.subscribe(SECRET, &["s"]);
    client.expect_and_ack(SECRET).await;
    world.set(generic_secret("s", "last"));
    let response = client.expect_and_ack(SECRET).await;
    assert_eq!(response.get("s").expect("pushed").value, generic_secret("s", "last").value);
}

in_variants!(w8_extension_stays_while_a_listener_refers_to_it, aggregated);
async fn w8_extension_stays_while_a_listener_refers_to_it(variant: Variant) {
    let world = World::start().await;
    world.put(extension("filter"));
    world.put(static_cluster("marker", 1));
    world.set(listener("l", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(LISTENER);
    stream.expect_and_ack(LISTENER).await;
    stream.subscribe(EXTENSION, &["filter"]);
    assert_eq!(stream.expect_and_ack(EXTENSION).await.names(), ["filter"]);
    // The listener stops to refer to it, and it goes, in one change.
    world.remove(EXTENSION, "filter");
    world.set(listener("l", 2));
    let listeners = stream.expect_type(LISTENER).await;
    stream.expect_silence(EXTENSION).await;
    stream.ack(&listeners);
    if variant.is_delta() {
        assert_eq!(stream.expect_and_ack(EXTENSION).await.removed, ["filter"]);
    }
    // State of the world never says that an extension is gone.
    stream.expect_silence(EXTENSION).await;
}

in_variants!(w9_all_parts_of_the_first_clusters_precede_the_listeners, [delta_ads DELTA_ADS]);
async fn w9_all_parts_of_the_first_clusters_precede_the_listeners(variant: Variant) {
    const COUNT: usize = 2_000;
    let world = World::start().await;
    for number in 0..COUNT {
        world.put(static_cluster(&format!("cluster-{number}"), 1));
    }
    world.set(listener("l", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    // A client that takes the first part for the whole asks for listeners at once.
    stream.watch_all(LISTENER);
    let mut received = 0;
    let mut parts = 0;
    while received < COUNT {
        received += stream.expect_and_ack(CLUSTER).await.resources.len();
        parts += 1;
    }
    assert!(parts > 1, "the test is about several parts");
    assert_eq!(stream.expect_and_ack(LISTENER).await.names(), ["l"]);
}
