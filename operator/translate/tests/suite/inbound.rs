//! Live: what a workload's sidecar lets through to its application.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use osm_model::{
    ExternalAuthorization, HeaderMatch, HttpMatch, InboundPolicy, MeshSettings, PathMatch, Protocol, Tracing,
};
use osm_translate::Resource;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ads::{Ads, Served};
use crate::application::Application;
use crate::certificates::{Authority, Leaf};
use crate::envoy::{Envoy, VERSIONS, eventually};
use crate::fixture::*;
use crate::http::http1_over;
use crate::peer::Peer;

/// A sidecar in front of an HTTP application.
struct Server {
    authority: Authority,
    settings: MeshSettings,
    pod: SocketAddr,
    envoy: Envoy,
    _application: Application,
}

impl Server {
    async fn start(version: &str, policy: InboundPolicy, application: IpAddr) -> Self {
        Self::start_with(version, policy, application, settings(), Vec::new()).await
    }

    async fn start_with(
        version: &str,
        policy: InboundPolicy,
        application: IpAddr,
        settings: MeshSettings,
        more: Vec<Resource>,
    ) -> Self {
        let authority = Authority::new();
        let port = free_port();
        let application = Application::http("bookstore", SocketAddr::new(application, port)).await;
        let pod = SocketAddr::new(loopback(), port);
        let ads = Ads::start(Self::served(&authority, &settings, pod, policy).with(more)).await;
        let envoy = Envoy::start(version, ads).await;
        Self { authority, settings, pod, envoy, _application: application }
    }

    fn served(authority: &Authority, settings: &MeshSettings, pod: SocketAddr, policy: InboundPolicy) -> Served {
        let leaf = authority.workload(&identity("bookstore"), &settings.trust_domain);
        let view = view("bookstore", pod.port(), Protocol::Http, policy);
        Served::default().with(inbound_at(pod, &view, settings)).with_secrets(authority.secrets(&leaf))
    }

    fn workload(&self, name: &str) -> Leaf {
        self.authority.workload(&identity(name), &self.settings.trust_domain)
    }

