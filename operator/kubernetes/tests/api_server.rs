//! What this crate does, against a real API server.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use osm_api::{Kind, Object, ObjectRef};
use osm_cluster::{ApiServer, KubernetesVersion};
use osm_kubernetes::{
    Created, EventLimits, EventRecorder, EventType, Leadership, Lease, LeaseOptions, LeaseTiming, MeshClaim,
    RequestError, ReviewError, ReviewOptions, ReviewToken, RuleNames, StoredObjects, Target, TokenReviewer,
    WatchOptions, WebhookConfiguration, Writer, Written, client, mesh_claims, missing_crds, rules,
};
use osm_source::{Problem, SourceEvent};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// For a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(LIMIT, future).await.with_context(|| format!("waiting for {what}"))
}

async fn install_crds(server: &ApiServer) -> Result<()> {
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/crd");
    server.kubectl().output(&["apply", "--server-side", "--kustomize", crds]).await?;
    server.kubectl().output(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]).await?;
    Ok(())
}

/// What a reader of the source holds.
struct Reader {
    events: mpsc::Receiver<SourceEvent>,
    objects: BTreeMap<ObjectRef, Object>,
    problems: Vec<Problem>,
    synced: bool,
    told: usize,
}

impl Reader {
    fn start(client: &Client, stored: &StoredObjects) -> Self {
        // Short watches: they end and begin anew while the test runs.
        let options = WatchOptions { watch_seconds: 20, page_size: 3, ..WatchOptions::default() };
        let events = osm_kubernetes::watch(client.clone(), options, stored.clone());
        Self { events, objects: BTreeMap::new(), problems: Vec::new(), synced: false, told: 0 }
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> Result<()> {
        while !condition(self) {
            let event = in_time(what, self.events.recv()).await;
            let event = event.with_context(|| format!("{:?} {:?}", self.objects.keys(), self.problems))?;
            match event.context("the source ended")? {
                SourceEvent::Changes(changes) => {
                    self.told += changes.len();
                    for (name, object) in changes {
                        match object {
                            Some(object) => drop(self.objects.insert(name, object)),
                            None => drop(self.objects.remove(&name)),
                        }
                    }
                }
                SourceEvent::Problems(problems) => self.problems = problems,
                SourceEvent::Synced => self.synced = true,
            }
        }
        Ok(())
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.objects.contains_key(&ObjectRef::new(kind, "default", name))
    }
}

fn target(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": { "namespace": "default", "name": name },
        "spec": {
            "destination": { "kind": "ServiceAccount", "name": account, "namespace": "default" },
            "rules": [{ "kind": "TCPRoute", "name": "all" }],
            "sources": [{ "kind": "ServiceAccount", "name": "buyer", "namespace": "default" }],
        },
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "default", "name": name },
        "spec": { "ports": [{ "name": "http", "port": 80 }], "selector": { "app": name } },
    })
}

async fn objects_are_read_and_followed(version: KubernetesVersion) -> Result<()> {
    let server = ApiServer::start(version).await?;
    let client = client(Some(server.kubeconfig())).await?;
    let (stored, kubectl) = (StoredObjects::default(), server.kubectl());
    let mut reader = Reader::start(&client, &stored);
    // CRDs that are missing are named; the source waits for them.
    ensure!(missing_crds(&client).await?.contains(&"trafficsplits.split.smi-spec.io".to_owned()));
    reader.until("what is missing to be told", |reader| reader.problems.len() == Kind::own().count()).await?;
    assert!(!reader.synced && reader.problems.iter().all(|problem| problem.remedy.contains("osm-operator-crds")));
    install_crds(&server).await?;
    assert_eq!(missing_crds(&client).await?, Vec::<String>::new());
    reader.until("all lists", |reader| reader.synced && reader.problems.is_empty()).await?;
    assert!(reader.has(Kind::Service, "kubernetes"));
    // More than a page.
    for name in ["a", "b", "c", "d"] {
        kubectl.apply(&service(name).to_string()).await?;
        kubectl.apply(&target(name, "seller").to_string()).await?;
    }
    reader
        .until("what is applied", |reader| {
            ["a", "b", "c", "d"]
                .iter()
                .all(|name| reader.has(Kind::Service, name) && reader.has(Kind::TrafficTarget, name))
        })
        .await?;
    // While the API server is away all stays; what happens when it is back is seen.
    server.stop_api_server()?;
    server.start_api_server().await?;
    kubectl.output(&["delete", "service", "a"]).await?;
    kubectl.apply(&service("e").to_string()).await?;
    reader
        .until("what happened since", |reader| !reader.has(Kind::Service, "a") && reader.has(Kind::Service, "e"))
        .await?;
    assert!(["b", "c", "d"].iter().all(|name| reader.has(Kind::Service, name)));
    reader.until("no problem to be left", |reader| reader.problems.is_empty()).await?;
    // Paged lists give the same as streamed ones.
    let options = WatchOptions { page_size: 2, streaming_lists: false, ..WatchOptions::default() };
    let events = osm_kubernetes::watch(client.clone(), options, StoredObjects::default());
    let mut paged = Reader { events, objects: BTreeMap::new(), problems: Vec::new(), synced: false, told: 0 };
    paged.until("all lists, by pages", |reader| reader.synced).await?;
    assert_eq!(paged.objects, reader.objects);
    Ok(())
}

