//! Rules that are about what Envoy does with what it is sent, checked with real Envoys: the oldest and the newest
//! version claimed.
//!
//! The programs are found by the environment variable `OSM_ENVOY_DIR` (a folder with `VERSION/envoy`), which
//! `hack/setup` fills. Without it every test here fails: a rule that was not checked must not look like one that holds.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use osm_xds::{Delivery, Event, ProxyName};
use osm_xds_test_support::{
    Authority, CLUSTER, ENDPOINTS, Envoy, EnvoyVersion, FLEET, Identity, LISTENER, Load, NODE, Protocol, ROUTE, Relay,
    SECRET, TEST_TYPES, TestResource, World, WorldBuilder, endpoints, eventually, http_get, http_get_on, in_envoys,
    no_endpoints, upstream,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};

// ---- What is served ------------------------------------------------------------------------------------------------

/// A resource written as in Envoy's documentation.
fn resource(json: &Value) -> TestResource {
    let read = osm_xds_json::from_json(json).expect("the test writes good resources");
    let type_url = TEST_TYPES.into_iter().find(|known| *known == read.type_url).expect("a type of the tests");
    TestResource { type_url, name: read.name, value: read.value }
}

/// A configuration source that means the stream it came on.
fn ads() -> Value {
    json!({"ads": {}, "resourceApiVersion": "V3"})
}

fn eds_cluster(name: &str, connect_timeout: &str) -> TestResource {
    resource(&json!({
        "@type": CLUSTER,
        "name": name,
        "type": "EDS",
        "connectTimeout": connect_timeout,
        "edsClusterConfig": {"edsConfig": ads()},
    }))
}

/// A cluster with its endpoint inside.
fn static_cluster(name: &str, address: SocketAddr) -> TestResource {
    resource(&json!({
        "@type": CLUSTER,
        "name": name,
        "type": "STATIC",
        "connectTimeout": "1s",
        "loadAssignment": {"clusterName": name, "endpoints": [{"lbEndpoints": [{"endpoint": {"address": {
            "socketAddress": {"address": address.ip().to_string(), "portValue": address.port()},
        }}}]}]},
    }))
}

/// A cluster that no Envoy accepts.
fn bad_cluster(name: &str) -> TestResource {
    resource(&json!({
        "@type": CLUSTER,
        "name": name,
        "connectTimeout": "1s",
        // Its endpoints come by EDS, but not from where.
        "type": "EDS",
    }))
}

/// A listener on a free port of loopback whose routes come by RDS; `more` is merged into the connection manager.
fn listener(name: &str, route: &str, stat_prefix: &str) -> Value {
    json!({
        "@type": LISTENER,
        "name": name,
        "address": {"socketAddress": {"address": "127.0.0.1", "portValue": 0}},
        "filterChains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "statPrefix": stat_prefix,
            "rds": {"routeConfigName": route, "configSource": ads()},
            "httpFilters": [router()],
        }}]}],
    })
}

fn router() -> Value {
    json!({"name": "envoy.filters.http.router", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }})
}

/// A route configuration that sends everything to one cluster.
fn route(name: &str, cluster: &str) -> TestResource {
    resource(&json!({
        "@type": ROUTE,
        "name": name,
        "virtualHosts": [{"name": "all", "domains": ["*"], "routes": [{
            "match": {"prefix": "/"}, "route": {"cluster": cluster},
        }]}],
    }))
}

/// A world whose listener `l` leads by route `r` to cluster `one`, which has an upstream that says "one".
async fn one_service(world: &World) -> SocketAddr {
    let address = upstream("one").await;
    world.put(eds_cluster("one", "1s"));
    world.put(endpoints("one", address.port()));
    world.put(resource(&listener("l", "r", "ingress")));
    world.put(route("r", "one"));
    world.publish();
    address
}

async fn start(version: EnvoyVersion, protocol: Protocol, world: &World) -> Envoy {
    let mut envoy = Envoy::start(version, protocol, NODE, world.address, &[]).await;
    envoy.live().await;
    envoy
}

