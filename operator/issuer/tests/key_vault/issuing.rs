//! Leaves that a key in the vault signed, held against openssl.

use std::path::Path;
use std::process::Command;

use osm_issuer::key_vault::{KeyVaultAuthority, KeyVaultConfig};
use osm_issuer::{LeafCertificate, LeafKeyAlgorithm, LeafPolicy, RsaKeySize, TrustBundle};
use osm_key_vault_double::{KeyKind, KeyVaultDouble, Operation};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::support::{config, gateway, proxy_of, store, workload};

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("these tests need the openssl binary (Debian package openssl)");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// What openssl says of the leaf, after it verified it as a client and as a server.
fn verified(leaf: &LeafCertificate, bundle: &TrustBundle) -> String {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("roots.pem", &bundle.pem());
    write("chain.pem", leaf.material().certificate_chain_pem());
    for purpose in ["sslclient", "sslserver"] {
        let arguments = [
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            "roots.pem",
            "-untrusted",
            "chain.pem",
            "chain.pem",
        ];
        assert!(openssl(folder.path(), &arguments).contains("chain.pem: OK"));
    }
    openssl(folder.path(), &["x509", "-in", "chain.pem", "-noout", "-text"])
}

#[tokio::test]
async fn each_kind_of_key_signs_by_its_algorithm() {
    let double = KeyVaultDouble::start().await.unwrap();
    let cases = [
        ("p256", KeyKind::P256, "ecdsa-with-SHA256"),
        ("p384", KeyKind::P384, "ecdsa-with-SHA384"),
        ("rsa", KeyKind::Rsa2048, "sha256WithRSAEncryption"),
    ];
    for (name, kind, algorithm) in cases {
        double.create_root(name, kind).unwrap();
        let store = store(config(&double, name));
        let bundle = store.trust_bundle().await.unwrap();
        for identity in [workload("bookstore"), proxy_of("bookstore"), gateway()] {
            let leaf = store.rotate_now(&identity).await.unwrap();
            let text = verified(&leaf, &bundle);
            assert!(text.contains(&format!("Signature Algorithm: {algorithm}")), "{text}");
            assert!(text.contains("Subject Alternative Name: critical"), "{text}");
            assert!(text.contains("Subject: \n") || text.contains("Subject:\n"), "no subject: {text}");
            assert!(text.contains("Authority Key Identifier"), "{text}");
        }
        store.set_policy(LeafPolicy { key: LeafKeyAlgorithm::Rsa(RsaKeySize::Bits2048), ..LeafPolicy::default() });
        let leaf = store.rotate_now(&workload("bookstore")).await.unwrap();
        assert!(verified(&leaf, &bundle).contains("Digital Signature, Key Encipherment"));
    }
}

/// A root whose own signature is RSASSA-PSS; made by openssl, because the library that makes our test roots knows no PSS.
#[tokio::test]
async fn a_root_signed_with_pss_signs_with_pss() {
    let folder = tempfile::tempdir().unwrap();
    let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-sha256"];
    let root =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "root.pem", "-days", "100"];
    let names = ["-subj", "/CN=root with PSS", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    openssl(folder.path(), &[&root[..], &pss, &names].concat());
    let double = KeyVaultDouble::start().await.unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap();
    let version = double.import_key("pss", key.secret_der()).unwrap();
    let chain = std::fs::read_to_string(folder.path().join("root.pem")).unwrap();
    let store = store(KeyVaultConfig {
        key_version: Some(version),
        authority: KeyVaultAuthority::Pem { chain },
        ..config(&double, "pss")
    });
    let leaf = store.certificate(&workload("bookstore")).await.unwrap();
    let text = verified(&leaf, &store.trust_bundle().await.unwrap());
    assert!(text.contains("Signature Algorithm: rsassaPss"), "{text}");
    assert_eq!(double.count(Operation::GetCertificate), 0);
}

#[tokio::test]
async fn an_intermediate_comes_with_the_chain_from_its_secret() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("root", KeyKind::Rsa2048).unwrap();
    double.create_intermediate("signing", KeyKind::P256, "root").unwrap();
    let store = store(config(&double, "signing"));
    let leaf = store.certificate(&workload("bookstore")).await.unwrap();
    assert_eq!(leaf.material().certificate_chain().len(), 2);
    verified(&leaf, &store.trust_bundle().await.unwrap());
    assert_eq!(double.count(Operation::GetSecret), 1);
}

#[tokio::test]
async fn a_leaf_costs_one_call() {
    const LEAVES: usize = 200;
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    let store = store(config(&double, "mesh"));
    store.trust_bundle().await.unwrap();
    let before = double.calls().len();
    let identities: Vec<_> = (0..LEAVES).map(|number| workload(&format!("workload-{number}"))).collect();
    let leaves = futures::future::join_all(identities.iter().map(|identity| store.certificate(identity))).await;
    assert!(leaves.iter().all(Result::is_ok));
    let calls = double.calls().split_off(before);
    assert_eq!(calls, vec![Operation::Sign; LEAVES], "keyvault_sign_calls_per_leaf is 1.0, and nothing else is asked");
    // Once per client: without a token, for the place to get one.
    assert_eq!(double.count(Operation::Token), 1);
}
