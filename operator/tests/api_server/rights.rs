//! The rights of the roles that are installed: every one is used, and no other is asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use osm_api::{Kind, ObjectRef};
use osm_cluster::rights::{self, Exception, Subject};
use osm_kubernetes::{
    EventLimits, EventRecorder, EventType, RequestError, ReviewOptions, ReviewToken, StoredObjects, TokenReviewer,
    WatchOptions, Writer,
};
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::world::{CONTROL_PLANE, LIMIT, MESH_CONFIG_PATH, SHOP, World, snapshot_path, target};

/// Rights that no test of an API server without nodes can show in use, each with the reason why they are granted.
const UNUSED_FOR_A_REASON: [Exception; 0] = [];

/// An object of each kind that `SHOP` has none of, and a namespace that leaves the mesh.
const MORE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: leaving, labels: {openservicemesh.io/monitored-by: osm}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {namespace: shop, name: tcp}
spec: {matches: {ports: [9000]}}
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {namespace: shop, name: split}
spec: {service: api, backends: [{service: api, weight: 1}]}
---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshRootCertificate
metadata: {namespace: osm-system, name: first}
spec: {role: active, provider: {tresor: {ca: {secretRef: {namespace: osm-system, name: osm-ca-bundle}}}}}
"#;

/// Objects of all our kinds.
const OURS: [(Kind, &str, &str); 7] = [
    (Kind::MeshConfig, CONTROL_PLANE, "osm-mesh-config"),
    (Kind::MeshRootCertificate, CONTROL_PLANE, "first"),
    (Kind::TrafficTarget, "shop", "buyer"),
    (Kind::HttpRouteGroup, "shop", "routes"),
    (Kind::TcpRoute, "shop", "tcp"),
    (Kind::TrafficSplit, "shop", "split"),
    (Kind::ProxySnapshot, "shop", "api"),
];

fn config(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(path).display().to_string()
}

/// The webhook configurations by their names, about nothing: nobody serves them at the Service that they name.
pub(crate) fn webhook_configurations() -> String {
    let webhook = json!({
        "name": "a.openservicemesh.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
        "clientConfig": { "service": { "namespace": CONTROL_PLANE, "name": "osm-controller", "path": "/", "port": 443 } },
        "namespaceSelector": { "matchLabels": { "nothing": "matches" } },
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
    });
    let documents = [("Mutating", "osm-webhook-osm"), ("Validating", "osm-validator-mesh-osm")].map(|(kind, name)| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": { "name": name }, "webhooks": [webhook],
        })
    });
    documents.map(|document| format!("---\n{document}\n")).concat()
}

/// The roles, the account and the first settings as they are installed; and a kubeconfig of that account.
pub(crate) async fn install(world: &World) -> Result<PathBuf> {
    let apply = ["apply", "--server-side"];
    let kubectl = world.server.kubectl();
    kubectl.output(&[&apply[..], &["--kustomize", &config("rbac")]].concat()).await?;
    let preset = config("manager/configmap_preset-mesh-config.yaml");
    kubectl.output(&[&apply[..], &["--filename", &preset]].concat()).await?;
    world.apply(&webhook_configurations()).await?;
    world.apply(SHOP).await?;
    world.apply(MORE).await?;
    world.server.kubeconfig_for_service_account(CONTROL_PLANE, "osm-controller").await
}

