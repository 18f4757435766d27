//! Rules N: the stream, the node, the types.

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::pb::envoy::config::core::v3::Node;
use osm_xds::{Delivery, Event, Refusal, SnapshotKey};
use osm_xds_test_support::{
    Authority, CLUSTER, Client, Connection, ENDPOINTS, EXTENSION, FLEET, LISTENER, NODE, Path, ROUTE, RUNTIME, Request,
    SCOPED_ROUTE, SECRET, TEST_TYPES, Tls, Variant, WILDCARD_TYPES, World, WorldBuilder, admit, endpoints,
    generic_secret, in_variants, static_cluster, test_resource,
};
use tonic::Code;

in_variants!(n1_node_of_the_first_message_counts_for_the_stream, all);
async fn n1_node_of_the_first_message_counts_for_the_stream(variant: Variant) {
    let world = World::start().await;
    world.put_for("left", generic_secret("own", "left"), Delivery::Wildcard);
    world.put_for("right", generic_secret("own", "right"), Delivery::Wildcard);
    world.publish();
    for (node, expected) in [("left/1", "left"), ("right/1", "right")] {
        let mut stream = world.connect().await.open(variant, SECRET, node);
        // Only this message carries the node.
        stream.subscribe(SECRET, &["fence-60"]);
        stream.expect_and_ack(SECRET).await;
        stream.subscribe(SECRET, &["own"]);
        let response = stream.expect_and_ack(SECRET).await;
        let own = response.get("own").expect("the node's own secret");
        assert!(String::from_utf8_lossy(&own.value).contains(expected));
        // The same node again is fine.
        let node = Node { id: node.into(), cluster: "test".into(), ..Node::default() };
        let mut again = stream.repeat(SECRET);
        if variant.is_delta() {
            again = Request::of(SECRET, &[]);
        }
        stream.send(Request { node: Some(node), ..again });
        stream.expect_silence(SECRET).await;
    }
}

in_variants!(n2_first_message_without_node_is_refused, all);
async fn n2_first_message_without_node_is_refused(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let mut absent = world.stream(variant, CLUSTER).await;
    absent.send_without_node(&Request::of(CLUSTER, &[]));
    let mut empty = world.stream(variant, CLUSTER).await;
    empty.send(Request { node: Some(Node::default()), ..Request::of(CLUSTER, &[]) });
    for mut stream in [absent, empty] {
        let status = stream.expect_end().await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("node"), "the message names what is missing: {status:?}");
    }
}

in_variants!(n3_node_id_is_bound_to_the_certificate, all);
async fn n3_node_id_is_bound_to_the_certificate(variant: Variant) {
    let authority = Authority::new("test authority");
    let identities = ["a/1", "b/1"].map(|node| (node, authority.issue(&[&format!("spiffe://test/{node}")])));
    let nodes: BTreeMap<_, _> =
        identities.iter().map(|(node, identity)| (identity.der.clone(), (*node).to_owned())).collect();
    let world = WorldBuilder::default()
        .tls(&authority)
        .authenticate(move |peer, node| {
            let proved = peer.certificates.first().and_then(|leaf| nodes.get(leaf.as_ref()));
            match proved {
                Some(proved) if **proved == *node.id => Ok(admit(proved)),
                Some(_) => Err(Refusal::PermissionDenied("the certificate is of another node".into())),
                None => Err(Refusal::Unauthenticated("no certificate".into())),
            }
        })
        .start()
        .await;
    for key in ["a", "b"] {
        world.put_for(key, generic_secret("own", key), Delivery::Wildcard);
    }
    world.publish();
    let connect = async |index: usize| {
        let tls = Tls {
            identity: Some(identities[index].1.clone()),
            authority: authority.certificate().to_owned(),
            server_name: "localhost".into(),
        };
        Connection::tls(world.address, &tls).await.expect("both certificates are trusted")
    };

    let mut honest = connect(0).await.open(variant, SECRET, "a/1");
    honest.subscribe(SECRET, &["own"]);
    let response = honest.expect_and_ack(SECRET).await;
    assert!(String::from_utf8_lossy(&response.get("own").expect("own").value).ends_with('a'));

    let mut thief = connect(0).await.open(variant, SECRET, "b/1");
    thief.subscribe(SECRET, &["own"]);
    // `expect_end` fails when any response comes, so no secret of `b` has crossed the wire.
    let status = thief.expect_end().await.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied);
}

in_variants!(n3_client_without_certificate_is_not_served, all);
async fn n3_client_without_certificate_is_not_served(variant: Variant) {
    let authority = Authority::new("test authority");
    let world = WorldBuilder::default().tls(&authority).start().await;
    let tls = Tls { identity: None, authority: authority.certificate().to_owned(), server_name: "localhost".into() };
    // Under TLS 1.3 the client may learn of the refusal only when it uses the connection.
    if let Ok(connection) = Connection::tls(world.address, &tls).await {
        let mut stream = connection.open(variant, CLUSTER, NODE);
        stream.watch_all(CLUSTER);
        stream.expect_end().await.expect_err("refused");
    }
    assert!(world.events().is_empty(), "no stream came into being: {:?}", world.events());
}

