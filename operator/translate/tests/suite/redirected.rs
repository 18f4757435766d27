//! Live, with nothing changed: a network namespace with redirect rules, in which every listener is where it belongs.
//!
//! Needs root (for the namespace, the rules and the proxy's user), `unshare`, `ip` and `iptables`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use osm_model::{
    Addressing, Destination, InboundPolicy, InboundView, MeshPort, MeshService, Protocol, ServiceId, TrafficRouting,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ads::{Ads, Served};
use crate::application::{Application, GREETING};
use crate::certificates::Authority;
use crate::envoy::{Envoy, VERSIONS};
use crate::fixture::*;
use crate::http::Client;

/// Set inside the namespace, to the version of Envoy.
const INSIDE: &str = "OSM_TRANSLATE_TEST_NAMESPACE";

/// All addresses are local. What the proxies send to pods goes in by 15003, what others send anywhere but to loopback
/// goes out by 15001. Addresses below 10.200 are the outside world, which is local, too.
const RULES: &str = r#"
set -e
ip link set lo up
for address in 10.1.0.1/32 10.1.0.2/32 10.200.0.1/32 10.97.0.1/32 10.97.0.2/32; do ip address add $address dev lo; done
ip -6 address add fd00:10::1/128 dev lo nodad
ip route add default dev lo
ip -6 route add default dev lo
iptables -w -t nat -A OUTPUT -p tcp -m owner --uid-owner 1500 -d 10.1.0.0/16 -j REDIRECT --to-ports 15003
iptables -w -t nat -A OUTPUT -p tcp -m owner ! --uid-owner 1500 ! -d 127.0.0.0/8 -j REDIRECT --to-ports 15001
ip6tables -w -t nat -A OUTPUT -p tcp -m owner --uid-owner 1500 -d fd00:10::/32 -j REDIRECT --to-ports 15003
ip6tables -w -t nat -A OUTPUT -p tcp -m owner ! --uid-owner 1500 ! -d ::1/128 -j REDIRECT --to-ports 15001
exec "$0" --exact redirected::the_whole_path_with_redirected_connections --nocapture
"#;

#[tokio::test]
async fn the_whole_path_with_redirected_connections() {
    if let Ok(version) = std::env::var(INSIDE) {
        return whole_path(&version).await;
    }
    for version in VERSIONS {
        let mut command = tokio::process::Command::new("unshare");
        command.args(["--net", "sh", "-c", RULES]).arg(std::env::current_exe().unwrap()).env(INSIDE, version);
        let output = command.kill_on_drop(true).output().await.expect("unshare runs");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "Envoy {version}: {text}");
    }
}

