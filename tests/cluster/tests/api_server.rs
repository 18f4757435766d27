//! The API server alone: what tests of reconcilers, webhooks and rights stand on.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use osm_cluster::{ApiServer, ApiServerOptions, Controllers, KubernetesVersion};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

/// For a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

fn crds() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/crd"))
}

fn traffic_split(weight: i64) -> Value {
    json!({
        "apiVersion": "split.smi-spec.io/v1alpha2",
        "kind": "TrafficSplit",
        "metadata": { "name": "split", "namespace": "default" },
        "spec": { "service": "store", "backends": [{ "service": "store-v1", "weight": weight }] },
    })
}

/// TrafficSplits as `kubectl get --watch` shows them. Soon after a CRD is established the API server may end watches of its kind once
/// more, with an event ERROR; as any client would, this one begins anew then, and is shown again what is there.
struct Watch<'a> {
    server: &'a ApiServer,
    open: Option<(Child, Lines<BufReader<ChildStdout>>)>,
    opened: usize,
}

impl<'a> Watch<'a> {
    fn new(server: &'a ApiServer) -> Self {
        Self { server, open: None, opened: 0 }
    }

    async fn line(&mut self) -> Result<Option<String>> {
        if self.open.is_none() {
            self.opened += 1;
            let mut watch = tokio::process::Command::new(self.server.kubectl().program());
            watch.arg("--kubeconfig").arg(self.server.kubeconfig());
            watch.args([
                "get",
                "trafficsplits",
                "--watch",
                "--output-watch-events",
                "--output=jsonpath={.type} {.object.metadata.generation}{\"\\n\"}",
            ]);
            let mut child = watch.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            self.open = Some((child, lines));
        }
        let (_, lines) = self.open.as_mut().context("it was opened")?;
        Ok(lines.next_line().await?)
    }

    async fn expect(&mut self, event: &str, generation: u32) -> Result<()> {
        let before = self.opened;
        let expected = format!("{event} {generation}");
        let waited = tokio::time::timeout(LIMIT, async {
            loop {
                let line = self.line().await?;
                match line.as_deref() {
                    None => self.open = None,
                    Some(line) if line.starts_with("ERROR") => self.open = None,
                    Some(line) if line == expected => return Ok(()),
                    // What was there already when it began anew, or what is there now instead of the event.
                    Some(line) if before > 0 && self.opened > before && line.starts_with("ADDED") => {
                        if line == format!("ADDED {generation}") && event != "DELETED" {
                            return Ok(());
                        }
                    }
                    Some(line) => bail!("expected {expected}, saw {line}"),
                }
            }
        });
        waited.await.with_context(|| format!("{expected} did not come"))?
    }
}

async fn serves_our_crds(version: KubernetesVersion) -> Result<()> {
    let server = ApiServer::start(version).await?;
    let kubectl = server.kubectl();
    let said: Value = serde_json::from_str(&kubectl.output(&["version", "--output=json"]).await?)?;
    assert_eq!(said["serverVersion"]["gitVersion"], format!("v{}", version.release()));

    kubectl.output(&["apply", "--server-side", "--kustomize", crds().to_str().unwrap()]).await?;
    kubectl.output(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]).await?;

    let mut watch = Watch::new(&server);
    kubectl.apply(&traffic_split(1).to_string()).await?;
    watch.expect("ADDED", 1).await?;
    kubectl.apply(&traffic_split(2).to_string()).await?;
    watch.expect("MODIFIED", 2).await?;
    let refused = kubectl.apply(&traffic_split(-1).to_string()).await.unwrap_err().to_string();
    ensure!(refused.contains("weight"), "the schema says which field: {refused}");
    kubectl.output(&["delete", "trafficsplit", "split"]).await?;
    watch.expect("DELETED", 2).await
}

#[tokio::test]
async fn the_newest_version_serves_our_crds_and_watches() -> Result<()> {
    serves_our_crds(KubernetesVersion::NEWEST).await
}

#[tokio::test]
async fn the_oldest_version_serves_our_crds_and_watches() -> Result<()> {
    serves_our_crds(KubernetesVersion::OLDEST).await
}

