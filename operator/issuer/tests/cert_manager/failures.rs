//! Everything that can go wrong, in cert-manager's own words.

use std::time::Duration;

use osm_issuer::cert_manager::{CertManagerConfig, IssuerKind};
use osm_issuer::{Advice, IssueError, Issuer};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::cluster::{Cluster, cert_manager, condition, store, until, workload};

/// Nobody answers; how long that is waited for.
const SHORT: Duration = Duration::from_secs(5);

async fn probe(config: CertManagerConfig) -> IssueError {
    cert_manager(config).probe(OffsetDateTime::now_utc()).await.unwrap_err()
}

/// Asks until the error has `words`: on a busy machine, the time may be over before they are said.
async fn until_said(config: CertManagerConfig, words: &str) -> IssueError {
    let issuer = cert_manager(config);
    until(words, async || {
        let error = issuer.trust_bundle().await.unwrap_err();
        error.to_string().contains(words).then_some(error)
    })
    .await
}

#[track_caller]
fn check(error: &IssueError, reason: &str, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.reason(), reason, "{text}");
    for part in words {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_missing_or_not_ready_is_named_with_its_words() {
    let mut cluster = Cluster::start().await;
    let missing = cluster.config(IssuerKind::Issuer, "osm-ca");
    let config = cluster.config(IssuerKind::Issuer, "no-secret");
    let of_cluster = |name: &str| cluster.config(IssuerKind::ClusterIssuer, name);
    let (cluster_missing, cluster_config) = (of_cluster("osm-ca"), of_cluster("no-secret"));
    for (missing, named) in [
        (&missing, "Issuer.cert-manager.io osm-system/osm-ca"),
        (&cluster_missing, "ClusterIssuer.cert-manager.io osm-ca"),
    ] {
        check(&probe(missing.clone()).await, "IssuerMisconfigured", &[named, "not found", "create it"]);
    }
    let not_ready = |kind: &str, namespace: &str| {
        format!(
            "{{apiVersion: cert-manager.io/v1, kind: {kind}, metadata: {{name: no-secret{namespace}}}, \
             spec: {{ca: {{secretName: nowhere}}}}}}\n---\n"
        )
    };
    let both = not_ready("Issuer", ", namespace: osm-system") + &not_ready("ClusterIssuer", "");
    cluster.server.kubectl().apply(&both).await.unwrap();
    for config in [&config, &cluster_config] {
        check(&probe(config.clone()).await, "IssuerMisconfigured", &["no condition Ready"]);
    }
    cluster.start_cert_manager().await;
    for (config, object, named) in [
        (&config, "issuer/no-secret", "Issuer.cert-manager.io osm-system/no-secret"),
        (&cluster_config, "clusterissuer/no-secret", "ClusterIssuer.cert-manager.io no-secret"),
    ] {
        let wait = ["wait", "--namespace=osm-system", "--for=condition=Ready=False", "--timeout=120s", object];
        cluster.server.kubectl().output(&wait).await.unwrap();
        let error = probe(config.clone()).await;
        check(&error, "IssuerMisconfigured", &[named, "the issuer is not ready", "nowhere"]);
        assert_eq!(error.advice(), Advice::WaitForOperator);
    }
    // Without a look at the issuer before, what cert-manager says about the request is told.
    for (mut config, words) in [(missing, "not found"), (config, "does not have a Ready status")] {
        config.timeout = SHORT;
        let error = until_said(config, words).await;
        check(&error, "IssuerUnreachable", &["was not answered within 5 seconds", "Pending"]);
    }
    cluster.no_request_is_left().await;
}

#[tokio::test]
async fn an_outage_of_cert_manager_delays_leaves_and_loses_none() {
    let mut cluster = Cluster::with_issuers().await;
    let mut config = cluster.config(IssuerKind::Issuer, "osm-ca");
    config.timeout = SHORT;
    let store = store(CertManagerConfig { timeout: crate::cluster::LIMIT, ..config.clone() });
    let before = store.certificate(&workload("bookstore")).await.unwrap();
    cluster.stop_cert_manager();
    let error = until_said(config.clone(), "neither approved nor denied").await;
    check(&error, "IssuerUnreachable", &["Issuer.cert-manager.io osm-system/osm-ca"]);
    assert!(matches!(error.advice(), Advice::RetryAfter(_)));
    // Taken away although nobody answered.
    cluster.no_request_is_left().await;
    assert_eq!(store.certificate(&workload("bookstore")).await.unwrap().serial(), before.serial());
    cluster.start_cert_manager().await;
    until("a leaf", async || store.certificate(&workload("bookbuyer")).await.ok()).await;
}

#[tokio::test]
async fn an_outage_of_the_api_server_is_a_reason_to_come_back() {
    let cluster = Cluster::start().await;
    cluster.server.stop_api_server().unwrap();
    let error = probe(cluster.config(IssuerKind::Issuer, "osm-ca")).await;
    check(&error, "IssuerUnreachable", &["Issuer.cert-manager.io osm-system/osm-ca", "the API server"]);
}

/// Has the test answer a request for an external issuer, and gives the error.
async fn answered(cluster: &Cluster, status: Value) -> IssueError {
    let issuer = cert_manager(cluster.external());
    let asked = issuer.trust_bundle();
    let answer = async {
        let request = cluster.request().await;
        cluster.answer(&request, status).await;
    };
    let (error, ()) = futures::join!(asked, answer);
    cluster.no_request_is_left().await;
    error.unwrap_err()
}

fn issued(certificate: &str, ca: Option<&str>) -> Value {
    json!({"certificate": certificate, "ca": ca, "conditions": [condition("Ready", "True", "Issued", "")]})
}

#[tokio::test]
async fn refusals_are_told_in_the_words_of_whoever_refuses() {
    let cluster = Cluster::start().await;
    let denied = json!({"conditions": [condition("Denied", "True", "policy.example", "no names of mesh.example")]});
    let error = answered(&cluster, denied).await;
    check(
        &error,
        "IssuerMisconfigured",
        &["was denied: policy.example: no names of mesh.example", "approver's policy"],
    );
    assert_eq!(error.advice(), Advice::WaitForOperator, "a policy can be mended");
    let failed = json!({"conditions": [condition("Ready", "False", "Failed", "the signer is out of paper")]});
    check(&answered(&cluster, failed).await, "IssuerMisconfigured", &["failed: Failed: the signer is out of paper"]);
    let invalid = json!({"conditions": [condition("InvalidRequest", "True", "Usages", "they differ")]});
    check(&answered(&cluster, invalid).await, "RequestRefused", &["is invalid: Usages: they differ"]);
}

#[tokio::test]
async fn garbage_is_no_certificate() {
    let cluster = Cluster::start().await;
    // Base64 of "garbage".
    let garbage = "Z2FyYmFnZQ==";
    let error = answered(&cluster, issued(garbage, Some(garbage))).await;
    check(
        &error,
        "BadAnswer",
        &["Issuer.issuers.example osm-system/external", "status.certificate: it has no certificate"],
    );
    check(
        &answered(&cluster, json!({"conditions": [condition("Ready", "True", "Issued", "")]})).await,
        "BadAnswer",
        &["status.certificate"],
    );
    // The right form, but nothing that was asked for, and no root.
    let other = other_certificate();
    check(&answered(&cluster, issued(&other, None)).await, "IssuerMisconfigured", &["status.ca is empty"]);
    check(&answered(&cluster, issued(&other, Some(&other))).await, "UnusableAuthority", &["external"]);
}

/// A certificate that signed itself and is no authority, as an answer has it.
fn other_certificate() -> String {
    use base64::Engine;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["other.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    base64::engine::general_purpose::STANDARD.encode(certificate.pem())
}

#[tokio::test]
async fn a_caller_who_does_not_wait_leaves_nothing_behind() {
    let cluster = Cluster::start().await;
    let issuer = cert_manager(cluster.external());
    {
        let asked = issuer.trust_bundle();
        futures::pin_mut!(asked);
        let made = cluster.request();
        futures::pin_mut!(made);
        match futures::future::select(asked, made).await {
            futures::future::Either::Left((answer, _)) => panic!("nobody answered: {answer:?}"),
            futures::future::Either::Right((request, _)) => {
                assert_eq!(request["spec"]["issuerRef"]["group"], "issuers.example");
                assert_eq!(request["metadata"]["labels"]["app.kubernetes.io/instance"], "osm");
            }
        }
    }
    cluster.no_request_is_left().await;
}

#[tokio::test]
async fn a_request_that_is_deleted_by_somebody_is_made_anew_later() {
    let cluster = Cluster::start().await;
    let issuer = cert_manager(cluster.external());
    let delete = async {
        let request = cluster.request().await;
        let name = request["metadata"]["name"].as_str().unwrap();
        let delete = ["delete", "certificaterequest", name, "--namespace", "osm-system"];
        cluster.server.kubectl().output(&delete).await.unwrap();
    };
    let (error, ()) = futures::join!(issuer.trust_bundle(), delete);
    check(&error.unwrap_err(), "IssuerUnreachable", &["was deleted before it was answered"]);
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let cluster = Cluster::start().await;
    let mut config = cluster.external();
    config.namespace = "default".to_owned();
    let error = cert_manager(config).trust_bundle().await.unwrap_err();
    check(&error, "IssuerMisconfigured", &["namespace default", "cannot create resource \"certificaterequests\""]);
}
