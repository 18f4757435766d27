//! One version of the key signs, whatever else becomes of the key.

use osm_issuer::key_vault::{KeyVaultAuthority, KeyVaultConfig};
use osm_issuer::{Advice, Issuer};
use osm_key_vault_double::{Fault, KeyKind, KeyVaultDouble, Operation};
use time::{Duration, OffsetDateTime};

use crate::support::{config, key_vault, store, workload};

#[tokio::test]
async fn a_new_version_is_reported_and_not_used() {
    let double = KeyVaultDouble::start().await.unwrap();
    let first = double.create_root("mesh", KeyKind::P256).unwrap();
    let vault = key_vault(config(&double, "mesh"));
    let store = store(config(&double, "mesh"));
    let before = store.trust_bundle().await.unwrap();
    let health = vault.probe(OffsetDateTime::now_utc()).await.unwrap();
    assert_eq!(health.subject, "CN=mesh");
    assert_eq!(health.remarks, Vec::<String>::new());

    let second = double.create_root("mesh", KeyKind::P256).unwrap();
    let health = vault.probe(OffsetDateTime::now_utc()).await.unwrap();
    let [remark] = health.remarks.as_slice() else { panic!("one remark: {:?}", health.remarks) };
    assert!(remark.contains(&second) && remark.contains(&first) && remark.contains("keyVersion"), "{remark}");
    // Leaves go on verifying against the root that the mesh has.
    store.certificate(&workload("bookstore")).await.unwrap();
    assert_eq!(store.refresh_trust_bundle().await.unwrap(), before);

    // Another issuer, as a rotation makes it, uses the second; and one that names the first uses that.
    let pinned = KeyVaultConfig { key_version: Some(second), ..config(&double, "mesh") };
    assert_ne!(*before, key_vault(pinned).trust_bundle().await.unwrap());
    let pinned = KeyVaultConfig { key_version: Some(first), ..config(&double, "mesh") };
    assert_eq!(*before, key_vault(pinned).trust_bundle().await.unwrap());
}

#[tokio::test]
async fn a_certificate_of_another_version_or_key_is_refused() {
    let double = KeyVaultDouble::start().await.unwrap();
    let first = double.create_root("mesh", KeyKind::P256).unwrap();
    let chain = double.certificate_pem("mesh", &first).unwrap();
    double.create_key("mesh", KeyKind::P256).unwrap();
    // The newest key with the certificate of the one before.
    let mixed = KeyVaultConfig { authority: KeyVaultAuthority::Pem { chain }, ..config(&double, "mesh") };
    let error = key_vault(mixed).trust_bundle().await.unwrap_err();
    assert_eq!(error.advice(), Advice::WaitForOperator);
    assert!(error.to_string().contains("is not the key of the certificate (CN=mesh)"), "{error}");

    double.create_root("other", KeyKind::P256).unwrap();
    let authority = KeyVaultAuthority::CertificateObject { name: "other".to_owned() };
    let error = key_vault(KeyVaultConfig { authority, ..config(&double, "mesh") }).trust_bundle().await.unwrap_err();
    assert!(error.to_string().contains("certificates/other is for keys/other, not for keys/mesh"), "{error}");
}

#[tokio::test]
async fn a_signature_of_another_version_or_of_other_bytes_is_not_used() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    let store = store(config(&double, "mesh"));
    double.fail(Operation::Sign, &Fault::OtherVersion, 1);
    let error = store.rotate_now(&workload("bookstore")).await.unwrap_err();
    assert_eq!(error.reason(), "BadAnswer");
    assert!(error.to_string().contains("another version of the key"), "{error}");
    double.fail(Operation::Sign, &Fault::WrongSignature, 1);
    let error = store.rotate_now(&workload("bookstore")).await.unwrap_err();
    assert_eq!(error.reason(), "BadCertificate", "{error}");
    store.rotate_now(&workload("bookstore")).await.unwrap();
}

#[tokio::test]
async fn disabled_expired_and_early_keys_are_named() {
    let double = KeyVaultDouble::start().await.unwrap();
    let version = double.create_root("mesh", KeyKind::P256).unwrap();
    let vault = key_vault(config(&double, "mesh"));
    let store = store(config(&double, "mesh"));
    store.certificate(&workload("bookstore")).await.unwrap();
    vault.trust_bundle().await.unwrap();
    let hour = Duration::hours(1);
    for (problem, remedy) in [("disabled", "enable"), ("expired", "extend it"), ("not valid", "activation date")] {
        double
            .set_attributes("mesh", &version, |attributes| {
                attributes.enabled = problem != "disabled";
                attributes.expires = (problem == "expired").then(|| OffsetDateTime::now_utc() - hour);
                attributes.not_before = (problem == "not valid").then(|| OffsetDateTime::now_utc() + hour);
            })
            .unwrap();
        let errors = [
            vault.probe(OffsetDateTime::now_utc()).await.unwrap_err(),
            store.rotate_now(&workload("bookstore")).await.unwrap_err(),
            key_vault(config(&double, "mesh")).trust_bundle().await.unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert_eq!(error.advice(), Advice::WaitForOperator, "{text}");
            assert!(text.contains(remedy) && text.contains("keys/mesh"), "{problem}: {text}");
        }
    }
    assert!(store.cached(&workload("bookstore")).is_some(), "the leaf at hand stays in use");
}