#[tokio::test]
async fn objects_are_read_and_followed_on_the_newest_version() -> Result<()> {
    objects_are_read_and_followed(KubernetesVersion::NEWEST).await
}

#[tokio::test]
async fn objects_are_read_and_followed_on_the_oldest_version() -> Result<()> {
    objects_are_read_and_followed(KubernetesVersion::OLDEST).await
}

/// A server with our CRDs, and a client that has the rights of [`rules`] and no others.
async fn server_and_operator() -> Result<(ApiServer, Client)> {
    let server = ApiServer::start(KubernetesVersion::NEWEST).await?;
    install_crds(&server).await?;
    let rules = rules(&RuleNames {
        lease: "osm-controller".into(),
        config_maps: vec!["osm-trust-bundle".into()],
        read_config_maps: vec!["preset-mesh-config".into()],
        own_config_maps: vec!["osm-rotation".into()],
        read_secrets: vec!["osm-vault-token".into()],
        own_secrets: vec!["osm-ca-bundle".into()],
        gateway_secrets: vec![],
        mutating_webhooks: vec!["osm-webhook".into()],
        validating_webhooks: vec!["osm-validator".into()],
    });
    let subjects = json!([{ "kind": "ServiceAccount", "namespace": "default", "name": "osm-controller" }]);
    let group = "rbac.authorization.k8s.io";
    let metadata = |namespaced: bool| {
        if namespaced { json!({ "name": "osm", "namespace": "default" }) } else { json!({ "name": "osm" }) }
    };
    let role = |kind: &str, rules: Value, namespaced| json!({ "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata(namespaced), "rules": rules });
    let binding = |kind: &str, role: &str, namespaced| {
        json!({
            "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata(namespaced), "subjects": subjects,
            "roleRef": { "apiGroup": group, "kind": role, "name": "osm" },
        })
    };
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": "default", "name": "osm-controller" },
    });
    for object in [
        account,
        role("ClusterRole", json!(rules.cluster), false),
        role("Role", json!(rules.control_plane_namespace), true),
        binding("ClusterRoleBinding", "ClusterRole", false),
        binding("RoleBinding", "Role", true),
    ] {
        server.kubectl().apply(&object.to_string()).await?;
    }
    let kubeconfig = server.kubeconfig_for_service_account("default", "osm-controller").await?;
    let client = client(Some(&kubeconfig)).await?;
    Ok((server, client))
}

/// How many requests of the operator with one of these verbs about this resource the audit log has.
async fn audited(log: &Path, verbs: &[&str], resource: &str) -> Result<usize> {
    let text = tokio::fs::read_to_string(log).await?;
    let requests = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|request| {
        request["user"]["username"] == "system:serviceaccount:default:osm-controller"
            && verbs.iter().any(|verb| request["verb"] == *verb)
            && request["objectRef"]["resource"] == resource
    });
    Ok(requests.count())
}

