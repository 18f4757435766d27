//! Logging in with the ServiceAccount, by a real API server that reviews its token.

use std::time::Duration;

use osm_cluster::{ApiServer, KubernetesVersion};
use osm_issuer::vault::{VaultAuth, VaultConfig};
use osm_issuer::{Advice, CertificateStore, Clock, Issuer, Issuers, StoreConfig};
use osm_open_bao::OpenBao;
use serde_json::json;
use time::OffsetDateTime;

use crate::open_bao::{config, issuer, store, until, vault, workload};
use crate::tokens::pass;

const REVIEWER: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: osm-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: osm-controller, namespace: osm-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: stranger, namespace: osm-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: vault, namespace: osm-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: vault-reviews-tokens}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:auth-delegator}
subjects: [{kind: ServiceAccount, name: vault, namespace: osm-system}]
"#;

#[tokio::test]
async fn a_service_account_logs_in_and_again_before_its_token_ends() {
    let api_server = ApiServer::start(KubernetesVersion::NEWEST).await.unwrap();
    api_server.kubectl().apply(REVIEWER).await.unwrap();
    let token_of = async |name: &str| {
        let arguments = ["create", "token", "--namespace=osm-system", "--audience=vault", "--duration=1h", name];
        let arguments =
            if name == "vault" { &[arguments[0], arguments[1], arguments[2], name][..] } else { &arguments };
        api_server.kubectl().output(arguments).await.unwrap().trim().to_owned()
    };
    let server = OpenBao::start().await;
    server.set_up().await;
    server.write("sys/auth/kubernetes", json!({"type": "kubernetes"})).await;
    let method = json!({
        "kubernetes_host": api_server.url(),
        "kubernetes_ca_cert": api_server.ca_pem(),
        "token_reviewer_jwt": token_of("vault").await,
        "disable_local_ca_jwt": true,
    });
    server.write("auth/kubernetes/config", method).await;
    let role = json!({
        "bound_service_account_names": ["osm-controller"],
        "bound_service_account_namespaces": ["osm-system"],
        "audience": "vault",
        "token_policies": ["osm"],
        "token_ttl": "300s",
    });
    server.write("auth/kubernetes/role/osm", role).await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, token_of("osm-controller").await).unwrap();
    let auth = VaultAuth::Kubernetes {
        mount: "kubernetes".to_owned(),
        role: "osm".to_owned(),
        service_account_token: file.clone(),
    };
    let config = VaultConfig { auth: auth.clone(), ..config(&server, "unused") };
    let issuer = issuer(config.clone());
    let issuers = Issuers { signing: issuer.clone(), validating: Vec::new() };
    let issuing = CertificateStore::new(issuers, StoreConfig::default(), Clock::system());
    let identity = workload("bookstore");
    issuing.certificate(&identity).await.unwrap();
    vault(config.clone()).probe(OffsetDateTime::now_utc()).await.unwrap();
    let logins = || server.audited().iter().filter(|path| *path == "auth/kubernetes/login").count();
    let before = logins();
    // What is printed holds the times of the token. They change when the login is over, and then time may pass again.
    let printed = format!("{issuer:?}");
    pass(Duration::from_secs(201)).await;
    until("it logs in again", async || (format!("{issuer:?}") != printed).then_some(())).await;
    assert_eq!(logins(), before + 1);

    // Its tokens are revoked: one more login, and the request is sent again.
    pass(Duration::from_secs(10)).await;
    server.write("sys/leases/revoke-prefix/auth/kubernetes/login", json!({})).await;
    issuing.rotate_now(&identity).await.unwrap();

    // Another ServiceAccount is not let in, nor is one without a token.
    std::fs::write(&file, token_of("stranger").await).unwrap();
    let error = store(config.clone()).certificate(&identity).await.unwrap_err();
    assert_eq!(error.advice(), Advice::WaitForOperator);
    assert!(error.to_string().contains("auth/kubernetes/role/osm exists and names our ServiceAccount"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = store(config).certificate(&identity).await.unwrap_err();
    assert!(error.to_string().contains("mount a projected token there"), "{error}");
}