/// What a control plane does for long, or rarely, or with an older API server, done at once.
async fn rare_deeds(world: &World, kubeconfig: &Path) -> Result<()> {
    let client = osm_kubernetes::client(Some(kubeconfig)).await?;
    // Lists by pages, where the server streams none.
    let options = WatchOptions { streaming_lists: false, ..WatchOptions::default() };
    let mut lists = osm_kubernetes::watch(client.clone(), options, StoredObjects::default());
    let read = tokio::spawn(async move { while lists.recv().await.is_some() {} });
    // A proxy that shows a token.
    let pod = world.get("/api/v1/namespaces/shop/pods/api-0").await?;
    let uid = format!("--bound-object-uid={}", pod["metadata"]["uid"].as_str().unwrap_or_default());
    let token = ["create", "token", "api", "--namespace=shop", "--audience=osm-mesh", "--bound-object-kind=Pod"];
    let token = [&token[..], &["--bound-object-name=api-0", &uid]].concat();
    let token = world.server.kubectl().output(&token).await?;
    let reviewer = TokenReviewer::new(client.clone(), ReviewOptions::new("osm-mesh"));
    reviewer.review(token.trim()).await?;
    // An event that repeats is counted.
    let limits = EventLimits { count_every: Duration::from_secs(1), ..EventLimits::default() };
    let recorder = EventRecorder::with_limits(client.clone(), StoredObjects::default(), "a".to_owned(), limits);
    for _ in 0..2 {
        let object = ObjectRef::new(Kind::TrafficTarget, "shop", "buyer");
        recorder.record(&object, EventType::Normal, "Counted", "It is counted.");
    }
    // Somebody else is quicker: what there is now is read.
    let behind = Writer::new(client, StoredObjects::default());
    for (kind, namespace, name) in OURS {
        let object = ObjectRef::new(kind, namespace, name);
        let manifest = json!({
            "apiVersion": kind.api_version(), "kind": kind.as_str(),
            "metadata": { "namespace": namespace, "name": name }, "status": { "observedGeneration": 1 },
        });
        behind.apply_status(&manifest).await?;
        let label = ["label", "--overwrite", "--namespace", namespace, kind.plural(), name, "touched=yes"];
        world.server.kubectl().output(&label).await?;
        let outdated = behind.patch_status(&object, &json!({ "observedGeneration": 7 })).await;
        ensure!(matches!(outdated, Err(RequestError::Conflict(_))), "{object}: {outdated:?}");
    }
    eventually("the event is counted", LIMIT, || async {
        let events: Value = world.get("/apis/events.k8s.io/v1/namespaces/shop/events").await?;
        ensure!(events["items"].to_string().contains("\"series\""), "{events}");
        Ok(())
    })
    .await?;
    read.abort();
    Ok(())
}

/// The MeshConfig asks for an ingress gateway's certificate, whose Secret is made, and put back.
async fn gateway_with_a_secret_that_somebody_changes(world: &World) -> Result<()> {
    let kubectl = world.server.kubectl();
    kubectl.output(&["create", "namespace", "ingress"]).await?;
    world.apply(&crate::gateway::role()).await?;
    world.apply(&crate::gateway::mesh_config(&["gateway.example"], "gateway-tls")).await?;
    let change = ["patch", "secret", "--namespace=ingress", "gateway-tls", "--patch", r#"{"data":{"ca.crt":"YQ=="}}"#];
    eventually("the Secret is made", LIMIT, || kubectl.output(&change)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_used_and_no_other_is_asked_for() -> Result<()> {
    let world = World::start().await?;
    let kubeconfig = install(&world).await?;
    let kubectl = world.server.kubectl();
    let renewed_often = ["--lease-duration-seconds", "6"];
    let mut operators = Vec::new();
    for name in ["a", "b"] {
        let operator = world.start_operator_as(name, &kubeconfig, &renewed_often).await?;
        operator.wait_until_ready().await?;
        operators.push(operator);
    }
    world.wait_ready(MESH_CONFIG_PATH, "0/0").await?;
    gateway_with_a_secret_that_somebody_changes(&world).await?;
    // Objects of its own come and go.
    eventually("what is in a namespace of the mesh is there", LIMIT, || async {
        world.get("/api/v1/namespaces/leaving/configmaps/osm-trust-bundle").await?;
        world.get(&snapshot_path("api")).await?;
        world.get(&snapshot_path("buyer")).await
    })
    .await?;
    kubectl.output(&["label", "namespace", "leaving", "openservicemesh.io/monitored-by-"]).await?;
    kubectl.output(&["delete", "--namespace", "shop", "pod/buyer-0", "--grace-period=0", "--force"]).await?;
    kubectl.output(&["delete", "--namespace", "shop", "serviceaccount/buyer"]).await?;
    // Something that an event tells.
    world.apply(&target("buyer", "buyer", "missing")).await?;
    rare_deeds(&world, &kubeconfig).await?;

    let account = Subject::service_account(CONTROL_PLANE, "osm-controller");
    let granted = rights::granted(kubectl, &account).await?;
    ensure!(granted.len() > 50, "the roles grant next to nothing: {granted:?}");
    let compare = || async {
        let difference = rights::asked(&world.server.audit_log(), &account)?.difference(&granted);
        difference.expect_none_but(&UNUSED_FOR_A_REASON)?;
        difference.expect_all_of(&UNUSED_FOR_A_REASON)
    };
    eventually("every right is used", LIMIT, compare).await?;
    for operator in operators {
        operator.stop().await?;
    }
    // What it did at the end counts, too.
    compare().await
}