#[tokio::test]
async fn what_is_written_is_written_once_with_no_more_rights_than_are_listed() -> Result<()> {
    let (server, client) = server_and_operator().await?;
    let stored = StoredObjects::default();
    let writer = Writer::new(client.clone(), stored.clone());
    let mut reader = Reader::start(&client, &stored);
    reader.until("all lists", |reader| reader.synced).await?;

    status_is_patched_when_different(&server, &writer, &mut reader).await?;
    objects_are_applied_and_deleted(&server, &writer).await?;
    ca_bundles_are_kept(&server, &writer).await?;

    events_are_counted(&server, &client, &stored).await
}

async fn events_are_counted(server: &ApiServer, client: &Client, stored: &StoredObjects) -> Result<()> {
    let limits =
        EventLimits { count_every: Duration::from_secs(1), refill: Duration::from_secs(1), ..EventLimits::default() };
    let recorder = EventRecorder::with_limits(client.clone(), stored.clone(), "osm-controller-0".into(), limits);
    let object = ObjectRef::new(Kind::TrafficTarget, "default", "buy");
    for _ in 0..500 {
        recorder.record(&object, EventType::Warning, "Invalid", "spec.rules: is empty; name a route.");
    }
    // As `kubectl describe` looks for them.
    let uid = stored.get(&object).context("it is stored")?.uid;
    let events = format!("--field-selector=involvedObject.uid={uid}");
    let shown = ["get", "events", &events, "-o", "jsonpath={.items[*].reason} {.items[*].series.count}"];
    let counted = async {
        while server.kubectl().output(&shown).await?.trim() != "Invalid 500" {}
        anyhow::Ok(())
    };
    let counted = in_time("the event to be counted", counted).await;
    counted.with_context(|| format!("{shown:?}"))??;
    let created = audited(&server.audit_log(), &["create"], "events").await?;
    assert_eq!(created, 1, "what repeats is one event");
    Ok(())
}

async fn status_is_patched_when_different(server: &ApiServer, writer: &Writer, reader: &mut Reader) -> Result<()> {
    let (stored, kubectl) = (writer.stored(), server.kubectl());
    let object = ObjectRef::new(Kind::TrafficTarget, "default", "buy");
    assert_eq!(writer.patch_status(&object, &json!({})).await?, Written::Gone);
    kubectl.apply(&target("buy", "seller").to_string()).await?;
    reader.until("the object", |reader| reader.has(Kind::TrafficTarget, "buy")).await?;
    let condition = |status: &str| {
        json!({
            "type": "Ready", "status": status, "reason": "Programmed", "message": "All proxies run it.",
            "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1,
        })
    };
    let wanted = json!({
        "observedGeneration": 1, "conditions": [condition("True")],
        "propagation": { "targeted": 2, "acknowledged": 2, "refused": 0 },
    });
    let told = reader.told;
    assert_eq!(writer.patch_status(&object, &wanted).await?, Written::Written);
    let log = server.audit_log();
    let before = audited(&log, &["patch", "update"], "traffictargets").await?;
    assert_eq!(before, 1);
    let present = stored.get(&object).and_then(|stored| stored.status).context("its status is stored")?;
    assert_eq!(writer.patch_status(&object, &present).await?, Written::Unchanged);
    // What we wrote comes back through the watch, and is no news: after it comes what others do.
    kubectl.apply(&target("other", "seller").to_string()).await?;
    reader.until("another object", |reader| reader.has(Kind::TrafficTarget, "other")).await?;
    assert_eq!(reader.told, told + 1, "our own write was not told");
    assert_eq!(writer.patch_status(&object, &present).await?, Written::Unchanged);
    assert_eq!(audited(&log, &["patch", "update"], "traffictargets").await?, before, "nothing was written again");
    // A member that is no longer wanted disappears, and nobody else's spec is touched.
    let mut less = present.clone();
    less["propagation"].as_object_mut().context("an object")?.remove("refused");
    less["conditions"] = json!([condition("False")]);
    assert_eq!(writer.patch_status(&object, &less).await?, Written::Written);
    let seen: Value = serde_json::from_str(&kubectl.output(&["get", "traffictarget", "buy", "-o", "json"]).await?)?;
    assert_eq!(seen["status"]["conditions"][0]["status"], "False");
    assert_eq!(seen["metadata"]["generation"], 1);
    // Somebody else is quicker: refused, read anew, and then written.
    stored_is_outdated(server, writer, &object, &less).await
}

