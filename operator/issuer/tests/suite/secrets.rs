//! No key ever appears in what is printed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, Tresor, TresorConfig};
use osm_issuer::{
    Blame, CertificateStore, ClientCertificates, IssuerConfig, LeafKeyAlgorithm, LeafPolicy, PrivateKeyPem, RsaKeySize,
    StoreConfig, client_config, server_config,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::support;
use crate::support::{ManualClock, issuers, tresor, workload};

/// The forms in which key bytes could leak: PEM lines, and any run of eight bytes of the DER in hexadecimal (plain or
/// separated) or as a list of numbers, as derived `Debug` writes it.
fn traces(pem: &str) -> Vec<String> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let der = key.secret_der();
    let lines = pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned);
    let runs = der.windows(8).flat_map(|run| {
        let hex: Vec<_> = run.iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers: Vec<_> = run.iter().map(u8::to_string).collect();
        [hex.concat(), hex.join(":"), numbers.join(", ")]
    });
    lines.chain(runs).collect()
}

/// Removes what a private key has in common with a certificate: the public key and the names of algorithms.
fn secret_traces(pem: &str, public: &str) -> Vec<String> {
    let public = public.to_lowercase();
    traces(pem).into_iter().filter(|trace| !public.contains(&trace.to_lowercase())).collect()
}

/// The certificate in all forms that `traces` looks for.
fn public_forms(chain_pem: &str) -> String {
    let body: String = chain_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).unwrap();
    let hex: Vec<_> = der.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<_> = der.iter().map(u8::to_string).collect();
    [hex.concat(), hex.join(":"), numbers.join(", ")].join("\n")
}

#[track_caller]
fn check_clean(printed: &str, secrets: &[Vec<String>]) {
    let lower = printed.to_lowercase();
    for trace in secrets.iter().flatten() {
        assert!(!lower.contains(&trace.to_lowercase()), "{trace:?} in {printed}");
    }
}

async fn check(authority: AuthorityKey, leaf_key: LeafKeyAlgorithm) {
    let clock = ManualClock::new();
    let material = AuthorityMaterial::generate(authority, clock.now()).unwrap();
    let config = TresorConfig { material: material.clone(), origin: support::origin() };
    let issuer = tresor(&material, clock.now());
    let store_config =
        StoreConfig { policy: LeafPolicy { key: leaf_key, ..LeafPolicy::default() }, ..StoreConfig::default() };
    let store = CertificateStore::new(issuers(&issuer), store_config, clock.clock());
    let leaf = store.certificate(&workload("bookstore", "bookstore")).await.unwrap();
    let bundle = store.trust_bundle().await.unwrap();

    let key_of_authority = material.private_key().expose_private_key_pem();
    let key_of_leaf = leaf.material().expose_private_key_pem();
    let secrets = [
        secret_traces(key_of_authority, &public_forms(material.certificate_pem())),
        secret_traces(key_of_leaf, &public_forms(leaf.material().certificate_chain_pem())),
    ];
    assert!(secrets.iter().all(|traces| traces.len() > 50), "there is something to look for");
    // The search finds a key that is there.
    for (key, traces) in [key_of_authority, key_of_leaf].into_iter().zip(&secrets) {
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap().secret_der().to_vec();
        assert!(traces.iter().any(|trace| format!("{der:?}").contains(trace)));
        assert!(traces.iter().any(|trace| key.contains(trace)));
    }

    let printed = [
        format!("{material:?} {material:#?}"),
        format!("{config:?} {:?}", IssuerConfig::Tresor(config.clone())),
        format!("{issuer:?} {:?}", Tresor::new(config, clock.now()).unwrap()),
        format!("{leaf:?} {leaf:#?} {:?}", leaf.material()),
        format!("{store:?} {:?} {bundle:?}", store.status()),
        format!("{:?}", issuers(&issuer)),
        format!("{:?}", server_config(&leaf, &bundle, ClientCertificates::Optional).unwrap()),
        format!("{:?}", client_config(&leaf, &bundle).unwrap()),
        format!("{:?}", PrivateKeyPem::new(key_of_leaf.to_owned())),
    ];
    for text in &printed {
        check_clean(text, &secrets);
    }
    assert!(printed[3].contains("[redacted]") && printed[8] == "[redacted]");
    check_errors(&material, &secrets);
}

/// Errors about a key do not quote it.
fn check_errors(material: &AuthorityMaterial, secrets: &[Vec<String>]) {
    let key = material.private_key().expose_private_key_pem();
    let now = time::OffsetDateTime::now_utc();
    let other = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, now).unwrap();
    let certificate = material.certificate_pem();
    let middle = key.len() / 2;
    let bad = [
        // The key where the certificate belongs, the wrong key, and keys broken in several ways.
        (key.to_owned(), key.to_owned()),
        (key.replace("PRIVATE KEY", "CERTIFICATE"), key.to_owned()),
        (other.certificate_pem().to_owned(), key.to_owned()),
        (certificate.to_owned(), key.replace("PRIVATE KEY", "CERTIFICATE")),
        (certificate.to_owned(), key[..middle].to_owned()),
        (certificate.to_owned(), key.replace("-----END", "----END")),
        (certificate.to_owned(), format!("{}!{}", &key[..middle], &key[middle..])),
        (certificate.to_owned(), format!("{}{}", &key[..100], &key[120..])),
    ];
    for (certificate, key) in bad {
        let material = AuthorityMaterial::new(certificate, PrivateKeyPem::new(key));
        let origin = Blame::Process;
        let error = IssuerConfig::Tresor(TresorConfig { material, origin }).build(now).unwrap_err();
        check_clean(&format!("{error} {error:?}"), secrets);
    }
}

#[tokio::test]
async fn ecdsa_keys_never_appear_in_print() {
    check(AuthorityKey::EcdsaP256, LeafKeyAlgorithm::EcdsaP256).await;
}

#[tokio::test]
async fn rsa_keys_never_appear_in_print() {
    check(AuthorityKey::Rsa2048, LeafKeyAlgorithm::Rsa(RsaKeySize::Bits2048)).await;
}
