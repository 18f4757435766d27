//! A server that is away, sealed, slow, throttles, or answers nonsense: leaves at hand stay, and everything heals.

use std::time::Duration;

use osm_issuer::vault::{VaultConfig, VaultProtocol};
use osm_issuer::{Advice, Issuer};
use osm_open_bao::OpenBao;
use serde_json::json;

use crate::open_bao::{config, store, until, vault, workload};
use crate::proxy::{Answers, Canned, Proxy, http};

fn retried(error: &osm_issuer::IssueError) -> Duration {
    match error.advice() {
        Advice::RetryAfter(wait) => wait,
        other => panic!("{error}: {other:?}"),
    }
}

#[tokio::test]
async fn sealing_delays_renewals_and_nothing_else() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let store = store(config(&server, &token));
    let identity = workload("bookstore");
    let leaf = store.certificate(&identity).await.unwrap();
    server.write("sys/seal", json!({})).await;
    let error = store.rotate_now(&identity).await.unwrap_err();
    assert_eq!(error.reason(), "IssuerUnreachable", "{error}");
    assert!(error.to_string().contains("it is sealed (HTTP 503"), "{error}");
    assert!(retried(&error) <= Duration::from_secs(30));
    assert_eq!(store.certificate(&identity).await.unwrap().serial(), leaf.serial());
    server.unseal().await;
    let healed = until("it signs again", async || store.rotate_now(&identity).await.ok()).await;
    assert_ne!(healed.serial(), leaf.serial());
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable() {
    let mut server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let store = store(config(&server, &token));
    let identity = workload("bookstore");
    let leaf = store.certificate(&identity).await.unwrap();
    server.kill();
    let error = store.rotate_now(&identity).await.unwrap_err();
    assert_eq!(error.reason(), "IssuerUnreachable", "{error}");
    assert!(error.to_string().contains(&format!("https://127.0.0.1:{}", server.address().port())), "{error}");
    assert!(retried(&error) <= Duration::from_secs(30));
    assert_eq!(store.certificate(&identity).await.unwrap().serial(), leaf.serial());
    let status = store.status();
    assert_eq!(status[0].failure.as_ref().unwrap().error, error);
}

#[tokio::test]
async fn a_server_that_hangs_or_cuts_its_answers_is_given_up_and_heals() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let proxy = Proxy::start(server.address().port()).await;
    let config = VaultConfig { port: proxy.port, ..config(&server, &token) };
    let patient = store(config.clone());
    let hasty = store(VaultConfig { timeout: Duration::from_secs(2), ..config });
    let identity = workload("bookstore");
    let leaf = patient.certificate(&identity).await.unwrap();
    // However slow the machine is, in the end this one has a leaf, too.
    until("the other has a leaf", async || hasty.rotate_now(&identity).await.ok()).await;

    proxy.set(Answers::Withheld);
    let error = hasty.rotate_now(&identity).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 2s"), "{error}");
    assert_eq!(error.reason(), "IssuerUnreachable");

    // In the middle of the handshake, of the headers and of the body.
    for bytes in [1, 500, 1200, 1500, 2000, 3000] {
        proxy.set(Answers::CutAfter(bytes));
        if let Err(error) = patient.rotate_now(&identity).await {
            assert_eq!(error.reason(), "IssuerUnreachable", "cut after {bytes}: {error}");
        }
        assert!(patient.cached(&identity).is_some());
    }
    proxy.set(Answers::CutAfter(100));
    patient.rotate_now(&identity).await.unwrap_err();
    proxy.set(Answers::Pass);
    let healed = until("it signs again", async || patient.rotate_now(&identity).await.ok()).await;
    assert_ne!(healed.serial(), leaf.serial());
}