in_variants!(n4_empty_type_is_refused_on_the_aggregated_stream, aggregated);
async fn n4_empty_type_is_refused_on_the_aggregated_stream(variant: Variant) {
    let world = World::start().await;
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.send(Request::default());
    let status = stream.expect_end().await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("type_url"), "{status:?}");
}

in_variants!(n4_type_is_implied_on_a_single_type_service, single);
async fn n4_type_is_implied_on_a_single_type_service(variant: Variant) {
    let world = World::start().await;
    for type_url in TEST_TYPES {
        world.set(test_resource(type_url, "a", 1));
        let mut stream = world.stream(variant, type_url).await;
        stream.send(Request { type_url: String::new(), ..Request::of(type_url, &["a"]) });
        assert_eq!(stream.expect_type(type_url).await.names(), ["a"]);
    }
}

in_variants!(n4_foreign_type_is_refused_on_a_single_type_service, single);
async fn n4_foreign_type_is_refused_on_a_single_type_service(variant: Variant) {
    let world = World::start().await;
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.send(Request::of(LISTENER, &[]));
    let status = stream.expect_end().await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
}

in_variants!(n5_unknown_type_does_not_disturb_the_others, aggregated);
async fn n5_unknown_type_does_not_disturb_the_others(variant: Variant) {
    const UNKNOWN: &str = "type.googleapis.com/example.v9.Unheard";
    let world = World::start().await;
    world.set_all(&[(CLUSTER, "a", 1), (ENDPOINTS, "a", 1)]);
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    stream.subscribe(UNKNOWN, &["x"]);
    if variant.is_delta() {
        let response = stream.expect_and_ack(UNKNOWN).await;
        assert_eq!(response.removed, ["x"]);
        assert!(response.resources.is_empty());
    }
    stream.subscribe(ENDPOINTS, &["a"]);
    assert_eq!(stream.expect_and_ack(ENDPOINTS).await.names(), ["a"]);
    world.set(static_cluster("a", 2));
    assert_eq!(stream.expect_and_ack(CLUSTER).await.names(), ["a"]);
    stream.expect_silence(CLUSTER).await;
}

in_variants!(n6_rejection_of_one_type_does_not_stop_another, aggregated);
async fn n6_rejection_of_one_type_does_not_stop_another(variant: Variant) {
    let world = World::start().await;
    world.set_all(&[(CLUSTER, "a", 1), (ROUTE, "r", 1)]);
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    stream.subscribe(ROUTE, &["r"]);
    let route = stream.expect_type(ROUTE).await;
    stream.nack(&route, "no such route");
    world.set(static_cluster("b", 1));
    let response = stream.expect_and_ack(CLUSTER).await;
    assert!(response.names().contains(&"b"));
    stream.expect_silence(CLUSTER).await;
}

in_variants!(n6_nonce_of_another_type_is_stale, aggregated);
async fn n6_nonce_of_another_type_is_stale(variant: Variant) {
    let world = World::start().await;
    world.set_all(&[(CLUSTER, "a", 1), (ENDPOINTS, "a", 1)]);
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    let clusters = stream.expect_and_ack(CLUSTER).await;
    stream.subscribe(ENDPOINTS, &["a"]);
    let assignment = stream.expect_type(ENDPOINTS).await;
    // An ACK of the endpoints with the nonce of the clusters is none: a change of the endpoints must wait.
    stream.send(Request::of(ENDPOINTS, if variant.is_delta() { &[] } else { &["a"] }).nonce(&clusters.nonce));
    world.set(endpoints("a", 2002));
    stream.expect_silence(CLUSTER).await;
    stream.ack(&assignment);
    assert_eq!(stream.expect_and_ack(ENDPOINTS).await.names(), ["a"]);
}

in_variants!(n7_every_type_is_served_changed_and_removed, all);
async fn n7_every_type_is_served_changed_and_removed(variant: Variant) {
    for type_url in TEST_TYPES {
        let world = World::start().await;
        world.set_all(&[(type_url, "a", 1), (type_url, "b", 1)]);
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a", "b"]);
        let first = stream.expect_and_ack(type_url).await;
        assert_eq!(first.names(), ["a", "b"]);
        world.set(test_resource(type_url, "a", 2));
        let second = stream.expect_and_ack(type_url).await;
        assert_eq!(second.get("a").expect("changed").value, test_resource(type_url, "a", 2).value);
        world.remove(type_url, "b");
        world.publish();
        if variant.is_delta() {
            assert_eq!(stream.expect_and_ack(type_url).await.removed, ["b"]);
        } else if WILDCARD_TYPES.contains(&type_url) {
            assert_eq!(stream.expect_and_ack(type_url).await.names(), ["a"]);
        }
        stream.expect_silence(type_url).await;
    }
}