/// Waits until a request is answered with `expected`.
async fn answered(address: SocketAddr, expected: &str) {
    eventually("the route", || async {
        match http_get(address, "/", &[]).await {
            Ok((status, body)) if status == 200 && body == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

fn rejections(world: &World) -> Vec<String> {
    let events = world.events();
    events
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::Rejected(rejection) => Some(rejection.message),
            _ => None,
        })
        .collect()
}

// ---- Versions ------------------------------------------------------------------------------------------------------

in_envoys!(v12_fixed_listener_is_taken_after_a_rejection, all);
async fn v12_fixed_listener_is_taken_after_a_rejection(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    let envoy = start(version, protocol, &world).await;
    world.set(resource(&json!({
        "@type": LISTENER,
        "name": "l",
        "address": {"socketAddress": {"address": "127.0.0.1", "portValue": 0}},
        // A TCP proxy must say where to.
        "filterChains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "statPrefix": "x",
        }}]}],
    })));
    let rejection = world
        .wait_event(|_, event| match event {
            Event::Rejected(rejection) => Some(rejection.clone()),
            _ => None,
        })
        .await;
    assert_eq!(rejection.mentioned.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["l"], "{}", rejection.message);
    let upstream = upstream("one").await;
    world.put(static_cluster("one", upstream));
    world.put(route("r", "one"));
    world.set(resource(&listener("l", "r", "ingress")));
    answered(envoy.listener("l").await, "one").await;
    let connected = world.events().iter().filter(|(_, event)| *event == Event::Connected).count();
    assert_eq!(connected, 1, "without a reconnect");
}

// ---- Content -------------------------------------------------------------------------------------------------------

in_envoys!(r1_last_listener_is_dropped, all);
async fn r1_last_listener_is_dropped(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    one_service(&world).await;
    let envoy = start(version, protocol, &world).await;
    answered(envoy.listener("l").await, "one").await;
    world.remove(LISTENER, "l");
    world.publish();
    envoy.wait_stat("listener_manager.total_listeners_active", |count| count == 0).await;
}

in_envoys!(r4_nothing_is_rejected_through_many_changes, all);
async fn r4_nothing_is_rejected_through_many_changes(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    let address = one_service(&world).await;
    let envoy = start(version, protocol, &world).await;
    answered(envoy.listener("l").await, "one").await;
    for round in 0..30 {
        let name = format!("extra-{}", round % 4);
        if round >= 4 {
            world.remove(CLUSTER, &name);
            world.remove(ENDPOINTS, &name);
            world.publish();
        }
        world.put(eds_cluster(&name, &format!("{}s", round + 1)));
        world.put(endpoints(&name, address.port()));
        world.put(route("r", if round % 2 == 0 { &name } else { "one" }));
        world.put(resource(&listener("l", "r", &format!("ingress-{}", round % 3))));
        let publication = world.publish();
        world.synced(publication).await;
    }
    for statistic in ["cluster_manager.cds.update_rejected", "listener_manager.lds.update_rejected"] {
        assert_eq!(envoy.stat(statistic).await, 0, "{statistic}");
    }
    assert_eq!(rejections(&world), Vec::<String>::new());
}

