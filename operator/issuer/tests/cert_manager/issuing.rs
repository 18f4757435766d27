//! Leaves from a real cert-manager.

use osm_cluster::rights::{self, Subject};
use osm_issuer::cert_manager::IssuerKind;
use osm_issuer::{
    IngressGatewayIdentity, Issuer, LeafKeyAlgorithm, LeafPolicy, PeerIdentity, ProxyIdentity, RsaKeySize,
    WorkloadIdentity,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::cluster::{Cluster, cert_manager, store, trust_domain, workload};

/// An authority below the root, and an issuer that signs with it.
const BETWEEN: &str = r"
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: between, namespace: osm-system}
spec:
  isCA: true
  commonName: below the root
  secretName: between
  duration: 2160h
  privateKey: {algorithm: ECDSA, size: 256}
  issuerRef: {name: osm-ca, kind: Issuer, group: cert-manager.io}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: between, namespace: osm-system}
spec: {ca: {secretName: between}}
";

#[tokio::test]
async fn leaves_come_from_an_issuer_from_a_cluster_issuer_and_from_below_the_root() {
    let cluster = Cluster::with_issuers().await;
    cluster.server.kubectl().apply(BETWEEN).await.unwrap();
    cluster.wait_ready("issuer/between").await;
    let proxy = ProxyIdentity::new(WorkloadIdentity::new(trust_domain(), "shop", "cart").unwrap(), "pod.1").unwrap();
    let control_plane = cluster.config(IssuerKind::Issuer, "osm-ca").control_plane;
    let gateway = IngressGatewayIdentity::new(trust_domain(), "ingress", "tls", ["a.example", "b.example"]).unwrap();
    let identities = [
        workload("bookstore"),
        PeerIdentity::Proxy(proxy),
        PeerIdentity::ControlPlane(control_plane),
        PeerIdentity::IngressGateway(gateway),
    ];
    let mut roots = Vec::new();
    let issuers = [
        (IssuerKind::Issuer, "osm-ca", 1, "CN=root of the mesh"),
        (IssuerKind::ClusterIssuer, "osm-cluster-ca", 1, "CN=root of the mesh"),
        (IssuerKind::Issuer, "between", 2, "CN=below the root"),
    ];
    for (kind, name, length, signer) in issuers {
        let config = cluster.config(kind, name);
        let issuer = cert_manager(config.clone());
        let health = issuer.probe(OffsetDateTime::now_utc()).await.unwrap();
        assert_eq!(health.subject, signer);
        assert_eq!(health.remarks, Vec::<String>::new());
        let store = store(config);
        for key in [LeafKeyAlgorithm::EcdsaP256, LeafKeyAlgorithm::Rsa(RsaKeySize::Bits2048)] {
            store.set_policy(LeafPolicy { key, ..LeafPolicy::default() });
            for identity in &identities {
                // Verified by the store: key, names, usage, validity, and the chain up to the root.
                let leaf = store.rotate_now(identity).await.unwrap();
                assert_eq!(leaf.identity(), identity);
                let chain = leaf.material().certificate_chain();
                assert_eq!(chain.len(), length, "without the root");
                let (_, certificate) = X509Certificate::from_der(&chain[0]).unwrap();
                assert_eq!(certificate.issuer().to_string(), signer);
                let validity = certificate.validity();
                let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
                assert!((86_399..=86_401).contains(&seconds), "{seconds}");
            }
        }
        assert_eq!(issuer.trust_bundle().await.unwrap(), *store.trust_bundle().await.unwrap());
        roots.push(store.trust_bundle().await.unwrap());
    }
    assert!(roots.iter().all(|bundle| bundle == &roots[0] && bundle.roots().len() == 1));
    cluster.no_request_is_left().await;
    // All that took every right there is, and no other was asked for.
    let user = Subject::User("mesh".to_owned());
    let granted = rights::granted(cluster.server.kubectl(), &user).await.unwrap();
    assert_eq!(granted.len(), 6);
    let asked = rights::asked(&cluster.server.audit_log(), &user).unwrap();
    asked.difference(&granted).expect_none_but(&[]).unwrap();
}

#[tokio::test]
async fn an_issuer_that_may_not_be_looked_at_is_remarked_and_signs() {
    let cluster = Cluster::with_issuers().await;
    cluster.server.kubectl().output(&["delete", "clusterrole", "mesh"]).await.unwrap();
    let issuer = cert_manager(cluster.config(IssuerKind::ClusterIssuer, "osm-cluster-ca"));
    let remarked = crate::cluster::until("the right is gone", async || {
        let health = issuer.probe(OffsetDateTime::now_utc()).await.unwrap();
        health.remarks.into_iter().next()
    });
    let remark = remarked.await;
    assert!(remark.contains("clusterissuers"), "{remark}");
}

#[tokio::test]
async fn many_leaves_at_once_leave_nothing_behind() {
    let cluster = Cluster::with_issuers().await;
    let store = store(cluster.config(IssuerKind::Issuer, "osm-ca"));
    let identities: Vec<_> = (0..50).map(|number| workload(&format!("workload-{number}"))).collect();
    let leaves = futures::future::join_all(identities.iter().map(|identity| store.certificate(identity))).await;
    for (leaf, identity) in leaves.into_iter().zip(&identities) {
        assert_eq!(leaf.unwrap().identity(), identity);
    }
    cluster.no_request_is_left().await;
}

#[tokio::test]
async fn what_a_process_left_behind_is_taken_away_by_the_next() {
    let cluster = Cluster::with_issuers().await;
    let manifest = |name: &str, labels: &str| {
        format!(
            "apiVersion: cert-manager.io/v1\nkind: CertificateRequest\nmetadata: {{name: {name}, namespace: osm-system, \
             labels: {{{labels}}}}}\nspec: {{request: bm8=, issuerRef: {{name: gone, group: issuers.example}}}}\n---\n"
        )
    };
    let ours = "app.kubernetes.io/instance: osm, openservicemesh.io/leaf-request: \"true\"";
    let manifests = manifest("left", ours) + &manifest("of-somebody", "app.kubernetes.io/instance: osm");
    cluster.server.kubectl().apply(&manifests).await.unwrap();
    let issuer = cert_manager(cluster.config(IssuerKind::Issuer, "osm-ca"));
    // It may be another replica's that waits for its answer.
    issuer.probe(OffsetDateTime::now_utc()).await.unwrap();
    assert_eq!(cluster.requests().await.len(), 1);
    let later = OffsetDateTime::now_utc() + time::Duration::hours(1);
    issuer.probe(later).await.unwrap();
    cluster.no_request_is_left().await;
    let get = ["get", "certificaterequest", "of-somebody", "--namespace", "osm-system", "--output=name"];
    cluster.server.kubectl().output(&get).await.unwrap();
}