in_variants!(n7_types_without_resources_of_their_own_are_served_too, all);
async fn n7_types_without_resources_of_their_own_are_served_too(variant: Variant) {
    let world = World::start().await;
    for type_url in [EXTENSION, RUNTIME] {
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["missing"]);
        if variant.is_delta() {
            assert_eq!(stream.expect_and_ack(type_url).await.removed, ["missing"]);
        }
        stream.expect_silence(type_url).await;
    }
}

in_variants!(n8_not_ready_refuses_instead_of_serving_an_empty_world, all);
async fn n8_not_ready_refuses_instead_of_serving_an_empty_world(variant: Variant) {
    let world = WorldBuilder::default().starting().start().await;
    let mut early = world.stream(variant, CLUSTER).await;
    early.watch_all(CLUSTER);
    assert_eq!(early.expect_end().await.expect_err("refused").code(), Code::Unavailable);
    // Published but not yet declared complete: still refused.
    world.set(static_cluster("a", 1));
    let mut early = world.stream(variant, CLUSTER).await;
    early.watch_all(CLUSTER);
    assert_eq!(early.expect_end().await.expect_err("refused").code(), Code::Unavailable);
    world.cache.set_ready();
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    assert_eq!(stream.expect_type(CLUSTER).await.names(), ["a"]);
}

in_variants!(n8_proxy_without_a_snapshot_is_refused, all);
async fn n8_proxy_without_a_snapshot_is_refused(variant: Variant) {
    let world = World::start().await;
    let mut stream = world.connect().await.open(variant, CLUSTER, "stranger/1");
    stream.watch_all(CLUSTER);
    assert_eq!(stream.expect_end().await.expect_err("refused").code(), Code::Unavailable);
}

in_variants!(n9_second_stream_of_a_node_outlives_the_first, all);
async fn n9_second_stream_of_a_node_outlives_the_first(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let mut first = world.stream(variant, CLUSTER).await;
    first.watch_all(CLUSTER);
    first.expect_and_ack(CLUSTER).await;
    let mut second = world.stream(variant, CLUSTER).await;
    second.watch_all(CLUSTER);
    assert_eq!(second.expect_and_ack(CLUSTER).await.names(), ["a"], "the second stream gets full state");
    let (rest, _) = first.finish().await;
    assert!(rest.is_empty());
    world.wait_event(|_, event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    world.set(static_cluster("a", 2));
    let response = second.expect_and_ack(CLUSTER).await;
    assert_eq!(response.get("a").expect("changed").value, static_cluster("a", 2).value);
}

in_variants!(n10_state_of_a_stream_is_freed_when_it_ends, all);
async fn n10_state_of_a_stream_is_freed_when_it_ends(variant: Variant) {
    const CYCLES: usize = 100;
    let world = World::start().await;
    // Larger than the client's window: a client that goes away without reading ends the stream in the middle of a send.
    for number in 0..200 {
        world.put(generic_secret(&format!("s{number}"), &"x".repeat(1000)));
        world.put(static_cluster(&format!("c{number}"), 1));
    }
    world.publish();
    let key = SnapshotKey::new(FLEET);
    let served = Arc::downgrade(&world.cache.current(&key).expect("published").snapshot);
    for cycle in 0..CYCLES {
        let connection = Connection::with_window(world.address, 65_535).await;
        let mut client = Client::new(connection, variant, NODE);
        client.watch_all(CLUSTER);
        if cycle % 2 == 0 {
            client.expect(CLUSTER).await;
        } else {
            let names: Vec<_> = (0..200).map(|number| format!("s{number}")).collect();
            client.subscribe(SECRET, &names.iter().map(String::as_str).collect::<Vec<_>>());
            client.expect(if variant.path == Path::Aggregated { CLUSTER } else { SECRET }).await;
        }
    }
    world
        .wait_events(|events| {
            let connected = events.iter().filter(|(_, event)| *event == Event::Connected).count();
            let ended = events.iter().filter(|(_, event)| matches!(event, Event::Disconnected(_))).count();
            (connected >= CYCLES && connected == ended).then_some(())
        })
        .await;
    assert_eq!(world.server().clients(), 0);
    // What the streams were served is not kept by anything of theirs.
    world.set(static_cluster("another", 1));
    assert!(served.upgrade().is_none(), "the old snapshot is freed");
}

in_variants!(n7_scoped_routes_have_a_wildcard, all);
async fn n7_scoped_routes_have_a_wildcard(variant: Variant) {
    let world = World::start().await;
    world.set_all(&[(SCOPED_ROUTE, "a", 1), (SCOPED_ROUTE, "b", 1)]);
    let mut stream = world.stream(variant, SCOPED_ROUTE).await;
    stream.watch_all(SCOPED_ROUTE);
    assert_eq!(stream.expect_and_ack(SCOPED_ROUTE).await.names(), ["a", "b"]);
    stream.expect_silence(SCOPED_ROUTE).await;
}