#[tokio::test]
async fn tokens_are_reviewed_for_their_audience_and_rights_are_enforced() -> Result<()> {
    let options = ApiServerOptions { controllers: Controllers::Running, ..ApiServerOptions::default() };
    let server = ApiServer::start_with(options).await?;
    let kubectl = server.kubectl();
    // The controllers make it.
    kubectl.output(&["wait", "--for=create", "--timeout=120s", "serviceaccount/default"]).await?;
    let token = kubectl.output(&["create", "token", "default", "--audience=osm"]).await?;
    let review = async |audience: &str| -> Result<Value> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token.trim(), "audiences": [audience] },
        });
        let output = kubectl.run_with_input(&["create", "--filename=-", "--output=json"], &review.to_string()).await?;
        Ok(serde_json::from_slice::<Value>(&output.stdout)?["status"].take())
    };
    let status = review("osm").await?;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:default");
    assert_eq!(status["audiences"], json!(["osm"]));
    assert_ne!(review("another").await?["authenticated"], true);

    let reader = kubectl.with_kubeconfig(&server.kubeconfig_for("reader", Some("readers"))?);
    let account = kubectl.with_kubeconfig(&server.kubeconfig_for_service_account("default", "default").await?);
    for user in [&reader, &account] {
        let refused = user.output(&["get", "configmaps"]).await.unwrap_err().to_string();
        assert!(refused.contains("Forbidden"), "{refused}");
    }
    let role = ["create", "role", "read", "--verb=get,list", "--resource=configmaps"];
    kubectl.output(&role).await?;
    let binding =
        ["create", "rolebinding", "read", "--role=read", "--group=readers", "--serviceaccount=default:default"];
    kubectl.output(&binding).await?;
    // Rights come from a cache that follows what was written.
    for user in [&reader, &account] {
        let allowed = async { while user.output(&["get", "configmaps"]).await.is_err() {} };
        tokio::time::timeout(LIMIT, allowed).await.context("the role has no effect")?;
        assert!(user.output(&["create", "configmap", "mine"]).await.is_err(), "only reading was granted");
    }
    Ok(())
}

#[tokio::test]
async fn an_outage_ends_where_it_began_and_requests_are_audited() -> Result<()> {
    let server = ApiServer::start(KubernetesVersion::NEWEST).await?;
    let kubectl = server.kubectl();
    kubectl.output(&["create", "configmap", "before"]).await?;
    let url = server.url();

    server.stop_api_server()?;
    assert!(server.stop_api_server().is_err(), "it is stopped");
    assert!(server.get("/readyz").await.is_err());
    server.start_api_server().await?;
    assert_eq!(server.url(), url);
    assert_eq!(kubectl.output(&["get", "configmap", "before", "--output=name"]).await?.trim(), "configmap/before");

    let audit = std::fs::read_to_string(server.audit_log())?;
    let created = audit.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let created = created.iter().find(|event| event["verb"] == "create" && event["objectRef"]["name"] == "before");
    assert_eq!(created.context("the request is in the audit log")?["user"]["username"], "kubernetes-admin");
    Ok(())
}

#[tokio::test]
async fn webhooks_on_loopback_are_called() -> Result<()> {
    let server = ApiServer::start(KubernetesVersion::NEWEST).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "loopback" },
        "webhooks": [{
            "name": "loopback.osm.test",
            "clientConfig": { "url": format!("https://{}/validate", listener.local_addr()?) },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    });
    let kubectl = server.kubectl();
    kubectl.apply(&webhook.to_string()).await?;
    // Webhooks come from a cache that follows what was written, so the first requests may not be asked about.
    let refused = async {
        let mut number = 0;
        loop {
            number += 1;
            if let Err(error) = kubectl.output(&["create", "configmap", &format!("asked-{number}")]).await {
                return error.to_string();
            }
        }
    };
    let called = async {
        loop {
            let (mut connection, _) = listener.accept().await?;
            let mut first = [0];
            connection.read_exact(&mut first).await?;
            // A TLS handshake, and no answer to it.
            ensure!(first == [0x16], "the API server speaks TLS");
        }
    };
    let refused = tokio::time::timeout(LIMIT, async {
        tokio::select! {
            refused = refused => Ok(refused),
            failed = called => failed.map(|()| String::new()),
        }
    });
    let refused = refused.await.context("the webhook was never called")??;
    assert!(refused.contains("loopback.osm.test"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn servers_run_side_by_side_and_leave_nothing() -> Result<()> {
    let (first, second) =
        tokio::try_join!(ApiServer::start(KubernetesVersion::NEWEST), ApiServer::start(KubernetesVersion::NEWEST))?;
    assert_ne!(first.url(), second.url());
    first.kubectl().output(&["create", "namespace", "only-here"]).await?;
    assert!(second.kubectl().output(&["get", "namespace", "only-here"]).await.is_err());

    let folder = first.kubeconfig().parent().unwrap().to_owned();
    let processes = processes_that_mention(folder.to_str().unwrap());
    assert_eq!(processes.len(), 2, "etcd and the API server: {processes:?}");
    drop(first);
    assert_eq!(processes_that_mention(folder.to_str().unwrap()), Vec::<String>::new());
    assert!(!folder.exists());
    second.kubectl().output(&["get", "namespaces"]).await?;
    Ok(())
}

fn processes_that_mention(word: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        // Processes end while we look.
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    processes.filter(|line| line.contains(word)).collect()
}