async fn stored_is_outdated(server: &ApiServer, writer: &Writer, object: &ObjectRef, status: &Value) -> Result<()> {
    // A handle of its own, which no watch keeps up to date.
    let lagging = StoredObjects::default();
    let behind = Writer::new(client(Some(server.kubeconfig())).await?, lagging.clone());
    let mut manifest = target("buy", "seller");
    manifest["status"] = status.clone();
    behind.apply_status(&manifest).await?;
    server.kubectl().output(&["label", "traffictarget", "buy", "touched=yes"]).await?;
    let mut wanted = status.clone();
    wanted["observedGeneration"] = json!(7);
    let error = behind.patch_status(object, &wanted).await;
    ensure!(matches!(error, Err(RequestError::Conflict(_))), "{error:?}");
    assert_eq!(behind.patch_status(object, &wanted).await?, Written::Written);
    drop(writer.stored().changed().await);
    Ok(())
}

async fn objects_are_applied_and_deleted(server: &ApiServer, writer: &Writer) -> Result<()> {
    let kubectl = server.kubectl();
    let snapshot = json!({
        "apiVersion": "snapshot.openservicemesh.io/v1alpha1", "kind": "ProxySnapshot",
        "metadata": { "namespace": "default", "name": "seller" }, "spec": { "serviceAccount": "seller" },
        "status": {
            "version": "1", "resources": {}, "contributorCount": 1, "contributors": ["traffictarget/default/buy"],
            "proxies": { "connected": 1, "synced": 1, "rejected": 0, "summary": "1/1" },
        },
    });
    let applied = writer.apply(&snapshot).await?;
    assert!(!applied.uid.is_empty());
    writer.apply_status(&snapshot).await?;
    let seen = kubectl.output(&["get", "proxysnapshot", "seller", "-o", "jsonpath={.status.proxies.summary}"]).await?;
    assert_eq!(seen, "1/1");
    let reference = ObjectRef::new(Kind::ProxySnapshot, "default", "seller");
    assert_eq!(writer.stored().references(Kind::ProxySnapshot), std::slice::from_ref(&reference));
    let status = writer.stored().get(&reference).and_then(|stored| stored.status).context("it has a status")?;
    assert_eq!(writer.patch_status(&reference, &status).await?, Written::Unchanged);
    assert_eq!(writer.delete(&Target::from(&reference)).await?, Written::Written);
    assert_eq!(writer.delete(&Target::from(&reference)).await?, Written::Gone);

    let bundle = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "kube-public", "name": "osm-trust-bundle" },
        "data": { "ca.crt": "a" },
    });
    writer.apply(&bundle).await?;
    let bundle = Target::config_map("kube-public", "osm-trust-bundle");
    // Read by somebody else: the operator watches it and may not get it.
    let read = [
        "get",
        "configmaps",
        "-n",
        "kube-public",
        "osm-trust-bundle",
        "--ignore-not-found",
        "-o",
        "jsonpath={.data.ca\\.crt}",
    ];
    assert_eq!(server.kubectl().output(&read).await?, "a");
    assert_eq!(writer.delete(&bundle).await?, Written::Written);
    assert_eq!(server.kubectl().output(&read).await?, "");
    let refused = writer.get(&Target::secret("kube-system", "anything")).await;
    ensure!(matches!(refused, Err(RequestError::Forbidden(_))), "{refused:?}");

    let config = json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
        "metadata": { "namespace": "default", "name": "osm-mesh-config" },
        "spec": { "traffic": { "enableEgress": true } },
    });
    assert_eq!(writer.create_if_absent(&config).await?, Created::Created);
    let mut other = config.clone();
    other["spec"]["traffic"]["enableEgress"] = false.into();
    assert_eq!(writer.create_if_absent(&other).await?, Created::Existed);
    let path = "jsonpath={.spec.traffic.enableEgress}";
    assert_eq!(kubectl.output(&["get", "meshconfig", "osm-mesh-config", "-o", path]).await?, "true");
    Ok(())
}

