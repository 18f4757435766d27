//! Live: what an application's requests meet on the way out, with a real sidecar on the other side.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use osm_model::{
    Addressing, Destination, Egress, Identity, InboundPolicy, MeshService, MeshSettings, PathMatch, Protocol,
    SplitRule, TrafficRouting,
};
use osm_translate::Resource;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ads::{Ads, Served};
use crate::application::Application;
use crate::certificates::{Authority, Leaf};
use crate::envoy::{Envoy, VERSIONS, eventually};
use crate::fixture::*;
use crate::http::Client;

/// A server workload: application, sidecar, and the Service in front of it.
pub(crate) struct Server {
    pub(crate) service: Arc<MeshService>,
    /// Where its sidecar listens.
    pub(crate) pod: SocketAddr,
    envoy: Envoy,
    _application: Application,
}

impl Server {
    /// `name` is the application, the Service and the ServiceAccount; its ClusterIPs are `addresses`.
    pub(crate) async fn start(
        version: &str,
        authority: &Authority,
        settings: &MeshSettings,
        name: &'static str,
        addresses: Vec<IpAddr>,
    ) -> Self {
        let leaf = authority.workload(&identity(name), &settings.trust_domain);
        Self::start_as(&leaf, version, authority, settings, name, addresses).await
    }

    /// The same with any certificate.
    async fn start_as(
        leaf: &Leaf,
        version: &str,
        authority: &Authority,
        settings: &MeshSettings,
        name: &'static str,
        addresses: Vec<IpAddr>,
    ) -> Self {
        let port = free_port();
        let application = Application::http(name, ([127, 0, 0, 1], port).into()).await;
        let pod = SocketAddr::new(loopback(), port);
        let view = view(name, port, Protocol::Http, InboundPolicy::Permissive);
        let served = Served::default().with(inbound_at(pod, &view, settings)).with_secrets(authority.secrets(leaf));
        let envoy = Envoy::start(version, Ads::start(served).await).await;
        let service = service(name, Addressing::ClusterIp(addresses), port, Protocol::Http);
        Self { service, pod, envoy, _application: application }
    }

    pub(crate) fn destination(&self, name: &str) -> Destination {
        destination(&self.service, &[name])
    }

    /// Clusters on demand, endpoints by name.
    pub(crate) fn offered(&self, served: Served, destination: &Destination, settings: &MeshSettings) -> Served {
        let name = destination.identities.first().map_or("nobody", |identity| &identity.service_account);
        served
            .with_on_demand(osm_translate::clusters(destination, settings).iter().cloned())
            .with([osm_translate::endpoints(destination, &[ready(self.pod, name)])])
    }

    pub(crate) async fn end(self) {
        self.envoy.end().await;
    }
}

/// What every client is given: the listener of `port` on `addresses`, the shared table and its secrets.
fn client(authority: &Authority, settings: &MeshSettings, addresses: &[SocketAddr]) -> Served {
    let who: Identity = identity("buyer");
    let leaf = authority.workload(&who, &settings.trust_domain);
    let listener: Resource = osm_translate::outbound_http_listener(addresses[0].port(), settings);
    Served::default()
        .with([moved(&listener, addresses), osm_translate::shared_route_table(), osm_translate::passthrough_cluster()])
        .with_secrets(authority.secrets(&leaf))
}

