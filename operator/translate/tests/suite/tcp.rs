//! Live: TCP services, including servers that speak first.

use std::net::SocketAddr;

use osm_model::{Addressing, InboundPolicy, MeshSettings, Principals, Protocol, TrafficRouting};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ads::{Ads, Served};
use crate::application::{Application, GREETING};
use crate::certificates::Authority;
use crate::envoy::{Envoy, LIMIT, VERSIONS};
use crate::fixture::*;
use crate::http::Client;
use crate::peer::Peer;

/// A sidecar in front of a server that speaks first.
async fn start(
    version: &str,
    authority: &Authority,
    settings: &MeshSettings,
    policy: InboundPolicy,
) -> (SocketAddr, Envoy, Application) {
    let port = free_port();
    let application = Application::greeting_tcp(([127, 0, 0, 1], port).into()).await;
    let pod = SocketAddr::new(loopback(), port);
    let leaf = authority.workload(&identity("ledger"), &settings.trust_domain);
    let view = view("ledger", port, Protocol::TcpServerFirst, policy);
    let served = Served::default().with(inbound_at(pod, &view, settings)).with_secrets(authority.secrets(&leaf));
    (pod, Envoy::start(version, Ads::start(served).await).await, application)
}

/// Everything that can be read before anything was written; empty when the connection is closed first.
async fn greeting(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = vec![0; GREETING.len()];
    match tokio::time::timeout(LIMIT, stream.read_exact(&mut text)).await.expect("no hang") {
        Ok(_) => String::from_utf8(text).unwrap(),
        Err(_) => String::new(),
    }
}

/// OSM let anybody of the mesh open any TCP port where a target granted HTTP, or where there was no target at all; and the
/// access filter comes too late for a server that speaks first.
#[tokio::test]
async fn only_who_is_named_hears_the_server_speak() {
    for version in VERSIONS {
        let (settings, authority) = (settings(), Authority::new());
        let named = || InboundPolicy::Tcp([tcp_rule("target", &["warehouse", "auditor"])].into());
        let http = || http_policy(vec![http_rule("t", "g", osm_model::HttpMatch::any(), &["thief"])]);
        let empty = || InboundPolicy::Tcp([tcp_rule("target", &[])].into());
        for (policy, welcome) in [
            (named(), identities(&["warehouse", "auditor"])),
            (http(), Principals::new()),
            (empty(), Principals::new()),
            (InboundPolicy::Tcp([].into()), Principals::new()),
            (InboundPolicy::Permissive, identities(&["warehouse", "auditor", "thief"])),
        ] {
            let (pod, envoy, _application) = start(version, &authority, &settings, policy.clone()).await;
            for name in ["warehouse", "auditor", "thief"] {
                let who = identity(name);
                let peer = Peer::new(&authority, &authority.workload(&who, &settings.trust_domain));
                let heard = match peer.connect(pod, "ledger.shop.mesh.example").await {
                    Some(mut stream) => greeting(&mut stream).await,
                    None => String::new(),
                };
                let expected = if welcome.contains(&who) { GREETING } else { "" };
                assert_eq!(heard, expected, "{version}: {name} under {policy:?}");
            }
            envoy.end().await;
        }
    }
}

#[tokio::test]
async fn a_tcp_service_is_reached_through_both_sidecars_on_first_use() {
    for version in VERSIONS {
        let (settings, authority) = (settings(), Authority::new());
        let policy = InboundPolicy::Tcp([tcp_rule("target", &["warehouse"])].into());
        let (pod, server, _application) = start(version, &authority, &settings, policy).await;
        let addresses = [loopback(), loopback()];
        let port = pod.port();
        let direct = service("ledger", Addressing::ClusterIp(vec![addresses[0]]), port, Protocol::TcpServerFirst);
        let apex = service("apex", Addressing::ClusterIp(vec![addresses[1]]), port, Protocol::Tcp);
        let split = TrafficRouting::Split([split("over", &[(&apex, 0), (&direct, 3), (&direct, 4)])].into());

        let mut served = Served::default().with([osm_translate::passthrough_cluster()]);
        for (service, address, routing) in
            [(&direct, addresses[0], TrafficRouting::Direct), (&apex, addresses[1], split)]
        {
            let destination = destination(service, &["ledger"]);
            let listener = osm_translate::exact_listener(&destination, &[address], &routing, &settings).unwrap();
            served = served
                .with([moved(&listener, &[SocketAddr::new(address, port)])])
                .with([osm_translate::endpoints(&destination, &[ready(pod, "ledger")])])
                .with_on_demand(osm_translate::clusters(&destination, &settings).iter().cloned());
        }
        let leaf = authority.workload(&identity("warehouse"), &settings.trust_domain);
        let served = served.with_secrets(authority.secrets(&leaf));
        let envoy = Envoy::start(version, Ads::start(served).await).await;
        for address in addresses {
            let mut stream = TcpStream::connect(SocketAddr::new(address, port)).await.unwrap();
            assert_eq!(greeting(&mut stream).await, GREETING, "{version} {address}");
            stream.write_all(b"and back").await.unwrap();
            let mut echoed = [0; 8];
            stream.read_exact(&mut echoed).await.unwrap();
            assert_eq!(&echoed, b"and back");
        }
        // What the access filter allowed is counted under OSM's prefix.
        assert_eq!(server.statistic("network-.rbac.allowed").await, 2, "{version}");
        assert_eq!(Client::http1(pod).try_get("/").await, None);
        envoy.end().await;
        server.end().await;
    }
}