async fn ca_bundles_are_kept(server: &ApiServer, writer: &Writer) -> Result<()> {
    let kubectl = server.kubectl();
    let kind = WebhookConfiguration::Mutating;
    assert_eq!(writer.set_ca_bundle(kind, "osm-webhook", "pem").await?, Written::Gone);
    let webhook = |name: &str| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": { "service": { "namespace": "default", "name": "osm-controller", "path": "/mutate", "port": 443 } },
            "namespaceSelector": { "matchLabels": { "nothing": "matches" } },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
        })
    };
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "osm-webhook" }, "webhooks": [webhook("a.openservicemesh.io"), webhook("b.openservicemesh.io")],
    });
    kubectl.apply(&configuration.to_string()).await?;
    let pem = server.ca_pem();
    assert_eq!(writer.set_ca_bundle(kind, "osm-webhook", pem).await?, Written::Written);
    assert_eq!(writer.set_ca_bundle(kind, "osm-webhook", pem).await?, Written::Unchanged);
    // Whoever installs it again by server-side apply changes nothing of ours.
    kubectl.apply(&configuration.to_string()).await?;
    assert_eq!(writer.set_ca_bundle(kind, "osm-webhook", pem).await?, Written::Unchanged);
    let seen: Value = serde_json::from_str(
        &kubectl
            .output(&["get", "mutatingwebhookconfiguration", "osm-webhook", "--show-managed-fields", "-o", "json"])
            .await?,
    )?;
    assert_eq!(seen["webhooks"][1]["clientConfig"]["service"]["path"], "/mutate");
    let managers = seen["metadata"]["managedFields"].as_array().context("managed fields")?;
    let ours = managers.iter().find(|entry| entry["manager"] == "osm-operator").context("we manage something")?;
    let fields = ours["fieldsV1"]["f:webhooks"].to_string();
    ensure!(fields.contains("f:caBundle") && !fields.contains("f:service") && !fields.contains("f:rules"), "{fields}");
    Ok(())
}

fn lease(client: &Client, holder: &str, namespace: &str) -> Lease {
    let timing = LeaseTiming {
        duration: Duration::from_secs(6),
        renew_within: Duration::from_secs(4),
        renew_every: Duration::from_secs(1),
        retry_after: Duration::from_millis(500),
    };
    Lease::new(
        client.clone(),
        LeaseOptions {
            namespace: namespace.into(),
            name: "osm-controller".into(),
            holder: holder.into(),
            labels: MeshClaim::labels("osm", false),
            timing,
        },
    )
}

type Replica = (watch::Receiver<Leadership>, oneshot::Sender<()>, JoinHandle<()>);

fn is_leader(leadership: &Leadership) -> bool {
    *leadership == Leadership::Leader
}