#[tokio::test]
async fn the_destination_decides_and_the_host_does_not() {
    for version in VERSIONS {
        let (settings, authority) = (settings(), Authority::new());
        let addresses = vec![loopback(), Ipv6Addr::LOCALHOST.into()];
        let server = Server::start(version, &authority, &settings, "bookstore", addresses.clone()).await;
        let port = server.service.ports[0].port;
        let unknown = SocketAddr::new(loopback(), port);
        let missing = service("missing", Addressing::ClusterIp(vec![loopback()]), port, Protocol::Http);
        let Addressing::ClusterIp(missing_addresses) = &missing.addressing else { panic!("no address") };
        let missing_address = SocketAddr::new(missing_addresses[0], port);

        let sockets: Vec<SocketAddr> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let listening = [sockets.clone(), vec![unknown, missing_address]].concat();
        let served = client(&authority, &settings, &listening)
            .with(osm_translate::scopes(&routes(&server.service, TrafficRouting::Direct)))
            .with(osm_translate::scopes(&routes(&missing, TrafficRouting::Direct)));
        let served = server.offered(served, &server.destination("bookstore"), &settings);
        let envoy = Envoy::start(version, Ads::start(served).await).await;

        let headers = [("host", "someone.else.example"), ("x-osm-destination", "10.0.0.1:1"), ("x-mine", "kept")];
        for socket in &sockets {
            for client in [Client::http1(*socket), Client::http2(*socket)] {
                let answer = client.send("GET", "/a/../books//1?x=%2F", &headers).await;
                assert_eq!(answer.status, 200, "{version} {client:?} {answer:?}");
                let seen = |line: &str| answer.body.lines().any(|seen| seen == line);
                assert!(seen("name bookstore") && seen("path /a/../books//1"), "{answer:?}");
                assert!(seen("host someone.else.example") && seen("header x-mine: kept"), "{answer:?}");
                assert!(!answer.body.contains("x-osm-destination"), "{answer:?}");
            }
        }
        // HTTP versions are mirrored all the way.
        assert!(Client::http1(sockets[0]).get("/").await.body.contains("version HTTP/1.1"));
        assert!(Client::http2(sockets[0]).get("/").await.body.contains("version HTTP/2.0"));

        // The clusters were fetched on first use and count under OSM's name.
        let clusters = envoy.admin("/clusters").await;
        assert!(clusters.contains(&format!("{}::{}::", sockets[0], server.pod)), "{clusters}");
        let total = envoy.statistic(&format!("cluster.shop/bookstore|{port}.upstream_rq_total")).await;
        assert_eq!(total, 6, "{version}");
        let log = eventually("access logs are written", || async {
            Some(envoy.output()).filter(|log| log.lines().count() >= 6)
        })
        .await;
        assert!(log.contains(&format!("\"upstream_cluster\":\"shop/bookstore|{port}\"")), "{log}");
        assert!(log.contains("\"authority\":\"someone.else.example\""), "{log}");

        // No such destination: refused at once. A destination whose cluster does not exist: told at once, never a hang.
        let begun = Instant::now();
        assert_eq!(Client::http1(unknown).get("/").await.status, 404);
        assert_eq!(Client::http1(missing_address).get("/").await.status, 503);
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());

        websocket(sockets[0]).await;
        envoy.end_missing(&[&missing_address.to_string()]).await;
        server.end().await;
    }
}

/// An upgraded connection carries bytes both ways.
async fn websocket(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
    assert!(seen.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&seen));
    stream.write_all(b"over the mesh").await.unwrap();
    let mut echoed = [0; 13];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"over the mesh");
}

#[tokio::test]
async fn a_server_that_is_not_who_the_client_expects_is_refused() {
    for version in VERSIONS {
        let (settings, authority) = (settings(), Authority::new());
        let server = Server::start(version, &authority, &settings, "bookstore", vec![loopback()]).await;
        let port = server.service.ports[0].port;
        let mut served = Served::default();
        let mut sockets = Vec::new();
        // The same pod, expected to be itself, one of several, somebody else, and nobody at all.
        let expectations: [&[&str]; 4] = [&["bookstore"], &["other", "bookstore"], &["bookstore-v2"], &[]];
        for (index, expected) in expectations.into_iter().enumerate() {
            let address = loopback();
            let name = format!("expectation-{index}");
            let service = service(&name, Addressing::ClusterIp(vec![address]), port, Protocol::Http);
            let destination = destination(&service, expected);
            served = served
                .with(osm_translate::scopes(&routes(&service, TrafficRouting::Direct)))
                .with([osm_translate::endpoints(&destination, &[ready(server.pod, "bookstore")])])
                .with(osm_translate::clusters(&destination, &settings).by_address);
            sockets.push(SocketAddr::new(address, port));
        }
        let listener = moved(&osm_translate::outbound_http_listener(port, &settings), &sockets);
        let leaf = authority.workload(&identity("buyer"), &settings.trust_domain);
        served = served
            .with([listener, osm_translate::shared_route_table(), osm_translate::passthrough_cluster()])
            .with_secrets(authority.secrets(&leaf));
        let envoy = Envoy::start(version, Ads::start(served).await).await;
        let mut statuses = Vec::new();
        for socket in sockets {
            statuses.push(Client::http1(socket).get("/").await.status);
        }
        assert_eq!(statuses, [200, 200, 503, 503], "{version}");
        assert!(envoy.statistic(&format!("cluster.shop/expectation-3|{port}.ssl.fail_verify_san")).await > 0);
        envoy.end().await;
        server.end().await;
    }
}