in_envoys!(r6_empty_world_is_live_at_once, all);
async fn r6_empty_world_is_live_at_once(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    let mut envoy = Envoy::start(version, protocol, NODE, world.address, &[]).await;
    let started = Instant::now();
    envoy.live().await;
    // Without an answer Envoy waits 15 s for each of clusters and listeners.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

in_envoys!(r7_cluster_without_endpoints_is_active_at_once, all);
async fn r7_cluster_without_endpoints_is_active_at_once(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    let envoy = start(version, protocol, &world).await;
    world.put(eds_cluster("idle", "1s"));
    let published = Instant::now();
    let publication = world.set(no_endpoints("idle"));
    world.synced(publication).await;
    eventually("the cluster", || async { envoy.cluster("idle").await.ok_or_else(|| "not active".to_owned()) }).await;
    assert_eq!(envoy.stat("cluster_manager.warming_clusters").await, 0);
    // Without an answer it warms for 15 s.
    assert!(published.elapsed() < Duration::from_secs(10), "{:?}", published.elapsed());
}

in_envoys!(r10_bad_cluster_is_held_back_and_the_others_go_out, all);
async fn r10_bad_cluster_is_held_back_and_the_others_go_out(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    let upstream = upstream("one").await;
    world.put(static_cluster("good", upstream));
    world.set(static_cluster("bad", upstream));
    let envoy = start(version, protocol, &world).await;
    eventually("the clusters", || async { envoy.cluster("bad").await.ok_or_else(|| "not there".to_owned()) }).await;
    // One change: a better `good`, a new `new`, and a `bad` that is refused; a route that needs `new`.
    world.put(eds_cluster("good", "7s"));
    world.put(endpoints("good", upstream.port()));
    world.put(static_cluster("new", upstream));
    world.put(bad_cluster("bad"));
    world.put(route("r", "new"));
    world.set(resource(&listener("l", "r", "ingress")));
    let rejection = world
        .wait_event(|_, event| match event {
            Event::Rejected(rejection) => Some(rejection.clone()),
            _ => None,
        })
        .await;
    assert_eq!(rejection.mentioned.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["bad"], "{}", rejection.message);
    let proxy = ProxyName::new(NODE);
    world.cache.hold_back(&proxy, &rejection.type_url, "bad", rejection.resources["bad"]);
    answered(envoy.listener("l").await, "one").await;
    let good = envoy.cluster("good").await.expect("there");
    assert_eq!(good["connect_timeout"], "7s");
    let bad = envoy.cluster("bad").await.expect("the last good version stays");
    assert_eq!(bad["load_assignment"]["cluster_name"], "bad");
    // Fixed: it goes out by itself.
    world.set(eds_cluster("bad", "9s"));
    world.set(no_endpoints("bad"));
    eventually("the fixed cluster", || async {
        match envoy.cluster("bad").await {
            Some(bad) if bad["connect_timeout"] == "9s" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

// ---- Reconnect -----------------------------------------------------------------------------------------------------

in_envoys!(c3_restarted_control_plane_disturbs_nothing, all);
async fn c3_restarted_control_plane_disturbs_nothing(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    let upstream = one_service(&world).await;
    let relay = Relay::start(world.address).await;
    let mut envoy = Envoy::start(version, protocol, NODE, relay.address(), &[]).await;
    envoy.live().await;
    let listener_address = envoy.listener("l").await;
    answered(listener_address, "one").await;
    let load = Load::start(move || http_get(listener_address, "/", &[]));
    let mut world = world;
    for _ in 0..3 {
        world.stop().await;
        world = WorldBuilder::default().starting().start().await;
        relay.lead_to(world.address);
        world.put(eds_cluster("one", "1s"));
        world.put(endpoints("one", upstream.port()));
        world.put(resource(&listener("l", "r", "ingress")));
        world.put(route("r", "one"));
        let publication = world.publish();
        world.cache.set_ready();
        world.synced(publication).await;
        assert_eq!(world.resources_sent(CLUSTER), 0, "clusters are not sent again");
        assert_eq!(world.resources_sent(LISTENER), 0, "listeners are not sent again");
        if protocol == Protocol::Delta {
            assert_eq!(world.resources_sent(ROUTE), 0, "routes are not sent again");
        }
        assert_eq!(world.resources_sent(ENDPOINTS), 1, "endpoints are");
        assert_eq!(envoy.stat("cluster_manager.warming_clusters").await, 0);
    }
    let (requests, failures) = load.stop().await;
    assert!(requests > 0 && failures.is_empty(), "of {requests} requests failed: {failures:#?}");
}

in_envoys!(c4_no_cluster_stays_warming_after_restarts_with_changes, all);
async fn c4_no_cluster_stays_warming_after_restarts_with_changes(version: EnvoyVersion, protocol: Protocol) {
    const CLUSTERS: u16 = 20;
    let mut world = World::start().await;
    let relay = Relay::start(world.address).await;
    let mut envoy = Envoy::start(version, protocol, NODE, relay.address(), &[]).await;
    envoy.live().await;
    for round in 1..6 {
        world.stop().await;
        world = WorldBuilder::default().starting().start().await;
        relay.lead_to(world.address);
        for number in 0..CLUSTERS {
            let name = format!("cluster-{number}");
            // Half of them change with every restart.
            let timeout = if number % 2 == 0 { round } else { 1 };
            world.put(eds_cluster(&name, &format!("{timeout}s")));
            world.put(endpoints(&name, 1000 + number));
        }
        let publication = world.publish();
        world.cache.set_ready();
        world.synced(publication).await;
        let synced = Instant::now();
        envoy.wait_stat("cluster_manager.warming_clusters", |count| count == 0).await;
        assert!(synced.elapsed() < Duration::from_secs(2), "warming for {:?}", synced.elapsed());
        assert_eq!(envoy.stat("cluster_manager.active_clusters").await, u64::from(CLUSTERS) + 1);
    }
}

// ---- Order and warming ---------------------------------------------------------------------------------------------

in_envoys!(w2_changed_cluster_does_not_stay_warming, all);
async fn w2_changed_cluster_does_not_stay_warming(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    one_service(&world).await;
    let envoy = start(version, protocol, &world).await;
    let address = envoy.listener("l").await;
    answered(address, "one").await;
    for change in 2..102 {
        let publication = world.set(eds_cluster("one", &format!("{change}s")));
        let published = Instant::now();
        world.synced(publication).await;
        envoy.wait_stat("cluster_manager.warming_clusters", |count| count == 0).await;
        // Without the endpoints after it, a changed cluster warms for 15 s.
        assert!(published.elapsed() < Duration::from_secs(2), "change {change} took {:?}", published.elapsed());
    }
    answered(address, "one").await;
}

in_envoys!(w4_routes_swap_between_clusters_without_a_failed_request, all);
async fn w4_routes_swap_between_clusters_without_a_failed_request(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    let upstream = one_service(&world).await;
    let envoy = start(version, protocol, &world).await;
    let address = envoy.listener("l").await;
    answered(address, "one").await;
    let load = Load::start(move || http_get(address, "/", &[]));
    let mut current = "one".to_owned();
    for swap in 0..200 {
        // The new cluster comes and the old one goes in the same change as the route.
        let next = format!("swap-{swap}");
        world.put(eds_cluster(&next, "1s"));
        world.put(endpoints(&next, upstream.port()));
        world.put(route("r", &next));
        world.remove(CLUSTER, &current);
        world.remove(ENDPOINTS, &current);
        let publication = world.publish();
        world.synced(publication).await;
        current = next;
    }
    let (requests, failures) = load.stop().await;
    assert!(requests > 100 && failures.is_empty(), "of {requests} requests failed: {failures:#?}");
    // `one` is gone, the last one is there, and the static cluster of the control plane.
    envoy.wait_stat("cluster_manager.active_clusters", |count| count == 2).await;
    assert_eq!(rejections(&world), Vec::<String>::new());
}

in_envoys!(w6_changed_listener_is_active_without_a_route_request, all);
async fn w6_changed_listener_is_active_without_a_route_request(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    one_service(&world).await;
    let envoy = start(version, protocol, &world).await;
    answered(envoy.listener("l").await, "one").await;
    let routes_sent = world.resources_sent(ROUTE);
    for change in 0..5 {
        let publication = world.set(resource(&listener("l", "r", &format!("changed-{change}"))));
        let published = Instant::now();
        world.synced(publication).await;
        envoy.wait_stat("listener_manager.total_listeners_warming", |count| count == 0).await;
        envoy.wait_stat("listener_manager.listener_modified", |count| count == change + 1).await;
        assert!(published.elapsed() < Duration::from_secs(5), "{:?}", published.elapsed());
        answered(envoy.listener("l").await, "one").await;
    }
    assert_eq!(world.resources_sent(ROUTE), routes_sent, "nothing was asked for and nothing sent");
}

in_envoys!(w7_secrets_rotate_under_tls_load_without_a_failed_request, all);
async fn w7_secrets_rotate_under_tls_load_without_a_failed_request(version: EnvoyVersion, protocol: Protocol) {
    let authority = Authority::new("test authority");
    let secret = |identity: &Identity| {
        resource(&json!({
            "@type": SECRET,
            "name": "server",
            "tlsCertificate": {
                "certificateChain": {"inlineString": identity.certificate},
                "privateKey": {"inlineString": identity.key},
            },
        }))
    };
    let world = World::start().await;
    one_service(&world).await;
    let mut secure = listener("l", "r", "ingress");
    secure["filterChains"][0]["transportSocket"] = json!({"name": "envoy.transport_sockets.tls", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "commonTlsContext": {"tlsCertificateSdsSecretConfigs": [{"name": "server", "sdsConfig": ads()}]},
    }});
    world.put(secret(&authority.issue(&["localhost"])));
    world.set(resource(&secure));
    let envoy = start(version, protocol, &world).await;
    let address = envoy.listener("l").await;

    let client = tls_client(&authority);
    let served: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&served);
    let request = move || {
        let (client, seen) = (client.clone(), Arc::clone(&seen));
        async move {
            let tcp = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let name = ServerName::try_from("localhost").expect("a name");
            let tls = client.connect(name, tcp).await.map_err(|error| error.to_string())?;
            let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.to_vec());
            seen.lock().expect("not poisoned").extend(leaf);
            http_get_on(tls, "/", &[]).await
        }
    };
    eventually("TLS", || async {
        match request().await {
            Ok((status, _)) if status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let (clusters, listeners) = (world.resources_sent(CLUSTER), world.resources_sent(LISTENER));
    let load = Load::start(request);
    let mut newest = Vec::new();
    for _ in 0..100 {
        let identity = authority.issue(&["localhost"]);
        newest.clone_from(&identity.der);
        let publication = world.set(secret(&identity));
        world.synced(publication).await;
    }
    eventually("the newest certificate", || async {
        let served = served.lock().expect("not poisoned");
        served.contains(&newest).then_some(()).ok_or_else(|| format!("{} other certificates", served.len()))
    })
    .await;
    let (requests, failures) = load.stop().await;
    assert!(requests > 0 && failures.is_empty(), "of {requests} requests failed: {failures:#?}");
    assert_eq!(world.resources_sent(CLUSTER), clusters, "secrets go alone");
    assert_eq!(world.resources_sent(LISTENER), listeners, "secrets go alone");
}

fn tls_client(authority: &Authority) -> tokio_rustls::TlsConnector {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes()).expect("PEM of an authority");
    roots.add(root).expect("a certificate authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

in_envoys!(w9_first_request_succeeds_when_clusters_come_in_many_parts, delta);
async fn w9_first_request_succeeds_when_clusters_come_in_many_parts(version: EnvoyVersion, protocol: Protocol) {
    const CLUSTERS: usize = 2_000;
    let world = World::start().await;
    let upstream = upstream("last").await;
    for number in 0..CLUSTERS {
        world.put(static_cluster(&format!("cluster-{number:05}"), upstream));
    }
    // The last one by name is in the last part.
    world.put(route("r", &format!("cluster-{:05}", CLUSTERS - 1)));
    world.set(resource(&listener("l", "r", "ingress")));
    let envoy = start(version, protocol, &world).await;
    let address = envoy.listener("l").await;
    let answer = http_get(address, "/", &[]).await.expect("an answer");
    assert_eq!((answer.0.as_u16(), answer.1.as_str()), (200, "last"), "the first request");
    let parts = world
        .events()
        .iter()
        .filter(|(_, event)| matches!(event, Event::Sent { type_url, .. } if type_url.as_str() == CLUSTER))
        .count();
    assert!(parts > 1, "the test is about several parts");
}

in_envoys!(w10_unchanged_clusters_are_left_alone, all);
async fn w10_unchanged_clusters_are_left_alone(version: EnvoyVersion, protocol: Protocol) {
    const CHANGES: u64 = 20;
    let world = World::start().await;
    let upstream = one_service(&world).await;
    for number in 0..200 {
        world.put(static_cluster(&format!("cluster-{number}"), upstream));
    }
    world.publish();
    let envoy = start(version, protocol, &world).await;
    let modified = envoy.stat("cluster_manager.cluster_modified").await;
    for change in 0..CHANGES {
        let publication = world.set(eds_cluster("one", &format!("{}s", change + 2)));
        world.synced(publication).await;
    }
    assert_eq!(envoy.stat("cluster_manager.cluster_modified").await, modified + CHANGES, "one cluster for each change");
}

// ---- On demand -----------------------------------------------------------------------------------------------------

in_envoys!(o4_clusters_on_demand, delta);
async fn o4_clusters_on_demand(version: EnvoyVersion, protocol: Protocol) {
    let world = World::start().await;
    let upstream = upstream("on demand").await;
    for name in ["first", "third"] {
        world.put_for(FLEET, static_cluster(name, upstream), Delivery::Named);
    }
    let mut on_demand = listener("l", "r", "ingress");
    on_demand["filterChains"][0]["filters"][0]["typedConfig"]["httpFilters"] = json!([
        {"name": "envoy.filters.http.on_demand", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand",
            "odcds": {"source": ads(), "timeout": "5s"},
        }},
        router(),
    ]);
    world.put(resource(&on_demand));
    world.set(resource(&json!({
        "@type": ROUTE,
        "name": "r",
        "virtualHosts": [{"name": "all", "domains": ["*"], "routes": [{
            "match": {"prefix": "/"}, "route": {"clusterHeader": "x-cluster"},
        }]}],
    })));
    let envoy = start(version, protocol, &world).await;
    let address = envoy.listener("l").await;
    let get = async |cluster: &str| {
        let asked = Instant::now();
        let (status, body) = http_get(address, "/", &[("x-cluster", cluster)]).await.expect("an answer");
        (status.as_u16(), body, asked.elapsed())
    };
    // The listener may be seen before its routes.
    eventually("the route", || async {
        let answer = get("first").await;
        if answer.0 == 404 { Err("404".to_owned()) } else { Ok(()) }
    })
    .await;
    let (status, body, _) = get("first").await;
    assert_eq!((status, body.as_str()), (200, "on demand"));
    let (status, _, waited) = get("missing").await;
    assert_eq!(status, 503);
    assert!(waited < Duration::from_secs(3), "told at once, not by the time limit of 5 s: {waited:?}");
    let (status, body, _) = get("third").await;
    assert_eq!((status, body.as_str()), (200, "on demand"), "later names on the same stream work");
    // What was missing appears, and is pushed.
    world.put_for(FLEET, static_cluster("missing", upstream), Delivery::Named);
    world.publish();
    eventually("the cluster that was missing", || async {
        match get("missing").await {
            (200, _, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
