//! Rules F: flow control, limits, lifetime.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use osm_xds::{CloseReason, Event, TypeUrl};
use osm_xds_test_support::{
    CLUSTER, Client, Connection, ENDPOINTS, LISTENER, NODE, Path, Relay, Request, SECRET, Stream, Variant, World,
    WorldBuilder, endpoints, generic_secret, in_variants, static_cluster,
};
use tonic::Code;

/// Larger than [`WINDOW`], so that sending one of these to a client that does not read cannot end.
const LARGE: usize = 100_000;
const WINDOW: u32 = 65_535;

/// A secret of [`LARGE`] bytes whose content is told apart by a number.
fn large(number: usize) -> osm_xds_test_support::TestResource {
    generic_secret("large", &format!("{}{number}", "x".repeat(LARGE)))
}

fn disconnected(world: &World) -> Vec<CloseReason> {
    let events = world.events();
    events
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::Disconnected(reason) => Some(reason),
            _ => None,
        })
        .collect()
}

in_variants!(f1_clients_that_do_not_read_delay_nobody, all);
async fn f1_clients_that_do_not_read_delay_nobody(variant: Variant) {
    const CLIENTS: usize = 20;
    const STALLED: usize = 4;
    const CHANGES: usize = 30;
    let world = World::start().await;
    world.set(large(0));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let connection = Connection::with_window(world.address, WINDOW).await;
        let mut stream = connection.open(variant, SECRET, &format!("fleet/{number}"));
        stream.subscribe(SECRET, &["large"]);
        clients.push(stream);
    }
    let mut stalled = clients.split_off(CLIENTS - STALLED);
    for client in &mut clients {
        client.expect_and_ack(SECRET).await;
    }
    for number in 1..=CHANGES {
        world.set(large(number));
        for client in &mut clients {
            let response = client.expect_and_ack(SECRET).await;
            assert_eq!(response.get("large").expect("pushed").value, large(number).value);
        }
    }
    // Those that slept get what was under way when they stopped, and then the newest state at once: nothing was queued.
    for client in &mut stalled {
        let first = client.expect_and_ack(SECRET).await;
        assert_eq!(first.get("large").expect("the first state").value, large(0).value);
        let merged = client.expect_and_ack(SECRET).await;
        assert_eq!(merged.get("large").expect("the newest state").value, large(CHANGES).value);
        client.expect_silence(SECRET).await;
    }
}

in_variants!(f2_one_unacknowledged_response_then_one_merged, all);
async fn f2_one_unacknowledged_response_then_one_merged(variant: Variant) {
    const CHANGES: u16 = 100;
    for type_url in [ENDPOINTS, CLUSTER] {
        let world = World::start().await;
        let change = |number: u16| match type_url {
            ENDPOINTS => endpoints("a", 1000 + number),
            _ => static_cluster("a", u32::from(number) + 1),
        };
        world.set(change(0));
        let mut stream = world.stream(variant, type_url).await;
        stream.subscribe(type_url, &["a"]);
        let held = stream.expect_type(type_url).await;
        for number in 1..=CHANGES {
            world.set(change(number));
        }
        if variant.path == Path::Aggregated {
            stream.expect_silence(type_url).await;
        }
        stream.ack(&held);
        let merged = stream.expect_and_ack(type_url).await;
        assert_eq!(merged.get("a").expect("the newest state").value, change(CHANGES).value);
        stream.expect_silence(type_url).await;
    }
}

