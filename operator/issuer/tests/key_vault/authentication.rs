//! Proving who we are: client secrets, workload identities, and what is said when that fails.

use osm_issuer::key_vault::{KeyVaultAuth, KeyVaultConfig};
use osm_issuer::{Advice, Issuer};
use osm_key_vault_double::{CLIENT, CLIENT_SECRET, Fault, KeyKind, KeyVaultDouble, Operation, TENANT};
use time::OffsetDateTime;

use crate::support::{client_secret, config, key_vault, secret_origin, store, workload};

#[tokio::test]
async fn a_wrong_client_secret_is_blamed_on_its_secret() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    let wrong = KeyVaultConfig { auth: client_secret("wrong-and-secret"), ..config(&double, "mesh") };
    let error = key_vault(wrong).trust_bundle().await.unwrap_err();
    assert_eq!(error.advice(), Advice::WaitForOperator);
    assert_eq!(error.blame(), &secret_origin());
    let text = format!("{error} {error:?}");
    assert!(text.contains("AADSTS7000215") && text.contains("check tenant, client and secret"), "{text}");
    assert!(!text.contains("wrong-and-secret"), "{text}");
}

#[tokio::test]
async fn a_workload_identity_shows_the_token_of_the_service_account() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    double.expect_federated_token("the.projected.token");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let auth = || KeyVaultAuth::WorkloadIdentity {
        tenant_id: Some(TENANT.to_owned()),
        client_id: Some(CLIENT.to_owned()),
        token_file: Some(file.clone()),
    };
    let with = || KeyVaultConfig { auth: auth(), ..config(&double, "mesh") };
    let error = osm_issuer::key_vault::KeyVault::new(with()).unwrap_err();
    assert!(error.to_string().contains(file.to_str().unwrap()), "the file is missing: {error}");

    std::fs::write(&file, "the.projected.token").unwrap();
    store(with()).certificate(&workload("bookstore")).await.unwrap();

    std::fs::write(&file, "another.projected.token").unwrap();
    let error = key_vault(with()).trust_bundle().await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("AADSTS700213") && text.contains("federated credential for our ServiceAccount"), "{text}");
    assert!(!text.contains("another.projected.token"), "{text}");
}

#[tokio::test]
async fn a_token_endpoint_that_is_not_available_is_asked_again() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    let vault = key_vault(config(&double, "mesh"));
    for (fault, reason) in [
        (Fault::Throttled(Some(12)), "IssuerUnreachable"),
        // The SDK reads the body whatever the status, and keeps no status of a body that is not JSON.
        (Fault::Status(503), "BadAnswer"),
        (Fault::Garbage, "BadAnswer"),
    ] {
        double.fail(Operation::Token, &fault, 1);
        let error = vault.trust_bundle().await.unwrap_err();
        assert_eq!(error.reason(), reason, "{fault:?}: {error}");
        assert!(matches!(error.advice(), Advice::RetryAfter(_)));
    }
    vault.trust_bundle().await.unwrap();
}

#[tokio::test]
async fn secrets_and_tokens_never_appear_in_print() {
    let double = KeyVaultDouble::start().await.unwrap();
    double.create_root("mesh", KeyKind::P256).unwrap();
    let config = config(&double, "mesh");
    let vault = key_vault(config.clone());
    vault.probe(OffsetDateTime::now_utc()).await.unwrap();
    let printed = format!("{config:?} {config:#?} {vault:?} {vault:#?}");
    assert!(printed.contains("[redacted]"));
    assert!(!printed.contains(CLIENT_SECRET) && !printed.contains("of-the-double"), "{printed}");
}
