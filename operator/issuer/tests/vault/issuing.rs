//! Leaves from a real server: what they are, what they cost, and many of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use osm_issuer::vault::VaultConfig;
use osm_issuer::{
    CertificateStore, Clock, ControlPlaneIdentity, IngressGatewayIdentity, Issuers, LeafKeyAlgorithm, LeafPolicy,
    LeafValidity, PeerIdentity, RsaKeySize, StoreConfig,
};
use osm_open_bao::OpenBao;
use serde_json::json;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::open_bao::{config, issuer, proxy_of, store, trust_domain, workload};

fn control_plane() -> PeerIdentity {
    PeerIdentity::ControlPlane(ControlPlaneIdentity::new(trust_domain(), "osm-system", "osm-controller").unwrap())
}

fn gateway() -> PeerIdentity {
    let names = ["gateway.ingress.mesh.example", "shop.mesh.example"];
    PeerIdentity::IngressGateway(IngressGatewayIdentity::new(trust_domain(), "ingress", "tls", names).unwrap())
}

#[tokio::test]
async fn leaves_of_every_kind_of_identity_and_key_come_with_their_chain() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let store = store(config(&server, &token));
    let rsa = LeafKeyAlgorithm::Rsa(RsaKeySize::Bits2048);
    for key in [LeafKeyAlgorithm::EcdsaP256, rsa] {
        store.set_policy(LeafPolicy { key, ..LeafPolicy::default() });
        for identity in [workload("bookstore"), proxy_of("bookstore"), control_plane(), gateway()] {
            // Verified by the store: key, names, usage, validity, and the chain up to the root.
            let leaf = store.rotate_now(&identity).await.unwrap();
            assert_eq!(leaf.identity(), &identity);
            let chain = leaf.material().certificate_chain();
            assert_eq!(chain.len(), 2, "the leaf and the intermediate, without the root");
            let (_, certificate) = X509Certificate::from_der(&chain[0]).unwrap();
            assert_eq!(certificate.subject().iter().count(), 0, "no common name");
        }
    }
    let bundle = store.trust_bundle().await.unwrap();
    let [root] = bundle.roots() else { panic!("one root: {bundle:?}") };
    let (_, root) = X509Certificate::from_der(root).unwrap();
    assert_eq!(root.subject().to_string(), "CN=root of the mesh");
}

#[tokio::test]
async fn validity_is_asked_for_in_seconds() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let store = store(config(&server, &token));
    // 11 minutes and 7 seconds: in whole hours, none.
    let validity = LeafValidity::new(Duration::from_secs(667)).unwrap();
    store.set_policy(LeafPolicy { workload_validity: validity, ..LeafPolicy::default() });
    let leaf = store.certificate(&workload("bookstore")).await.unwrap();
    let (_, certificate) = X509Certificate::from_der(&leaf.material().certificate_chain()[0]).unwrap();
    let validity = certificate.validity();
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    // The engine lets validity begin 30 seconds early, and its parts of seconds may add one.
    assert!((667 + 30..=667 + 31).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_leaf_does_not_outlive_its_issuer() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let role = osm_open_bao::role();
    server.write("sys/mounts/short", json!({"type": "pki"})).await;
    let root = json!({"common_name": "short-lived root", "key_type": "ec", "ttl": "2h"});
    server.write("short/root/generate/internal", root).await;
    server.write("short/roles/osm", role).await;
    let mut config = config(&server, server.root_token());
    config.mount = "short".to_owned();
    let store = store(config);
    // The policy asks for 24 hours. The engine would refuse that, rather than give less.
    let leaf = store.certificate(&workload("bookstore")).await.unwrap();
    let left = leaf.not_after() - OffsetDateTime::now_utc();
    assert!(left <= time::Duration::hours(2) && left > time::Duration::hours(1), "{left}");
}

#[tokio::test]
async fn namespaces_are_told_apart() {
    let server = OpenBao::start().await;
    server.set_up().await;
    server.write("sys/namespaces/team", json!({})).await;
    server.set_up_in(Some("team")).await;
    let token = server.token_in(Some("team"), json!({})).await;
    let mut inside = config(&server, &token);
    inside.namespace = Some("team".to_owned());
    let nowhere = VaultConfig { namespace: Some("nobody".to_owned()), ..inside.clone() };
    let inside = store(inside);
    inside.certificate(&workload("bookstore")).await.unwrap();
    let other = server.token_in(None, json!({})).await;
    let outside = store(config(&server, &other));
    assert_ne!(inside.trust_bundle().await.unwrap(), outside.trust_bundle().await.unwrap());
    let error = store(nowhere).certificate(&workload("bookstore")).await.unwrap_err();
    assert_eq!(error.reason(), "IssuerMisconfigured", "{error}");
}

/// The store's clock runs ahead of the server's, so that renewals are due without waiting for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_hundred_workloads_cost_one_request_each_and_so_do_their_renewals() {
    const WORKLOADS: usize = 1600;
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let ahead = Arc::new(AtomicI64::new(0));
    let clock = {
        let ahead = ahead.clone();
        Clock::from_fn(move || OffsetDateTime::now_utc() + time::Duration::seconds(ahead.load(Ordering::SeqCst)))
    };
    let issuers = Issuers { signing: issuer(config(&server, &token)), validating: Vec::new() };
    let store = CertificateStore::new(issuers, StoreConfig::default(), clock.clone());
    store.trust_bundle().await.unwrap();
    let before = server.audited().len();

    let identities: Vec<_> = (0..WORKLOADS).map(|number| workload(&format!("workload-{number}"))).collect();
    let issued = futures::stream::iter(&identities)
        .map(|identity| store.certificate(identity))
        .buffer_unordered(WORKLOADS)
        .filter(|leaf| std::future::ready(leaf.is_ok()))
        .count()
        .await;
    assert_eq!(issued, WORKLOADS, "{:?}", store.status().iter().find_map(|one| one.failure.clone()));
    let requests = server.audited().split_off(before);
    assert_eq!(requests.len(), WORKLOADS, "vault_requests_per_leaf is 1.0");
    assert!(requests.iter().all(|path| path == "pki/sign/osm"));

    let status = store.status();
    let due: BTreeSet<_> = status.iter().map(|one| one.leaf.as_ref().unwrap().renew_at).collect();
    assert!(due.len() > WORKLOADS * 9 / 10, "renewals are spread: {} different times", due.len());
    let serials: BTreeSet<_> = status.into_iter().map(|one| one.leaf.unwrap().serial).collect();
    assert_eq!(serials.len(), WORKLOADS);

    // A leaf of 24 hours is due after 12 to 16.
    ahead.store(17 * 3600, Ordering::SeqCst);
    let renewed = store.renew_due().await;
    assert_eq!((renewed.renewed, renewed.failed), (WORKLOADS, 0));
    let requests = server.audited().split_off(before + WORKLOADS);
    assert_eq!(requests.len(), WORKLOADS, "and so it is for renewals");
    assert!(store.status().into_iter().all(|one| !serials.contains(&one.leaf.unwrap().serial)));
    assert!(store.next_renewal().unwrap() > clock.now());
}

#[tokio::test]
async fn many_who_want_the_same_leaf_cost_one_request() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let store = store(config(&server, &token));
    let identity = workload("bookstore");
    let leaves = futures::future::join_all((0..100).map(|_| store.certificate(&identity))).await;
    let serials: BTreeSet<_> = leaves.into_iter().map(|leaf| leaf.unwrap().serial().to_owned()).collect();
    assert_eq!(serials.len(), 1);
    assert_eq!(server.audited().iter().filter(|path| *path == "pki/sign/osm").count(), 1);
}
