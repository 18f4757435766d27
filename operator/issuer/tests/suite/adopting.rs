//! Certificates of ingress gateways, and taking up those that were issued before.

use std::time::Duration;

use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial};
use osm_issuer::{
    CertificateStore, Change, IssueError, LeafCertificate, LeafError, LeafKeyAlgorithm, LeafPolicy, LeafValidity,
    PeerIdentity, PrivateKeyPem, RsaKeySize, StoreConfig,
};

use crate::support::{ManualClock, gateway, issuers, origin, store, tresor, workload};

/// What a store takes up of a leaf that another has issued.
async fn adopt(store: &CertificateStore, identity: &PeerIdentity, leaf: &LeafCertificate) -> Result<(), LeafError> {
    let key = PrivateKeyPem::new(leaf.material().expose_private_key_pem().to_owned());
    match store.adopt(identity, leaf.material().certificate_chain_pem(), key, origin()).await {
        Ok(adopted) => {
            assert_eq!((adopted.serial(), adopted.not_after()), (leaf.serial(), leaf.not_after()));
            Ok(())
        }
        Err(IssueError::BadCertificate { problem, .. }) => Err(problem),
        Err(error) => panic!("{error}"),
    }
}

/// Two stores of one authority, as before and after a restart.
fn twice(config: StoreConfig) -> (CertificateStore, CertificateStore, ManualClock) {
    let clock = ManualClock::new();
    let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, clock.now()).unwrap();
    let issuer = tresor(&material, clock.now());
    let store = || CertificateStore::new(issuers(&issuer), config, clock.clock());
    (store(), store(), clock)
}

#[tokio::test]
async fn a_gateway_has_the_names_and_the_validity_that_were_asked_for() {
    let validity = LeafValidity::new(Duration::from_secs(3600)).unwrap();
    let policy = LeafPolicy { gateway_validity: validity, ..LeafPolicy::default() };
    let (store, clock) = store(StoreConfig { policy, ..StoreConfig::default() });
    let identity = gateway(&["shop.example", "gateway.ingress.mesh.example"]);
    let leaf = store.certificate(&identity).await.unwrap();
    assert_eq!(leaf.not_after(), clock.now() + validity.as_duration());
    let names = leaf.identity().subject_names();
    assert_eq!(names.dns(), ["gateway.ingress.mesh.example", "shop.example"]);
    assert_eq!(names.uri(), "spiffe://mesh.example/ingress-gateway/ingress/gateway-tls");
    let der = &leaf.material().certificate_chain()[0];
    let read = PeerIdentity::from_certificate(der, &[identity.trust_domain().clone()]);
    assert_eq!(read.as_ref(), Ok(&identity), "DNS names come from the certificate");
}

#[tokio::test]
async fn what_was_issued_before_is_taken_up_and_kept_fresh() {
    for key in [LeafKeyAlgorithm::EcdsaP256, LeafKeyAlgorithm::Rsa(RsaKeySize::Bits2048)] {
        let policy = LeafPolicy { key, ..LeafPolicy::default() };
        let (before, after, clock) = twice(StoreConfig { policy, ..StoreConfig::default() });
        let identity = gateway(&["shop.example"]);
        let leaf = before.certificate(&identity).await.unwrap();
        let mut changes = after.subscribe();
        clock.advance(time::Duration::hours(1));
        adopt(&after, &identity, &leaf).await.unwrap();
        assert!(changes.drain().contains(&Change::Leaf(identity.clone())));
        assert_eq!(after.certificate(&identity).await.unwrap().serial(), leaf.serial(), "no other is issued");
        let adopted = after.cached(&identity).unwrap();
        assert_eq!(adopted.issued_at(), leaf.issued_at());
        clock.set(adopted.renew_at());
        assert_eq!(after.renew_due().await.renewed, 1);
        assert_ne!(after.cached(&identity).unwrap().serial(), leaf.serial());
    }
}

#[tokio::test]
async fn what_would_not_be_issued_now_is_not_taken_up() {
    let (before, after, clock) = twice(StoreConfig::default());
    let identity = gateway(&["shop.example"]);
    let leaf = before.certificate(&identity).await.unwrap();
    let other = gateway(&["shop.example", "other.example"]);
    assert!(matches!(adopt(&after, &other, &leaf).await, Err(LeafError::WrongIdentity { .. })));
    let stranger = workload("bookstore", "bookstore");
    assert!(matches!(adopt(&after, &stranger, &leaf).await, Err(LeafError::WrongIdentity { .. })));

    let chain = leaf.material().certificate_chain_pem();
    let elses = before.certificate(&other).await.unwrap();
    for key in [elses.material().expose_private_key_pem(), "", "-----BEGIN PRIVATE KEY-----\n####"] {
        let error = after.adopt(&identity, chain, PrivateKeyPem::new(key.to_owned()), origin()).await.unwrap_err();
        assert!(matches!(error, IssueError::BadCertificate { problem: LeafError::WrongKey, .. }), "{error}");
        assert!(!error.to_string().contains("####"), "{error}");
    }
    let key = || PrivateKeyPem::new(leaf.material().expose_private_key_pem().to_owned());
    for chain in ["", "no certificate"] {
        let error = after.adopt(&identity, chain, key(), origin()).await.unwrap_err();
        assert!(matches!(error, IssueError::BadCertificate { problem: LeafError::Empty, .. }), "{error}");
    }
    let (of_another_root, _) = store(StoreConfig::default());
    assert!(matches!(adopt(&of_another_root, &identity, &leaf).await, Err(LeafError::Untrusted { .. })));

    let shorter = LeafPolicy { gateway_validity: LeafValidity::MIN, ..LeafPolicy::default() };
    after.set_policy(shorter);
    assert!(matches!(adopt(&after, &identity, &leaf).await, Err(LeafError::TooLong { .. })));
    after.set_policy(LeafPolicy::default());
    clock.set(leaf.not_after());
    assert!(matches!(adopt(&after, &identity, &leaf).await, Err(LeafError::Expired { .. })));
    assert!(after.status().is_empty(), "nothing is kept of what was not taken up");
}