in_variants!(f3_client_that_never_acknowledges_is_closed, all);
async fn f3_client_that_never_acknowledges_is_closed(variant: Variant) {
    let world = WorldBuilder::default()
        .settings(|settings| settings.stream.acknowledge_limit = Duration::from_millis(100))
        .start()
        .await;
    world.set(static_cluster("a", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_type(CLUSTER).await;
    let status = stream.expect_end().await.expect_err("closed");
    assert!(status.message().contains("acknowledge"), "it says why: {status:?}");
    assert_eq!(disconnected(&world), [CloseReason::NotAcknowledged(TypeUrl::Cluster)]);
}

in_variants!(f3_client_that_acknowledges_is_not_closed, all);
async fn f3_client_that_acknowledges_is_not_closed(variant: Variant) {
    let limit = Duration::from_millis(100);
    let world = WorldBuilder::default().settings(|settings| settings.stream.acknowledge_limit = limit).start().await;
    world.set(static_cluster("a", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    // The stream of a client that goes quiet ends after the limit; by then the other one would have ended too.
    let mut quiet = world.stream(variant, CLUSTER).await;
    quiet.watch_all(CLUSTER);
    quiet.expect_type(CLUSTER).await;
    quiet.expect_end().await.expect_err("closed");
    stream.expect_silence(CLUSTER).await;
}

in_variants!(f3_client_that_never_reads_is_closed, all);
async fn f3_client_that_never_reads_is_closed(variant: Variant) {
    let world =
        WorldBuilder::default().settings(|settings| settings.read_limit = Duration::from_millis(100)).start().await;
    // The transport takes one piece beyond the client's window, and does not come back for the next.
    for number in 0..4 {
        world.put(generic_secret(&format!("large-{number}"), &"x".repeat(LARGE)));
    }
    world.publish();
    let mut stream = Connection::with_window(world.address, WINDOW).await.open(variant, SECRET, NODE);
    stream.subscribe(SECRET, &["large-0", "large-1", "large-2", "large-3"]);
    assert_eq!(first_disconnection(&world).await, CloseReason::NotReading);
}

in_variants!(f3_client_that_never_reads_the_end_of_one_large_piece_is_closed, all);
async fn f3_client_that_never_reads_the_end_of_one_large_piece_is_closed(variant: Variant) {
    let world =
        WorldBuilder::default().settings(|settings| settings.read_limit = Duration::from_millis(100)).start().await;
    world.set(large(0));
    let mut stream = Connection::with_window(world.address, WINDOW).await.open(variant, SECRET, NODE);
    stream.subscribe(SECRET, &["large"]);
    assert_eq!(first_disconnection(&world).await, CloseReason::NotReading);
}

async fn first_disconnection(world: &World) -> CloseReason {
    world
        .wait_event(|_, event| match event {
            Event::Disconnected(reason) => Some(reason.clone()),
            _ => None,
        })
        .await
}

in_variants!(f4_streams_beyond_the_most_that_may_be_open_are_refused_until_one_has_ended, all);
async fn f4_streams_beyond_the_most_that_may_be_open_are_refused_until_one_has_ended(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let mut first = world.stream(variant, CLUSTER).await;
    first.watch_all(CLUSTER);
    first.expect_and_ack(CLUSTER).await;
    world.server().server().limit_streams(Some(1));
    assert_eq!(world.server().server().streams_over_limit(), 0);

    let connection = world.connect().await;
    let mut second = connection.open(variant, CLUSTER, "fleet/second");
    second.watch_all(CLUSTER);
    let refused = second.next().await.expect_err("it is one too many").expect_err("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains('1'), "{}", refused.message());
    assert_eq!(world.server().server().streams_over_limit(), 1);
    // Who is served already is not hurt.
    world.set(static_cluster("a", 2));
    first.expect_and_ack(CLUSTER).await;

    // Its place is free again, at the latest when the server has seen it go.
    drop(first);
    let mut third = loop {
        let mut stream = connection.open(variant, CLUSTER, "fleet/third");
        stream.watch_all(CLUSTER);
        match stream.next().await {
            Ok(response) => {
                stream.ack(&response);
                break stream;
            }
            Err(ended) => assert_eq!(ended.expect_err("refused").code(), Code::ResourceExhausted),
        }
    };
    world.server().server().limit_streams(None);
    let mut fourth = connection.open(variant, CLUSTER, "fleet/fourth");
    fourth.watch_all(CLUSTER);
    fourth.expect_and_ack(CLUSTER).await;
    world.set(static_cluster("a", 3));
    third.expect_and_ack(CLUSTER).await;
}

in_variants!(f4_new_streams_beyond_the_limit_are_told_to_come_later, all);
async fn f4_new_streams_beyond_the_limit_are_told_to_come_later(variant: Variant) {
    const LIMIT: u32 = 20;
    const CLIENTS: u32 = 40;
    let world =
        WorldBuilder::default().settings(|settings| settings.new_streams_per_second = Some(LIMIT)).start().await;
    world.set(static_cluster("a", 1));
    let mut ready = world.stream(variant, CLUSTER).await;
    ready.watch_all(CLUSTER);
    ready.expect_and_ack(CLUSTER).await;

    let connection = world.connect().await;
    let mut waiting: Vec<_> = (0..CLIENTS).map(|number| format!("fleet/{number}")).collect();
    let mut served: Vec<Stream> = Vec::new();
    let mut refused = 0;
    let mut revision = 1;
    while !waiting.is_empty() {
        let mut streams: Vec<_> =
            waiting.iter().map(|node| (node.clone(), connection.open(variant, CLUSTER, node))).collect();
        for (_, stream) in &mut streams {
            stream.watch_all(CLUSTER);
        }
        waiting.clear();
        for (node, mut stream) in streams {
            match stream.next().await {
                Ok(response) => {
                    stream.ack(&response);
                    served.push(stream);
                }
                Err(ended) => {
                    assert_eq!(ended.expect_err("refused").code(), Code::ResourceExhausted);
                    refused += 1;
                    waiting.push(node);
                }
            }
        }
        // Those who are served already are not hurt by the crowd.
        revision += 1;
        world.set(static_cluster("a", revision));
        let response = ready.expect_and_ack(CLUSTER).await;
        assert_eq!(response.get("a").expect("pushed").value, static_cluster("a", revision).value);
    }
    assert_eq!(served.len(), CLIENTS as usize, "everyone is served in the end");
    assert!(refused > 0, "the limit was felt");
}

in_variants!(f5_a_thousand_streams_on_one_connection, all);
async fn f5_a_thousand_streams_on_one_connection(variant: Variant) {
    const STREAMS: usize = 1_000;
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let connection = world.connect().await;
    let mut streams: Vec<_> = (0..STREAMS)
        .map(|number| {
            let mut stream = connection.open(variant, CLUSTER, &format!("fleet/{number}"));
            stream.watch_all(CLUSTER);
            stream
        })
        .collect();
    // All are open at the same time: none is closed before the last has its answer.
    for stream in &mut streams {
        assert_eq!(stream.expect_and_ack(CLUSTER).await.names(), ["a"]);
    }
    world.set(static_cluster("a", 2));
    for stream in &mut streams {
        stream.expect_and_ack(CLUSTER).await;
    }
}

in_variants!(f6_half_open_connection_is_noticed, all);
async fn f6_half_open_connection_is_noticed(variant: Variant) {
    let world = WorldBuilder::default()
        .settings(|settings| {
            settings.keepalive_interval = Duration::from_millis(100);
            settings.keepalive_timeout = Duration::from_millis(100);
        })
        .start()
        .await;
    world.set(static_cluster("a", 1));
    let relay = Relay::start(world.address).await;
    let mut stream = Connection::plaintext(relay.address()).await.open(variant, CLUSTER, NODE);
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    stream.expect_silence(CLUSTER).await;
    assert_eq!(world.server().clients(), 1);
    // From here on packets vanish in both directions, and neither side is told.
    relay.swallow();
    world.wait_event(|_, event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    assert_eq!(world.server().clients(), 0);
}

in_variants!(f7_connections_end_at_an_age_that_is_spread, all);
async fn f7_connections_end_at_an_age_that_is_spread(variant: Variant) {
    const CLIENTS: usize = 40;
    let age = Duration::from_secs(1);
    let world = WorldBuilder::default().settings(|settings| settings.connection_age = Some(age)).start().await;
    world.set(static_cluster("a", 1));
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let address = world.address;
            tokio::spawn(async move {
                let opened = Instant::now();
                let mut stream =
                    Connection::plaintext(address).await.open(variant, CLUSTER, &format!("fleet/{number}"));
                stream.watch_all(CLUSTER);
                // Rule F10: a stream has had a response before it is closed, else clients count it as a failure.
                stream.expect_and_ack(CLUSTER).await;
                let ended = stream.expect_end().await;
                assert!(ended.is_ok(), "no error in the eyes of the client: {ended:?}");
                opened.elapsed()
            })
        })
        .collect();
    let mut ages = Vec::new();
    for task in tasks {
        ages.push(task.await.expect("no assertion failed"));
    }
    let shortest = *ages.iter().min().expect("some");
    let longest = *ages.iter().max().expect("some");
    assert!(shortest >= age.mul_f64(0.85), "{shortest:?}");
    assert!(longest - shortest >= age / 20, "closings are spread: {shortest:?} to {longest:?}");
    assert!(disconnected(&world).iter().all(|reason| *reason == CloseReason::Age), "{:?}", disconnected(&world));
}

in_variants!(f8_shutdown_ends_streams_between_messages, all);
async fn f8_shutdown_ends_streams_between_messages(variant: Variant) {
    const CLIENTS: usize = 20;
    let world = World::start().await;
    world.set(large(0));
    let connection = world.connect().await;
    let mut streams = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = connection.open(variant, SECRET, &format!("fleet/{number}"));
        stream.subscribe(SECRET, &["large"]);
        stream.expect_and_ack(SECRET).await;
        streams.push(stream);
    }
    world.set(large(1));
    let stopping = tokio::spawn(world.stop());
    for stream in &mut streams {
        // Whole messages (the client would not read a broken one), then the end.
        loop {
            match stream.next().await {
                Ok(response) => stream.ack(&response),
                Err(ended) => {
                    let code = ended.err().map(|status| status.code());
                    assert!(matches!(code, None | Some(Code::Unavailable)), "{code:?}");
                    break;
                }
            }
        }
    }
    stopping.await.expect("the server stops by itself");
}

in_variants!(f8_shutdown_that_is_spread_serves_until_each_turn_comes, all);
async fn f8_shutdown_that_is_spread_serves_until_each_turn_comes(variant: Variant) {
    // So long that no connection's turn comes while the test runs.
    let spread = Duration::from_secs(1_000_000_000);
    let world = WorldBuilder::default().settings(|settings| settings.shutdown_spread = spread).start().await;
    world.set(static_cluster("a", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    world.server().server().shutdown();
    world.set(static_cluster("a", 2));
    let response = stream.expect_and_ack(CLUSTER).await;
    assert_eq!(response.get("a").expect("pushed").value, static_cluster("a", 2).value);
}

in_variants!(f11_dismissed_proxy_loses_its_streams_and_its_neighbour_does_not, all);
async fn f11_dismissed_proxy_loses_its_streams_and_its_neighbour_does_not(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    // Both on one connection, as behind an aggregator.
    let connection = world.connect().await;
    let mut streams = [connection.open(variant, CLUSTER, NODE), connection.open(variant, CLUSTER, "fleet/2")];
    for stream in &mut streams {
        stream.watch_all(CLUSTER);
        stream.expect_and_ack(CLUSTER).await;
    }
    let [mut dismissed, mut neighbour] = streams;
    assert_eq!(world.server().server().dismiss(&osm_xds::ProxyName::new(NODE)), 1);
    let status = dismissed.expect_end().await.expect_err("an error, so that the client does not believe all is well");
    assert_eq!(status.code(), Code::PermissionDenied);
    world.set(static_cluster("a", 2));
    neighbour.expect_and_ack(CLUSTER).await;
    assert_eq!(disconnected(&world), [CloseReason::Dismissed]);
    assert_eq!(world.server().server().dismiss(&osm_xds::ProxyName::new("fleet/nobody")), 0);
}

in_variants!(f12_asked_to_reconnect_a_client_sees_an_orderly_end, all);
async fn f12_asked_to_reconnect_a_client_sees_an_orderly_end(variant: Variant) {
    let world = World::start().await;
    world.set(static_cluster("a", 1));
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.watch_all(CLUSTER);
    stream.expect_and_ack(CLUSTER).await;
    let server = world.server().server().clone();
    let cluster = osm_xds::TypeUrl::parse(CLUSTER);
    // Sent only after the first was acknowledged.
    world.set(static_cluster("a", 2));
    stream.expect_and_ack(CLUSTER).await;
    let progress = server.progress_of(&cluster);
    assert_eq!(progress.len(), 1);
    assert!(progress[0].subscribed && progress[0].acknowledged.is_some() && progress[0].certificates.is_empty());
    assert!(!server.progress_of(&osm_xds::TypeUrl::Secret)[0].subscribed);
    assert_eq!(server.reconnect(&osm_xds::ProxyName::new(NODE)), 1);
    stream.expect_end().await.expect("an orderly end: the client loses nothing");
    assert_eq!(disconnected(&world), [CloseReason::Reconnect]);
    assert_eq!(server.reconnect(&osm_xds::ProxyName::new("fleet/nobody")), 0);
}

/// A server with narrow limits.
async fn narrow() -> World {
    let world = WorldBuilder::default()
        .settings(|settings| {
            settings.request_bytes_limit = 64 * 1024;
            settings.stream.names_limit = 100;
            settings.stream.name_bytes_limit = 256;
            settings.stream.types_limit = 4;
            settings.first_request_timeout = Duration::from_millis(100);
        })
        .start()
        .await;
    world.set(static_cluster("a", 1));
    world
}

/// Refused, and the server goes on serving others.
async fn expect_refused(world: &World, mut stream: Stream, code: Code) {
    let mut ended = stream.next().await;
    while let Ok(response) = ended {
        stream.ack(&response);
        ended = stream.next().await;
    }
    let status = ended.expect_err("ended").expect_err("refused");
    assert_eq!(status.code(), code, "{status:?}");
    let mut other = world.stream(stream.variant(), CLUSTER).await;
    other.watch_all(CLUSTER);
    assert_eq!(other.expect_and_ack(CLUSTER).await.names(), ["a"]);
}

in_variants!(f9_requests_beyond_the_limits_are_refused, all);
async fn f9_requests_beyond_the_limits_are_refused(variant: Variant) {
    let world = narrow().await;
    let many: Vec<_> = (0..101).map(|number| format!("n{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let mut stream = world.stream(variant, SECRET).await;
    stream.send(Request::of(SECRET, &many));
    expect_refused(&world, stream, Code::InvalidArgument).await;

    let long = "x".repeat(257);
    let mut stream = world.stream(variant, SECRET).await;
    stream.send(Request::of(SECRET, &[&long]));
    expect_refused(&world, stream, Code::InvalidArgument).await;

    let mut stream = world.stream(variant, SECRET).await;
    stream.send(Request::of(SECRET, &[&"x".repeat(65 * 1024)]));
    expect_refused(&world, stream, Code::ResourceExhausted).await;
}

in_variants!(f9_subscriptions_do_not_grow_beyond_the_limit_step_by_step, delta);
async fn f9_subscriptions_do_not_grow_beyond_the_limit_step_by_step(variant: Variant) {
    let world = narrow().await;
    let mut stream = world.stream(variant, SECRET).await;
    for number in 0..=100 {
        stream.subscribe(SECRET, &[&format!("n{number}")]);
    }
    expect_refused(&world, stream, Code::InvalidArgument).await;
}

in_variants!(f9_types_on_a_stream_are_limited, aggregated);
async fn f9_types_on_a_stream_are_limited(variant: Variant) {
    let world = narrow().await;
    let mut stream = world.stream(variant, SECRET).await;
    for number in 0..5 {
        stream.subscribe(&format!("type.googleapis.com/example.Type{number}"), &["x"]);
    }
    expect_refused(&world, stream, Code::InvalidArgument).await;
}

in_variants!(f9_bytes_that_are_no_request_end_the_stream_only, all);
async fn f9_bytes_that_are_no_request_end_the_stream_only(variant: Variant) {
    let world = narrow().await;
    let connection = world.connect().await;
    let mut neighbour = connection.open(variant, CLUSTER, "fleet/neighbour");
    neighbour.watch_all(CLUSTER);
    neighbour.expect_and_ack(CLUSTER).await;
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\x0a\x05ab", b"\x12\xff\xff\xff\xff\x0f"] {
        let mut stream = connection.open(variant, CLUSTER, NODE);
        stream.send_bytes(Bytes::from_static(garbage));
        stream.expect_end().await.expect_err("refused");
        // The same after a good start.
        let mut stream = connection.open(variant, CLUSTER, NODE);
        stream.watch_all(CLUSTER);
        stream.expect_and_ack(CLUSTER).await;
        stream.send_bytes(Bytes::from_static(garbage));
        stream.expect_end().await.expect_err("refused");
    }
    neighbour.expect_silence(CLUSTER).await;
}

in_variants!(f9_stream_without_a_request_is_closed, all);
async fn f9_stream_without_a_request_is_closed(variant: Variant) {
    let world = narrow().await;
    let mut stream = world.stream(variant, CLUSTER).await;
    stream.expect_end().await.expect_err("closed after the limit");
}

in_variants!(f1_slow_client_gets_the_state_of_many_resources_merged, all);
async fn f1_slow_client_gets_the_state_of_many_resources_merged(variant: Variant) {
    const RESOURCES: usize = 50;
    let world = World::start().await;
    for number in 0..RESOURCES {
        world.put(static_cluster(&format!("c{number}"), 1));
    }
    world.publish();
    let mut slow = Client::new(world.connect().await, variant, NODE);
    slow.watch_all(CLUSTER);
    let held = slow.expect(CLUSTER).await;
    for revision in 2..20 {
        for number in 0..RESOURCES {
            world.set(static_cluster(&format!("c{number}"), revision));
        }
    }
    slow.ack(&held);
    let merged = slow.expect_and_ack(CLUSTER).await;
    let names: BTreeSet<_> = merged.names().into_iter().map(str::to_owned).collect();
    assert_eq!(names.len(), RESOURCES, "one response brings all of them");
    for name in &names {
        assert_eq!(merged.get(name).expect("there").value, static_cluster(name, 19).value);
    }
    slow.expect_silence(CLUSTER).await;
    slow.watch_all(LISTENER);
    slow.expect_and_ack(LISTENER).await;
}
