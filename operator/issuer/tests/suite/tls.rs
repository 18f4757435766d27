//! Handshakes with the TLS configurations that leaves and trust bundles make.

use std::sync::Arc;

use osm_issuer::{
    CertificateStore, ClientCertificates, LeafCertificate, PeerIdentity, StoreConfig, TrustBundle,
    anonymous_client_config, client_config, server_config,
};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support;
use crate::support::trust_domain;

/// What the two sides of a handshake saw.
#[derive(Debug)]
struct Handshake {
    /// The server's view of the client, or why it failed.
    server: Result<Option<PeerIdentity>, String>,
    /// The client's view: the application protocol, or why it failed.
    client: Result<Option<Vec<u8>>, String>,
}

async fn handshake(server: ServerConfig, client: ClientConfig, name: &str) -> Handshake {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await.map_err(|error| error.to_string())?;
        let identity = stream
            .get_ref()
            .1
            .peer_certificates()
            .map(|chain| PeerIdentity::from_certificate(&chain[0], &[trust_domain()]).unwrap());
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())?;
        Ok(identity)
    };
    let connect = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect(name, near).await.map_err(|error| error.to_string())?;
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        // With TLS 1.3 a client learns only now that its certificate was refused.
        stream.read_u8().await.map_err(|error| error.to_string())?;
        Ok(protocol)
    };
    let (server, client) = tokio::join!(serve, connect);
    Handshake { server, client }
}

struct Party {
    leaf: Arc<LeafCertificate>,
    bundle: Arc<TrustBundle>,
}

async fn party(store: &CertificateStore, identity: &PeerIdentity) -> Party {
    Party { leaf: store.certificate(identity).await.unwrap(), bundle: store.trust_bundle().await.unwrap() }
}

fn proxy() -> PeerIdentity {
    support::proxy("bookstore", "book.store", "vm-1")
}

#[tokio::test]
async fn a_proxy_and_the_control_plane_know_each_other() {
    let (store, _) = support::store(StoreConfig::default());
    let (server, client) = (party(&store, &support::control_plane()).await, party(&store, &proxy()).await);
    for name in ["ads.mesh.example", "osm-controller.osm-system.svc"] {
        for clients in [ClientCertificates::Required, ClientCertificates::Optional] {
            let seen = handshake(
                server_config(&server.leaf, &server.bundle, clients).unwrap(),
                client_config(&client.leaf, &client.bundle).unwrap(),
                name,
            )
            .await;
            assert_eq!(seen.server, Ok(Some(proxy())));
            assert_eq!(seen.client, Ok(Some(b"h2".to_vec())));
        }
    }
}

#[tokio::test]
async fn a_server_of_another_name_is_refused() {
    let (store, _) = support::store(StoreConfig::default());
    let client = party(&store, &proxy()).await;
    // The control plane under a name that is not its own; and workloads and proxies that pose as the control plane.
    let impostors = [
        (support::control_plane(), "ads.other.example"),
        (support::workload("osm-system", "osm-controller"), "ads.mesh.example"),
        (support::workload("osm-system", "ads"), "ads.mesh.example"),
        (support::workload("osm-system", "osm-controller"), "osm-controller.osm-system.svc"),
        (support::proxy("osm-system", "osm-controller", "ads"), "ads.mesh.example"),
    ];
    for (identity, name) in impostors {
        let server = party(&store, &identity).await;
        let seen = handshake(
            server_config(&server.leaf, &server.bundle, ClientCertificates::Required).unwrap(),
            client_config(&client.leaf, &client.bundle).unwrap(),
            name,
        )
        .await;
        let error = seen.client.unwrap_err();
        assert!(error.contains("not valid for name"), "{identity} as {name}: {error}");
        assert!(seen.server.is_err());
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_let_in_only_where_that_is_allowed() {
    let (store, _) = support::store(StoreConfig::default());
    let server = party(&store, &support::control_plane()).await;
    let dial = async |clients| {
        let server_side = server_config(&server.leaf, &server.bundle, clients).unwrap();
        handshake(server_side, anonymous_client_config(&server.bundle).unwrap(), "ads.mesh.example").await
    };
    let allowed = dial(ClientCertificates::Optional).await;
    assert_eq!((allowed.server, allowed.client), (Ok(None), Ok(Some(b"h2".to_vec()))));
    let refused = dial(ClientCertificates::Required).await;
    assert!(refused.server.unwrap_err().contains("sent no certificates"));
    assert!(refused.client.is_err());
}

#[tokio::test]
async fn a_stranger_is_refused_on_both_sides_even_where_certificates_are_optional() {
    let (mesh, _) = support::store(StoreConfig::default());
    let (elsewhere, _) = support::store(StoreConfig::default());
    let server = party(&mesh, &support::control_plane()).await;
    let stranger = party(&elsewhere, &proxy()).await;
    for clients in [ClientCertificates::Required, ClientCertificates::Optional] {
        // The client trusts the server, so it is the server that refuses.
        let seen = handshake(
            server_config(&server.leaf, &server.bundle, clients).unwrap(),
            client_config(&stranger.leaf, &server.bundle).unwrap(),
            "ads.mesh.example",
        )
        .await;
        assert!(seen.server.unwrap_err().contains("invalid peer certificate"));
        assert!(seen.client.is_err());
    }
    // And the client refuses a server of another authority.
    let seen = handshake(
        server_config(&server.leaf, &server.bundle, ClientCertificates::Optional).unwrap(),
        client_config(&stranger.leaf, &stranger.bundle).unwrap(),
        "ads.mesh.example",
    )
    .await;
    assert!(seen.client.unwrap_err().contains("invalid peer certificate"));
}

#[tokio::test]
async fn versions_before_tls_1_2_and_resumption_are_off() {
    let (store, _) = support::store(StoreConfig::default());
    let server = party(&store, &support::control_plane()).await;
    let config = server_config(&server.leaf, &server.bundle, ClientCertificates::Optional).unwrap();
    assert_eq!(config.send_tls13_tickets, 0);
    assert!(!config.session_storage.can_cache());
    let tls12 = ClientConfig::builder_with_provider(config.crypto_provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.bundle.roots()[0].clone()).unwrap();
    let client = tls12.with_root_certificates(roots).with_no_client_auth();
    let seen = handshake(config, client, "ads.mesh.example").await;
    assert_eq!((seen.server, seen.client), (Ok(None), Ok(None)), "no protocol was offered");
}

#[tokio::test]
async fn rsa_leaves_serve_too() {
    let (store, _) = support::store(StoreConfig::default());
    let size = osm_issuer::RsaKeySize::Bits2048;
    store.set_policy(osm_issuer::LeafPolicy {
        key: osm_issuer::LeafKeyAlgorithm::Rsa(size),
        ..osm_issuer::LeafPolicy::default()
    });
    let (server, client) = (party(&store, &support::control_plane()).await, party(&store, &proxy()).await);
    let seen = handshake(
        server_config(&server.leaf, &server.bundle, ClientCertificates::Required).unwrap(),
        client_config(&client.leaf, &client.bundle).unwrap(),
        "ads.mesh.example",
    )
    .await;
    assert_eq!(seen.server, Ok(Some(proxy())));
    assert!(seen.client.is_ok());
}