#[tokio::test]
async fn splits_share_by_weight_and_follow_changes() {
    for version in VERSIONS {
        let (settings, authority) = (settings(), Authority::new());
        let apex_address = loopback();
        let apex = Server::start(version, &authority, &settings, "bookstore", vec![apex_address]).await;
        let v1 = Server::start(version, &authority, &settings, "v1", vec![loopback()]).await;
        let v2 = Server::start(version, &authority, &settings, "v2", vec![loopback()]).await;
        let socket = SocketAddr::new(apex_address, apex.service.ports[0].port);

        let offer = |rules: Vec<SplitRule>| {
            let routing = if rules.is_empty() { TrafficRouting::Direct } else { TrafficRouting::Split(rules.into()) };
            let routes = routes(&apex.service, routing);
            let mut served = client(&authority, &settings, &[socket])
                .with(osm_translate::scopes(&routes))
                .with(osm_translate::route_table(&routes));
            for (name, server) in [("bookstore", &apex), ("v1", &v1), ("v2", &v2)] {
                served = server.offered(served, &server.destination(name), &settings);
            }
            served
        };
        let halves = || split("halves", &[(&v1.service, 50), (&v2.service, 50)]);
        let envoy = Envoy::start(version, Ads::start(offer(vec![halves()])).await).await;

        let count = async |path: &str, headers: &[(&str, &str)]| {
            let mut counts = [0_u32; 3];
            for _ in 0..60 {
                let answer = Client::http1(socket).send("GET", path, headers).await;
                assert_eq!(answer.status, 200, "{version} {answer:?}");
                let name = answer.body.lines().next().unwrap().to_owned();
                let index = ["name bookstore", "name v1", "name v2"].iter().position(|known| *known == name);
                counts[index.unwrap()] += 1;
            }
            counts
        };
        let [none, first, second] = count("/", &[]).await;
        assert!(none == 0 && first > 10 && second > 10, "{version}: {first} and {second}");

        // All to one, the other at weight 0.
        let cut_over = split("over", &[(&v1.service, 0), (&v2.service, 100)]);
        envoy.ads.change(offer(vec![cut_over])).await;
        eventually("all goes to v2", || async { (count("/", &[]).await == [0, 0, 60]).then_some(()) }).await;

        // Conditions first; what none matches goes to the service itself.
        let mut conditional = split("conditional", &[(&v1.service, 1)]);
        conditional.matches = vec![http_match(PathMatch::Prefix("/new".into()), &[])];
        envoy.ads.change(offer(vec![conditional])).await;
        eventually("the rest stays", || async { (count("/newer", &[]).await == [60, 0, 0]).then_some(()) }).await;
        assert_eq!(count("/new/one", &[]).await, [0, 60, 0]);
        assert_eq!(count("/new", &[("host", "bookstore")]).await, [0, 60, 0]);

        // No split any more: the shared table again.
        envoy.ads.change(offer(Vec::new())).await;
        eventually("the split is gone", || async { (count("/new", &[]).await == [60, 0, 0]).then_some(()) }).await;

        envoy.end().await;
        for server in [apex, v1, v2] {
            server.end().await;
        }
    }
}

#[tokio::test]
async fn what_is_outside_the_service_ranges_is_refused_when_egress_is_off() {
    for version in VERSIONS {
        let mut settings = settings();
        settings.egress = Egress::Refuse;
        settings.service_ranges = vec!["10.96.0.0/12".parse().unwrap()];
        let authority = Authority::new();
        let sockets = [SocketAddr::new(loopback(), free_port()), SocketAddr::new(loopback(), free_port())];
        let leaf = authority.workload(&identity("buyer"), &settings.trust_domain);
        let served = Served::default()
            .with([
                moved(&osm_translate::outbound_listener(&settings), &sockets[..1]),
                moved(&osm_translate::outbound_http_listener(14001, &settings), &sockets[1..]),
                osm_translate::shared_route_table(),
            ])
            .with_secrets(authority.secrets(&leaf));
        let envoy = Envoy::start(version, Ads::start(served).await).await;
        for socket in sockets {
            let mut stream = TcpStream::connect(socket).await.unwrap();
            let mut rest = Vec::new();
            // Closed before anything was sent.
            stream.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
            assert_eq!(Client::http1(socket).try_get("/").await, None, "{version}");
        }
        envoy.end().await;
    }
}

/// A sidecar of OSM's has a certificate with the DNS name only.
#[tokio::test]
async fn a_server_of_osm_is_recognised_by_its_dns_name() {
    for version in VERSIONS {
        let (settings, authority) = (settings(), Authority::new());
        for (dns, expected) in [("bookstore.shop.mesh.example", 200), ("bookstore.shop.evil.example", 503)] {
            let leaf = authority.leaf(None, &[dns]);
            let address = loopback();
            let server = Server::start_as(&leaf, version, &authority, &settings, "bookstore", vec![address]).await;
            let socket = SocketAddr::new(address, server.service.ports[0].port);
            let served = client(&authority, &settings, &[socket])
                .with(osm_translate::scopes(&routes(&server.service, TrafficRouting::Direct)));
            let served = server.offered(served, &server.destination("bookstore"), &settings);
            let envoy = Envoy::start(version, Ads::start(served).await).await;
            assert_eq!(Client::http1(socket).get("/").await.status, expected, "{version} {dns}");
            envoy.end().await;
            server.end().await;
        }
    }
}