    /// The status that the workload `name` gets; `None` when the connection breaks.
    async fn status(&self, name: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<u16> {
        self.status_for(&Peer::new(&self.authority, &self.workload(name)), method, path, headers).await
    }

    async fn status_for(&self, peer: &Peer, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let stream = peer.connect(self.pod, "bookstore.shop.mesh.example").await?;
        Some(http1_over(stream, method, path, headers).await?.status)
    }
}

const APPLICATION: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Whichever route comes first, a request is allowed if any grant covers it (OSM's order of grants decided).
#[tokio::test]
async fn overlapping_grants_add_up() {
    for version in VERSIONS {
        let books = || http_match(PathMatch::Regex("/books/[0-9]+".into()), &["GET"]);
        let policy = http_policy(vec![
            http_rule("everything", "all", http_match(PathMatch::Prefix("/books".into()), &[]), &["alice"]),
            http_rule("get-only", "get", books(), &["bob"]),
            http_rule("get-too", "get", books(), &["carol"]),
            http_rule("for-nobody", "private", http_match(PathMatch::Exact("/private".into()), &[]), &[]),
        ]);
        let server = Server::start(version, policy, APPLICATION).await;
        for (who, method, path, expected) in [
            ("alice", "GET", "/books/1", 200),
            ("alice", "POST", "/books/1", 200),
            ("alice", "POST", "/books", 200),
            ("bob", "GET", "/books/1", 200),
            ("bob", "GET", "/books/1?page=2", 200),
            ("carol", "GET", "/books/1", 200),
            // Covered by a rule, but not for them.
            ("bob", "POST", "/books/1", 403),
            ("bob", "GET", "/books/one", 403),
            ("dave", "GET", "/books/1", 403),
            ("alice", "GET", "/private", 403),
            // Covered by no rule of anybody.
            ("alice", "GET", "/bookshelf", 404),
            ("alice", "GET", "/", 404),
        ] {
            let status = server.status(who, method, path, &[]).await;
            assert_eq!(status, Some(expected), "{version}: {who} {method} {path}");
        }
        server.envoy.end().await;
    }
}

#[tokio::test]
async fn every_condition_of_a_rule_must_hold() {
    for version in VERSIONS {
        let with_header = HttpMatch {
            headers: vec![
                HeaderMatch { name: ":authority".into(), value: "bookstore(:[0-9]+)?".into() },
                HeaderMatch { name: "user-agent".into(), value: ".*buyer.*".into() },
            ],
            ..http_match(PathMatch::Prefix("/public/".into()), &["GET", "HEAD"])
        };
        let server =
            Server::start(version, http_policy(vec![http_rule("t", "g", with_header, &["buyer"])]), APPLICATION).await;
        let right = [("host", "bookstore:80"), ("user-agent", "the buyer 1.0")];
        for (method, path, headers, expected) in [
            ("GET", "/public/a", right, 200),
            ("GET", "/public", right, 200),
            ("POST", "/public/a", right, 404),
            ("GET", "/publication", right, 404),
            ("GET", "/public/a", [("host", "bookstore.evil"), right[1]], 404),
            ("GET", "/public/a", [right[0], ("user-agent", "thief")], 404),
            // Not below `/public`, whatever it looks like.
            ("GET", "/public/../private", right, 404),
            ("GET", "/public/%2e%2e/private", right, 404),
        ] {
            let status = server.status("buyer", method, path, &headers).await;
            assert_eq!(status, Some(expected), "{version}: {method} {path} {headers:?}");
        }
        server.envoy.end().await;
    }
}

#[tokio::test]
async fn without_grants_nothing_is_known_and_grants_come_and_go() {
    for version in VERSIONS {
        let server = Server::start(version, http_policy(vec![]), APPLICATION).await;
        assert_eq!(server.status("buyer", "GET", "/", &[]).await, Some(404), "{version}");
        // A policy about connections grants no request.
        let tcp = InboundPolicy::Tcp([tcp_rule("tcp", &["buyer"])].into());
        let grant = http_policy(vec![http_rule("t", "g", HttpMatch::any(), &["buyer"])]);
        let bare = || http_policy(vec![]);
        for (policy, expected) in [(tcp, 404), (grant, 200), (bare(), 404), (InboundPolicy::Permissive, 200)] {
            server.envoy.ads.change(Server::served(&server.authority, &server.settings, server.pod, policy)).await;
            eventually("the change is in force", || async {
                (server.status("buyer", "GET", "/", &[]).await == Some(expected)).then_some(())
            })
            .await;
        }
        server.envoy.end().await;
    }
}

/// In permissive mode, too.
#[tokio::test]
async fn who_is_not_a_workload_of_the_mesh_does_not_get_in() {
    for version in VERSIONS {
        let server = Server::start(version, InboundPolicy::Permissive, APPLICATION).await;
        let authority = &server.authority;
        let (own_name, domain) = ("buyer.shop.mesh.example", "mesh.example");
        let get = async |peer: Peer| server.status_for(&peer, "GET", "/", &[]).await;

        assert_eq!(get(Peer::new(authority, &server.workload("buyer"))).await, Some(200), "{version}");
        // Certificates of the mesh's root that are not a workload's: of a control plane stream, a gateway, another domain.
        for uri in [format!("spiffe://{domain}/control-plane"), format!("spiffe://{domain}.evil/ns/shop/sa/buyer")] {
            assert_eq!(get(Peer::new(authority, &authority.leaf(Some(&uri), &[own_name]))).await, None, "{uri}");
        }
        assert_eq!(get(Peer::new(authority, &authority.leaf(None, &[own_name]))).await, None);
        // The right names, by a stranger.
        let stranger = Authority::new();
        let forged = stranger.workload(&identity("buyer"), &server.settings.trust_domain);
        assert_eq!(get(Peer::new(authority, &forged)).await, None);
        // TLS that is not a sidecar's.
        assert_eq!(get(Peer::new(authority, &server.workload("buyer")).without_alpn()).await, None);

        // Plaintext.
        let mut plain = TcpStream::connect(server.pod).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nhost: bookstore\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _reset_or_closed = plain.read_to_end(&mut answer).await;
        assert_eq!(String::from_utf8_lossy(&answer), "", "{version}");
        server.envoy.end().await;
    }
}

#[tokio::test]
async fn an_application_on_the_ipv6_loopback_address_is_reached() {
    for version in VERSIONS {
        let server = Server::start(version, InboundPolicy::Permissive, Ipv6Addr::LOCALHOST.into()).await;
        assert_eq!(server.status("buyer", "GET", "/", &[]).await, Some(200), "{version}");
        server.envoy.end().await;
    }
}

/// Requests pass the authorizer, which is not there: what then is the setting's choice.
#[tokio::test]
async fn without_its_authorizer_requests_fare_as_configured() {
    for (version, failure_mode_allow, expected) in
        VERSIONS.into_iter().flat_map(|version| [(version, false, 403), (version, true, 200)])
    {
        let authorization = ExternalAuthorization {
            address: "127.0.0.1".into(),
            port: free_port(),
            stat_prefix: "authorizer".into(),
            timeout: Duration::from_secs(1),
            failure_mode_allow,
        };
        let cluster = osm_translate::external_authorization_cluster(&authorization);
        let settings = MeshSettings { external_authorization: Some(authorization), ..settings() };
        let server = Server::start_with(version, InboundPolicy::Permissive, APPLICATION, settings, vec![cluster]).await;
        assert_eq!(server.status("buyer", "GET", "/", &[]).await, Some(expected), "{version}");
        server.envoy.end().await;
    }
}

#[tokio::test]
async fn requests_are_traced() {
    for version in VERSIONS {
        let address = SocketAddr::new(loopback(), free_port());
        let _collector = Application::http("collector", address).await;
        let endpoint = "/api/v2/spans".into();
        let tracing = Tracing { address: address.ip().to_string().into(), port: address.port(), endpoint };
        let cluster = osm_translate::tracing_cluster(&tracing);
        let settings = MeshSettings { tracing: Some(tracing), ..settings() };
        let server = Server::start_with(version, InboundPolicy::Permissive, APPLICATION, settings, vec![cluster]).await;
        assert_eq!(server.status("buyer", "GET", "/", &[]).await, Some(200), "{version}");
        // A real collector would answer 202, and Envoy would not count the report as dropped.
        eventually("the span is reported", || async {
            (server.envoy.statistic("cluster.envoy-tracing-cluster.upstream_rq_200").await > 0).then_some(())
        })
        .await;
        assert_eq!(server.envoy.statistic("tracing.zipkin.spans_sent").await, 1, "{version}");
        server.envoy.end().await;
    }
}