/// The replica that says that it leads and that the Lease names.
async fn leader_by_lease(server: &ApiServer, replicas: &BTreeMap<&'static str, Replica>) -> Result<&'static str> {
    loop {
        let holder = ["get", "lease", "osm-controller", "-o", "jsonpath={.spec.holderIdentity}"];
        let holder = server.kubectl().output(&holder).await?;
        let named =
            replicas.iter().find(|(name, (leadership, ..))| **name == holder && is_leader(&leadership.borrow()));
        if let Some((name, _)) = named {
            return Ok(name);
        }
    }
}

#[tokio::test]
async fn of_three_replicas_one_leads_and_another_follows_when_it_dies_or_leaves() -> Result<()> {
    let (server, operator) = server_and_operator().await?;
    let mut replicas: BTreeMap<&'static str, Replica> = BTreeMap::new();
    for holder in ["a", "b", "c"] {
        let lease = lease(&operator, holder, "default");
        let leadership = lease.leadership();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(lease.run(async {
            let _ = stopped.await;
        }));
        replicas.insert(holder, (leadership, stop, task));
    }
    for round in 0..3 {
        let waiting: Vec<_> = replicas
            .values()
            .map(|(leadership, ..)| {
                let mut leadership = leadership.clone();
                Box::pin(async move { leadership.wait_for(is_leader).await.map(drop) })
            })
            .collect();
        in_time("a leader", futures::future::select_all(waiting)).await?.0?;
        let leader = in_time("the leader to stand in the Lease", leader_by_lease(&server, &replicas)).await??;
        let (leadership, stop, task) = replicas.remove(leader).context("it runs")?;
        if round == 0 {
            // Killed: it gives nothing back.
            task.abort();
        } else {
            let _ = stop.send(());
            in_time("the end", task).await??;
            assert_eq!(*leadership.borrow(), Leadership::Follower);
        }
    }
    // Another operator sees those that live, and not those that left.
    assert_eq!(mesh_claims(&operator, "elsewhere").await?, []);
    server.kubectl().output(&["create", "namespace", "other"]).await?;
    let admin = client(Some(server.kubeconfig())).await?;
    let other = lease(&admin, "other-0", "other");
    let mut leadership = other.leadership();
    let task = tokio::spawn(other.run(std::future::pending()));
    in_time("the other's Lease", leadership.wait_for(is_leader)).await??;
    let claims = in_time("its sign of life", async {
        loop {
            let claims = mesh_claims(&operator, "default").await?;
            if !claims.is_empty() {
                return anyhow::Ok(claims);
            }
        }
    });
    let claims = claims.await??;
    assert_eq!(claims.iter().map(|claim| claim.holder.as_str()).collect::<Vec<_>>(), ["other-0"]);
    assert_eq!((claims[0].mesh_name.as_str(), claims[0].enforces_single_mesh), ("osm", false));
    task.abort();
    in_time("its end to be seen", async {
        while !mesh_claims(&operator, "default").await?.is_empty() {}
        anyhow::Ok(())
    })
    .await?
}

#[tokio::test]
async fn pods_are_proven_by_their_tokens() -> Result<()> {
    let (server, operator) = server_and_operator().await?;
    let kubectl = server.kubectl();
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": "default", "name": "a.b" } });
    kubectl.apply(&account.to_string()).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": "default", "name": "a-0" },
        "spec": { "serviceAccountName": "a.b", "automountServiceAccountToken": false, "containers": [{ "name": "c", "image": "c" }] },
    });
    kubectl.apply(&pod.to_string()).await?;
    let uid = kubectl.output(&["get", "pod", "a-0", "-o", "jsonpath={.metadata.uid}"]).await?;
    let bound = format!("--bound-object-uid={uid}");
    let bound = ["--bound-object-kind=Pod", "--bound-object-name=a-0", &bound];
    let token = async |more: &[&str]| {
        let arguments = [&["create", "token", "a.b"], more].concat();
        anyhow::Ok(kubectl.output(&arguments).await?.trim().to_owned())
    };
    let good = token(&[&["--audience=osm-mesh"], &bound[..]].concat()).await?;
    let reviewer = TokenReviewer::new(operator.clone(), ReviewOptions::new("osm-mesh"));
    let proven = reviewer.review(&good).await?;
    assert_eq!((proven.namespace.as_str(), proven.service_account.as_str()), ("default", "a.b"));
    assert_eq!((proven.pod_name.as_str(), proven.pod_uid.as_str()), ("a-0", uid.as_str()));
    assert!(proven.expires.is_some());
    assert_eq!(reviewer.review(&good).await?, proven);
    let log = server.audit_log();
    assert_eq!(audited(&log, &["create"], "tokenreviews").await?, 1, "the second was remembered");
    // For another audience, for no pod, forged.
    let (head, signature) = good.rsplit_once('.').context("a token")?;
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for token in [token(&bound).await?, token(&["--audience=osm-mesh"]).await?, forged] {
        let refused = reviewer.review(&token).await;
        ensure!(matches!(refused, Err(ReviewError::Refused(_))), "{refused:?}");
    }
    // A pod that is gone proves nothing to whoever asks anew.
    kubectl.output(&["delete", "pod", "a-0", "--grace-period=0", "--force"]).await?;
    in_time("the token to end with its pod", async {
        loop {
            // Refusals are remembered for a moment, good verdicts for longer: ask anew each time.
            let fresh = TokenReviewer::new(operator.clone(), ReviewOptions::new("osm-mesh"));
            if matches!(fresh.review(&good).await, Err(ReviewError::Refused(_))) {
                return anyhow::Ok(());
            }
        }
    })
    .await?
}
