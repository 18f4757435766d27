//! Tokens: renewed in time, and what is said when they are no good.

use std::time::Duration;

use osm_issuer::vault::{VaultAuth, VaultConfig};
use osm_issuer::{Advice, Credential, Issuer};
use osm_open_bao::OpenBao;
use serde_json::json;
use time::OffsetDateTime;

use crate::open_bao::{config, store, token_secret, until, vault, workload};

/// Lets `time` pass for timers, and not for the server.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({"ttl": "300s"})).await;
    let vault = vault(config(&server, &token));
    vault.trust_bundle().await.unwrap();
    let renewals = || server.audited().iter().filter(|path| *path == "auth/token/renew-self").count();
    pass(Duration::from_secs(190)).await;
    vault.trust_bundle().await.unwrap();
    assert_eq!(renewals(), 0, "not before two thirds of its life");
    for (times, wait) in [(1, 20), (2, 201), (3, 201)] {
        // What is printed holds the times of the token. They change when the renewal is over, and then time may pass again.
        let before = format!("{vault:?}");
        pass(Duration::from_secs(wait)).await;
        until("the token is renewed", async || (format!("{vault:?}") != before).then_some(())).await;
        assert_eq!(renewals(), times);
    }
    vault.trust_bundle().await.unwrap();
    // Nothing goes on when nobody needs it any more.
    drop(vault);
    pass(Duration::from_secs(1000)).await;
    server.read("sys/mounts").await;
    assert_eq!(renewals(), 3);
}

#[tokio::test]
async fn a_token_that_does_not_end_is_left_alone() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let store = store(config(&server, server.root_token()));
    store.certificate(&workload("bookstore")).await.unwrap();
    pass(Duration::from_secs(100_000)).await;
    store.rotate_now(&workload("bookstore")).await.unwrap();
    let audited = server.audited();
    assert!(!audited.iter().any(|path| path == "auth/token/renew-self"), "{audited:?}");
}

#[tokio::test]
async fn a_token_that_is_no_good_is_blamed_on_its_secret() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let unknown = store(config(&server, "s.there-is-no-such-token"));
    let probe = vault(config(&server, "s.there-is-no-such-token")).probe(OffsetDateTime::now_utc()).await.unwrap_err();
    for error in [unknown.certificate(&workload("bookstore")).await.unwrap_err(), probe] {
        assert_eq!(error.advice(), Advice::WaitForOperator);
        assert_eq!(error.blame(), &token_secret());
        let text = error.to_string();
        assert!(text.contains("Secret osm-system/osm-vault-token") && text.contains("put a valid one there"), "{text}");
        assert!(
            !text.contains("there-is-no-such-token") && !format!("{error:?}").contains("there-is-no-such"),
            "{text}"
        );
    }

    let weak = server.token_in(None, json!({"policies": ["default"]})).await;
    let error = store(config(&server, &weak)).certificate(&workload("bookstore")).await.unwrap_err();
    assert_eq!(error.blame(), &token_secret());
    assert!(error.to_string().contains("path \"pki/roles/osm\" { capabilities = [\"read\"] }"), "{error}");

    // Revoked while it is in use.
    let token = server.token_in(None, json!({})).await;
    let revoked = store(config(&server, &token));
    revoked.certificate(&workload("bookstore")).await.unwrap();
    server.write("auth/token/revoke", json!({"token": token})).await;
    let error = revoked.rotate_now(&workload("bookstore")).await.unwrap_err();
    assert_eq!(error.blame(), &token_secret());
    assert!(error.to_string().contains("path \"pki/sign/osm\" { capabilities = [\"update\"] }"), "{error}");
    let error = revoked.rotate_now(&workload("bookstore")).await.unwrap_err();
    assert!(error.to_string().contains("was revoked"), "the next attempt asks what is wrong with it: {error}");
    assert!(revoked.cached(&workload("bookstore")).is_some(), "the leaf at hand stays in use");
}

#[tokio::test]
async fn configurations_that_cannot_be_sent_are_refused() {
    let server = OpenBao::start().await;
    let good = || config(&server, "token");
    let token = |text: &str| VaultAuth::Token { token: Credential::new(text.to_owned()), origin: token_secret() };
    let cases: [(VaultConfig, &str); 7] = [
        (VaultConfig { auth: token(" \n"), ..good() }, "the token is empty"),
        (VaultConfig { auth: token("two\nlines"), ..good() }, "characters that no token has"),
        (VaultConfig { host: "https://vault".to_owned(), ..good() }, "host \"https://vault\""),
        (VaultConfig { role: "../sys".to_owned(), ..good() }, "role \"../sys\""),
        (VaultConfig { mount: "pki/../sys".to_owned(), ..good() }, "mount \"..\""),
        (VaultConfig { namespace: Some("a\r\nb".to_owned()), ..good() }, "namespace"),
        (
            VaultConfig {
                protocol: osm_issuer::vault::VaultProtocol::Https { ca_pem: Some("no PEM".to_owned()) },
                ..good()
            },
            "CA certificate",
        ),
    ];
    for (config, words) in cases {
        let error = osm_issuer::vault::Vault::new(config).unwrap_err();
        assert_eq!(error.reason(), "IssuerMisconfigured");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_token_never_appears_in_print() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let config = config(&server, &token);
    let vault = vault(config.clone());
    vault.probe(OffsetDateTime::now_utc()).await.unwrap();
    vault.trust_bundle().await.unwrap();
    let issuer = crate::open_bao::issuer(config.clone());
    let printed = format!("{config:?} {config:#?} {vault:?} {vault:#?} {issuer:?}");
    assert!(printed.contains("[redacted]"));
    assert!(!printed.contains(&token), "{printed}");
}