#[tokio::test]
async fn a_limit_on_requests_is_obeyed() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let store = store(config(&server, &token));
    store.trust_bundle().await.unwrap();
    server.write("sys/quotas/config", json!({"enable_rate_limit_response_headers": true})).await;
    let quota = json!({"path": "pki/sign/osm", "rate": 1, "interval": "1000s"});
    server.write("sys/quotas/rate-limit/signing", quota).await;
    store.certificate(&workload("first")).await.unwrap();
    let error = store.certificate(&workload("second")).await.unwrap_err();
    assert!(error.to_string().contains("it limits our requests (HTTP 429"), "{error}");
    let wait = retried(&error);
    assert!((Duration::from_secs(500)..=Duration::from_secs(1000)).contains(&wait), "as the server says: {wait:?}");
}

#[tokio::test]
async fn tls_is_verified() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let other = OpenBao::start().await;
    let token = server.token_in(None, json!({})).await;
    // Another authority, and those of the system.
    for ca_pem in [Some(other.ca_pem().to_owned()), None] {
        let config = VaultConfig { protocol: VaultProtocol::Https { ca_pem }, ..config(&server, &token) };
        let error = store(config).certificate(&workload("bookstore")).await.unwrap_err();
        assert_eq!(error.reason(), "IssuerUnreachable");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    // Spoken to without TLS, it says so itself.
    let plain = VaultConfig { protocol: VaultProtocol::PlainHttp, ..config(&server, &token) };
    let error = store(plain).certificate(&workload("bookstore")).await.unwrap_err();
    assert_eq!(error.advice(), Advice::WaitForOperator, "{error}");
    assert!(server.audited().iter().all(|path| path != "pki/sign/osm"));
}

/// A server of ours stands in here: the real one does not answer like this.
#[tokio::test]
async fn answers_that_are_not_answers_are_named_and_not_quoted() {
    let long = format!(r#"{{"data": "{}"}}"#, "x".repeat(2 << 20));
    let cases = [
        (http("200 OK", "", "<html>hvs.secret</html>"), "BadAnswer", "it is not JSON"),
        (http("200 OK", "", r#"{"data": "hvs.secret"}"#), "BadAnswer", "a field of it is missing"),
        (http("200 OK", "", r#"{"data": {"ttl": 3"#), "BadAnswer", "it is cut short"),
        (http("200 OK", "", &long), "BadAnswer", "longer than"),
        (http("200 OK", "", ""), "BadAnswer", "cut short"),
        (http("502 Bad Gateway", "", "<html>"), "IssuerUnreachable", "not Vault's"),
        (http("501 Not Implemented", "", r#"{"errors":["not initialized"]}"#), "IssuerUnreachable", "unseal it"),
        (http("473 Standby", "", ""), "IssuerUnreachable", "HTTP 473"),
        (http("429 Slow", "retry-after: 17\r\n", r#"{"errors":[]}"#), "IssuerUnreachable", "limits our requests"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(), "IssuerUnreachable", "reach issuer"),
        ("nonsense\r\n\r\n".to_owned(), "IssuerUnreachable", "reach issuer"),
    ];
    for (answer, reason, words) in cases {
        let server = Canned::start(answer).await;
        let error = vault(plain(server.port)).trust_bundle().await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains("hvs.secret"), "{error}");
        assert_eq!(server.requests(), 1, "nothing is tried again but by the store");
        if words == "limits our requests" {
            assert_eq!(retried(&error), Duration::from_secs(17));
        }
    }
}

fn plain(port: u16) -> VaultConfig {
    VaultConfig {
        host: "127.0.0.1".to_owned(),
        port,
        protocol: VaultProtocol::PlainHttp,
        namespace: None,
        mount: "pki".to_owned(),
        role: "osm".to_owned(),
        auth: osm_issuer::vault::VaultAuth::Token {
            token: osm_issuer::Credential::new("hvs.token".to_owned()),
            origin: crate::open_bao::token_secret(),
        },
        timeout: crate::open_bao::LIMIT,
        control_plane: osm_issuer::ControlPlaneIdentity::new(
            crate::open_bao::trust_domain(),
            "osm-system",
            "osm-controller",
        )
        .unwrap(),
        leaf_key: osm_issuer::LeafKeyAlgorithm::EcdsaP256,
    }
}
