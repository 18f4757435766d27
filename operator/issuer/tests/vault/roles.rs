//! A role that cannot sign is recognised before anything is asked of it.

use osm_issuer::vault::VaultConfig;
use osm_issuer::{Advice, Issuer};
use osm_open_bao::{OpenBao, role};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::open_bao::{config, store, vault, workload};

async fn probe(config: VaultConfig) -> Result<osm_issuer::IssuerHealth, osm_issuer::IssueError> {
    vault(config).probe(OffsetDateTime::now_utc()).await
}

#[tokio::test]
async fn a_role_as_documented_is_healthy() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let health = probe(config(&server, &token)).await.unwrap();
    assert_eq!(health.subject, "CN=intermediate of the mesh");
    let left = health.remaining(OffsetDateTime::now_utc()).unwrap();
    assert!(left.as_secs() > 8700 * 3600, "{left:?}");
    assert_eq!(health.remarks, Vec::<String>::new());

    let mut keeps = role();
    keeps["no_store"] = json!(false);
    keeps["use_csr_sans"] = json!(true);
    server.write("pki/roles/osm", keeps).await;
    let once = server.token_in(None, json!({"renewable": false})).await;
    let health = probe(config(&server, &once)).await.unwrap();
    let [token, copy, names] = health.remarks.as_slice() else { panic!("three remarks: {:?}", health.remarks) };
    assert!(token.contains("Secret osm-system/osm-vault-token") && token.contains("cannot be renewed"), "{token}");
    assert!(copy.contains("no_store"), "{copy}");
    assert!(names.contains("set use_csr_sans=false"), "{names}");
    // It works all the same: the store's request has the names, and they are verified in the answer.
    store(config(&server, &once)).certificate(&workload("bookstore")).await.unwrap();
}

#[tokio::test]
async fn each_way_in_which_a_role_does_not_fit_is_named_with_the_remedy() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let cases: [(&str, Value, &str); 7] = [
        ("require_cn", json!(true), "set require_cn=false"),
        ("key_type", json!("rsa"), "set key_type=any"),
        ("allowed_domains", json!(["other.example"]), "allowed_domains=mesh.example,svc"),
        ("allowed_uri_sans", json!([]), "set allowed_uri_sans=spiffe://mesh.example/*"),
        ("max_ttl", json!("5m"), "raise max_ttl"),
        ("client_flag", json!(false), "set client_flag=true"),
        ("key_usage", json!(["KeyAgreement"]), "key_usage=DigitalSignature"),
    ];
    for (field, value, remedy) in cases {
        let mut changed = role();
        changed[field] = value;
        server.write("pki/roles/osm", changed).await;
        let error = probe(config(&server, &token)).await.unwrap_err();
        assert_eq!(error.reason(), "IssuerMisconfigured");
        assert_eq!(error.advice(), Advice::WaitForOperator);
        let text = error.to_string();
        assert!(text.contains("role pki/roles/osm: ") && text.contains(remedy), "{text}");
    }
    server.write("pki/roles/osm", role()).await;
    probe(config(&server, &token)).await.unwrap();
}

/// The server decides, whether or not anybody probed; what it does then is safe and says what to do.
#[tokio::test]
async fn a_role_that_does_not_fit_gives_no_leaf() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let token = server.token_in(None, json!({})).await;
    let cases: [(&str, Value, &str, &str); 4] = [
        // The engine signs, and the store notices.
        ("client_flag", json!(false), "BadCertificate", "clientAuth"),
        ("require_cn", json!(true), "IssuerMisconfigured", "correct pki/roles/osm"),
        ("key_type", json!("rsa"), "IssuerMisconfigured", "correct pki/roles/osm"),
        ("allowed_uri_sans", json!(["spiffe://other.example/*"]), "IssuerMisconfigured", "not valid for this role"),
    ];
    for (field, value, reason, words) in cases {
        let mut changed = role();
        changed[field] = value;
        server.write("pki/roles/osm", changed).await;
        let error = store(config(&server, &token)).certificate(&workload("bookstore")).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{field}: {error}");
        assert!(error.to_string().contains(words), "{field}: {error}");
    }
}

#[tokio::test]
async fn a_role_mount_or_issuer_that_is_not_there_is_named() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let root = server.root_token();
    let check = async |config: VaultConfig, words: &[&str]| {
        for error in [
            probe(config.clone()).await.unwrap_err(),
            store(config.clone()).certificate(&workload("bookstore")).await.unwrap_err(),
        ] {
            assert_eq!(error.advice(), Advice::WaitForOperator, "{error}");
            assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
        }
    };
    let config = || config(&server, root);
    check(VaultConfig { role: "nope".to_owned(), ..config() }, &["pki/roles/nope", "create the role"]).await;
    check(VaultConfig { mount: "nope".to_owned(), ..config() }, &["enable the PKI engine at nope"]).await;
    server.write("sys/mounts/empty", json!({"type": "pki"})).await;
    server.write("empty/roles/osm", role()).await;
    check(VaultConfig { mount: "empty".to_owned(), ..config() }, &["issuer of empty/roles/osm"]).await;
    // Signing by a role that went away meanwhile.
    let issuing = store(config());
    issuing.certificate(&workload("bookstore")).await.unwrap();
    server.write("pki/roles/other", role()).await;
    let gone = VaultConfig { role: "other".to_owned(), ..config() };
    let gone = store(gone);
    gone.trust_bundle().await.unwrap();
    server.delete("pki/roles/other").await;
    let error = gone.certificate(&workload("bookstore")).await.unwrap_err();
    assert!(error.to_string().contains("unknown role: other"), "{error}");
    assert_eq!(error.advice(), Advice::WaitForOperator);
}

#[tokio::test]
async fn an_intermediate_without_its_root_and_a_weak_root_are_refused() {
    let server = OpenBao::start().await;
    server.set_up().await;
    let root = server.root_token();
    server.write("sys/mounts/orphan", json!({"type": "pki"})).await;
    let request = json!({"common_name": "orphan", "key_type": "ec"});
    let request = server.write("orphan/intermediate/generate/internal", request).await;
    let signed = json!({"csr": request["data"]["csr"], "ttl": "24h"});
    let signed = server.write("root-pki/root/sign-intermediate", signed).await;
    server.write("orphan/intermediate/set-signed", json!({"certificate": signed["data"]["certificate"]})).await;
    server.write("orphan/roles/osm", role()).await;
    let error = probe(VaultConfig { mount: "orphan".to_owned(), ..config(&server, root) }).await.unwrap_err();
    assert_eq!(error.reason(), "UnusableAuthority");
    assert!(error.to_string().contains("append the certificate of its issuer (CN=root of the mesh)"), "{error}");
}