/// A service whose pods use another port number.
fn service(name: &str, addressing: Addressing, port: u16, target_port: u16, protocol: Protocol) -> Arc<MeshService> {
    let ports = vec![MeshPort { port, target_port, protocol }];
    Arc::new(MeshService { id: ServiceId::new("shop", name).unwrap(), addressing, ports })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn whole_path(version: &str) {
    let (settings, authority) = (
        osm_model::MeshSettings {
            service_ranges: vec!["10.96.0.0/12".parse().unwrap(), "fd00:96::/112".parse().unwrap()],
            ..settings()
        },
        Authority::new(),
    );
    let cluster_ips = vec![address("10.96.0.5"), address("fd00:96::5")];
    let bookstore = service("bookstore", Addressing::ClusterIp(cluster_ips.clone()), 80, 14001, Protocol::Http);
    // On another port number: both listeners read the same scopes.
    let reviews = service("reviews", Addressing::ClusterIp(vec![address("10.96.0.7")]), 8081, 14001, Protocol::Http);
    let stateful = service("stateful", Addressing::Headless, 81, 14001, Protocol::Http);
    let ledger =
        service("ledger", Addressing::ClusterIp(vec![address("10.96.0.6")]), 3306, 13306, Protocol::TcpServerFirst);
    let queue = service("queue", Addressing::Headless, 3307, 13306, Protocol::Tcp);
    let pods = [address("10.1.0.1"), address("fd00:10::1")];

    // The server's side: one workload, two applications.
    let _books = Application::http("bookstore", ([127, 0, 0, 1], 14001).into()).await;
    let _ledger = Application::greeting_tcp(([127, 0, 0, 1], 13306).into()).await;
    let mut ports = view("server", 14001, Protocol::Http, InboundPolicy::Permissive).ports;
    ports.extend(view("server", 13306, Protocol::Tcp, InboundPolicy::Permissive).ports);
    let leaf = authority.workload(&identity("server"), &settings.trust_domain);
    let served = Served::default()
        .with(osm_translate::inbound(&InboundView { identity: identity("server"), ports }, &settings))
        .with_secrets(authority.secrets(&leaf));
    let server = Envoy::start_as_proxy(version, Ads::start(served).await, osm_translate::naming::ADMIN_PORT).await;

    // The client's side.
    let leaf = authority.workload(&identity("client"), &settings.trust_domain);
    let outside = ServiceId::new("elsewhere", "outside").unwrap();
    let mut served = Served::default()
        .with([
            osm_translate::outbound_listener(&settings),
            osm_translate::outbound_http_listener(80, &settings),
            osm_translate::outbound_http_listener(8081, &settings),
            osm_translate::shared_route_table(),
            osm_translate::outside_route_table(),
            osm_translate::passthrough_cluster(),
        ])
        .with(osm_translate::outside_scopes(&outside, &[address("10.97.0.1")], 80, &settings))
        .with(osm_translate::outside_listener(&outside, &[address("10.97.0.2")], 80, &settings))
        .with_secrets(authority.secrets(&leaf));
    for (service, listen) in [
        (&bookstore, &cluster_ips[..]),
        (&reviews, &[]),
        (&stateful, &pods),
        (&ledger, &[address("10.96.0.6")]),
        (&queue, &pods),
    ] {
        let destination: Destination = destination(service, &["server"]);
        let routes = routes(service, TrafficRouting::Direct);
        let target_port = destination.port.target_port;
        let endpoints: Vec<_> = pods.iter().map(|pod| ready(SocketAddr::new(*pod, target_port), "server")).collect();
        served = served
            .with(osm_translate::scopes(&routes))
            .with(osm_translate::route_table(&routes))
            .with(osm_translate::exact_listener(&destination, listen, &TrafficRouting::Direct, &settings))
            .with([osm_translate::endpoints(&destination, &endpoints)])
            .with_on_demand(osm_translate::clusters(&destination, &settings).iter().cloned());
    }
    let client = Envoy::start_as_proxy(version, Ads::start(served).await, 0).await;

    // HTTP by ClusterIP, of both families; HTTP of a headless service by pod address, on either port number.
    for target in
        ["10.96.0.5:80", "10.96.0.7:8081", "[fd00:96::5]:80", "10.1.0.1:81", "[fd00:10::1]:81", "10.1.0.1:14001"]
    {
        for way in [Client::http1(target.parse().unwrap()), Client::http2(target.parse().unwrap())] {
            let answer = way.get("/books").await;
            assert_eq!(answer.status, 200, "{version} {target} {answer:?}");
            assert!(answer.body.starts_with("name bookstore\n") && !answer.body.contains("x-osm"), "{answer:?}");
        }
    }
    // TCP by ClusterIP, server first; of a headless service, on either port number.
    for target in ["10.96.0.6:3306", "10.1.0.1:3307", "10.1.0.1:13306", "[fd00:10::1]:3307"] {
        assert_eq!(speak(target).await, GREETING, "{version} {target}");
    }
    for (cluster, requests) in [("shop/bookstore|14001", 4), ("shop/reviews|14001", 2), ("shop/stateful|14001", 6)] {
        let total = client.statistic(&format!("cluster.{cluster}.upstream_rq_total")).await;
        assert_eq!(total, requests, "{version} {cluster}");
    }

    // Out of the mesh: by an address of no Service, whatever the port, and by one outside the mesh on a mesh's port.
    let _website = Application::http("website", ([10, 200, 0, 1], 80).into()).await;
    let _mail = Application::greeting_tcp(([10, 200, 0, 1], 25).into()).await;
    let answer = Client::http1("10.200.0.1:80".parse().unwrap()).get("/").await;
    assert!(answer.body.starts_with("name website\n"), "{version} {answer:?}");
    assert!(!answer.body.contains("x-forwarded-proto"), "passed on untouched: {answer:?}");
    assert_eq!(speak("10.200.0.1:25").await, GREETING, "{version}");

    let _unmeshed = Application::http("unmeshed", ([10, 97, 0, 1], 80).into()).await;
    let _unmeshed_mail = Application::greeting_tcp(([10, 97, 0, 2], 80).into()).await;
    for way in [Client::http1, Client::http2] {
        let answer = way("10.97.0.1:80".parse().unwrap()).get("/").await;
        assert!(answer.body.starts_with("name unmeshed\n") && !answer.body.contains("x-osm"), "{version} {answer:?}");
    }
    assert_eq!(speak("10.97.0.2:80").await, GREETING, "{version}");

    // Metrics, and nothing else of the admin interface, on the port that is not redirected.
    let metrics = SocketAddr::new(address("127.0.0.1"), osm_translate::naming::METRICS_PORT);
    let answer = Client::http1(metrics).get("/stats/prometheus").await;
    assert!(answer.status == 200 && answer.body.contains("envoy_server_live"), "{version} {}", answer.status);
    for path in ["/", "/quitquitquit", "/stats/prometheus/../../quitquitquit", "/stats"] {
        assert_eq!(Client::http1(metrics).get(path).await.status, 404, "{version} {path}");
    }
    client.end().await;
    server.end().await;
}

/// What a server that speaks first says, once it has also echoed.
async fn speak(target: &str) -> String {
    let mut stream = TcpStream::connect(target).await.unwrap();
    let mut greeting = vec![0; GREETING.len()];
    stream.read_exact(&mut greeting).await.unwrap();
    stream.write_all(b"and back").await.unwrap();
    let mut echoed = [0; 8];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"and back");
    String::from_utf8(greeting).unwrap()
}
