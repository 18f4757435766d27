//! A vault that throttles, refuses, is away or answers nonsense.

use std::time::Duration;

use osm_issuer::key_vault::{KeyVaultAuthority, KeyVaultConfig, KeyVaultNetwork};
use osm_issuer::{Advice, IssueError, Issuer};
use osm_key_vault_double::{Fault, KeyKind, KeyVaultDouble, Operation};

use crate::support::{config, key_vault, store, workload};

fn retried(error: &IssueError) -> Duration {
    match error.advice() {
        Advice::RetryAfter(wait) => wait,
        other => panic!("{error}: {other:?}"),
    }
}

#[tokio::test]
async fn throttling_is_obeyed_and_not_multiplied() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    let store = store(config(&double, "mesh"));
    store.trust_bundle().await.unwrap();
    for (seconds, wait) in [(Some(37), 37), (None, 10), (Some(1_000_000), 3600)] {
        let before = double.count(Operation::Sign);
        double.fail(Operation::Sign, &Fault::Throttled(seconds), 1);
        let error = store.rotate_now(&workload("bookstore")).await.unwrap_err();
        assert!(error.to_string().contains("limits our requests (HTTP 429, Throttled"), "{error}");
        assert_eq!(retried(&error), Duration::from_secs(wait));
        assert_eq!(double.count(Operation::Sign), before + 1, "the store decides when to ask again");
    }
    store.rotate_now(&workload("bookstore")).await.unwrap();
}

#[tokio::test]
async fn failures_of_signing_say_how_to_behave() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    let store = store(config(&double, "mesh"));
    let leaf = store.certificate(&workload("bookstore")).await.unwrap();
    let cases = [
        (Fault::Forbidden, "IssuerMisconfigured", "give the identity keys/sign"),
        (Fault::Status(500), "IssuerUnreachable", "is not available (HTTP 500"),
        (Fault::Status(503), "IssuerUnreachable", "is not available (HTTP 503"),
        (Fault::Garbage, "BadAnswer", "not JSON"),
        (Fault::Cut, "IssuerUnreachable", "reach issuer"),
    ];
    for (fault, reason, words) in cases {
        let before = double.count(Operation::Sign);
        double.fail(Operation::Sign, &fault, 1);
        let error = store.rotate_now(&workload("bookstore")).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{fault:?}: {error}");
        assert!(error.to_string().contains(words), "{fault:?}: {error}");
        assert_eq!(double.count(Operation::Sign), before + 1);
        assert_eq!(store.cached(&workload("bookstore")).unwrap().serial(), leaf.serial());
    }
    store.rotate_now(&workload("bookstore")).await.unwrap();
}

#[tokio::test]
async fn permissions_that_are_missing_are_named() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("root", KeyKind::P256).unwrap();
    double.create_intermediate("mesh", KeyKind::P256, "root").unwrap();
    let cases = [
        (Operation::GetKey, "give the identity keys/get"),
        (Operation::GetCertificate, "give the identity certificates/get"),
        (Operation::GetSecret, "give the identity secrets/get"),
    ];
    for (operation, remedy) in cases {
        double.fail(operation, &Fault::Forbidden, 1);
        let error = key_vault(config(&double, "mesh")).trust_bundle().await.unwrap_err();
        assert_eq!(error.advice(), Advice::WaitForOperator);
        assert!(error.to_string().contains(remedy), "{error}");
        assert!(error.to_string().contains(&double.vault_url()), "{error}");
    }
}

#[tokio::test]
async fn objects_that_are_missing_are_named() {
    let double = KeyVaultDouble::start().await.unwrap();
    let version = double.create_root("mesh", KeyKind::P256).unwrap();
    let chain = double.certificate_pem("mesh", &version).unwrap();
    let pem = KeyVaultAuthority::Pem { chain };
    let good = || config(&double, "mesh");
    let cases = [
        (
            KeyVaultConfig { key_name: "nope".to_owned(), authority: pem.clone(), ..good() },
            "reading keys/nope (HTTP 404",
        ),
        (
            KeyVaultConfig { key_version: Some("0".repeat(32)), authority: pem, ..good() },
            "correct keyName and keyVersion",
        ),
        (
            KeyVaultConfig { authority: KeyVaultAuthority::CertificateObject { name: "nope".to_owned() }, ..good() },
            "reading certificates/nope (HTTP 404",
        ),
        (
            KeyVaultConfig { authority: KeyVaultAuthority::Pem { chain: String::new() }, ..good() },
            "no certificate found",
        ),
    ];
    for (config, words) in cases {
        let error = key_vault(config).trust_bundle().await.unwrap_err();
        assert_eq!(error.advice(), Advice::WaitForOperator);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_vault_that_hangs_or_is_away_is_unreachable() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    let hasty = |mut config: KeyVaultConfig| {
        config.network.timeout = Duration::from_secs(2);
        config
    };
    double.fail(Operation::Challenge, &Fault::Hang, 1);
    let error = key_vault(hasty(config(&double, "mesh"))).trust_bundle().await.unwrap_err();
    assert_eq!(error.reason(), "IssuerUnreachable", "{error}");
    // Nobody listens here, and here nobody is trusted.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut away = config(&double, "mesh");
    away.vault_url = format!("https://mesh.vault.double.test:{}", address.port());
    for (_, to) in &mut away.network.addresses {
        to.set_port(address.port());
    }
    let mut untrusted = config(&double, "mesh");
    untrusted.network.ca_pem = None;
    for config in [away, untrusted] {
        let error = key_vault(config).trust_bundle().await.unwrap_err();
        assert_eq!(error.reason(), "IssuerUnreachable", "{error}");
    }
}

#[tokio::test]
async fn configurations_that_make_no_sense_are_refused() {
    let double = KeyVaultDouble::start().await.unwrap();
    let good = || config(&double, "mesh");
    let url = |url: &str| KeyVaultConfig { vault_url: url.to_owned(), ..good() };
    let name = |name: &str| KeyVaultAuthority::CertificateObject { name: name.to_owned() };
    let network = |ca_pem: &str| KeyVaultNetwork { ca_pem: Some(ca_pem.to_owned()), ..KeyVaultNetwork::default() };
    let cases = [
        (url("http://mesh.vault.azure.net"), "vaultURL: it must be https://"),
        (url("https://mesh.vault.azure.net/keys/x"), "vaultURL"),
        (url("https://user:password@mesh.vault.azure.net"), "vaultURL"),
        (url("mesh"), "vaultURL"),
        (KeyVaultConfig { key_name: "a/b".to_owned(), ..good() }, "keyName"),
        (KeyVaultConfig { key_version: Some(String::new()), ..good() }, "keyVersion"),
        (KeyVaultConfig { authority: name("../keys"), ..good() }, "certificateName"),
        (KeyVaultConfig { network: network("no PEM"), ..good() }, "CA certificate"),
    ];
    for (config, words) in cases {
        let error = osm_issuer::key_vault::KeyVault::new(config).unwrap_err();
        assert_eq!(error.reason(), "IssuerMisconfigured");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains("password"), "{error}");
    }
}
