//! The charts on a real API server: what it admits, and what installations, upgrades and removals leave.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use osm_chart_tests::{Helm, ObjectName, Repository};
use osm_cluster::{ApiServer, Kubectl, KubernetesVersion};
use serde_json::{Value, json};

const NAMESPACE: &str = "osm-system";
/// Definitions are taken over one by one; afterwards the API server does not write them any more.
const ESTABLISHED: [&str; 5] = ["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"];

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// An API server with the namespace of the control plane, which admits only restricted pods, and helm for it.
struct Cluster {
    server: ApiServer,
    kubeconfig: PathBuf,
}

impl Cluster {
    async fn start(version: KubernetesVersion) -> Result<Self> {
        let server = ApiServer::start(version).await?;
        let cluster = Self { kubeconfig: server.kubeconfig().to_path_buf(), server };
        cluster.namespace(NAMESPACE).await?;
        Ok(cluster)
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": {
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest",
            } },
        });
        self.kubectl().apply(&namespace.to_string()).await.map(drop)
    }

    fn kubectl(&self) -> &Kubectl {
        self.server.kubectl()
    }

    /// Runs helm off the runtime's threads.
    async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let kubeconfig = self.kubeconfig.clone();
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        tokio::task::spawn_blocking(move || Helm::for_cluster(&kubeconfig)?.output(&arguments)).await?
    }

    async fn install_crds(&self) -> Result<()> {
        let chart = path(&Repository::this().crds_chart());
        self.helm(&["install", "osm-operator-crds", &chart, "--namespace", NAMESPACE, "--wait=false"]).await?;
        self.kubectl().output(&ESTABLISHED).await.map(drop)
    }

    /// `helm VERB osm-operator CHART` in the control plane's namespace.
    async fn operator(&self, verb: &str, arguments: &[&str]) -> Result<String> {
        let chart = path(&Repository::this().operator_chart());
        let mut all = vec![verb, "osm-operator", &chart, "--namespace", NAMESPACE, "--wait=false"];
        all.extend(arguments);
        self.helm(&all).await
    }

    async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "--output=json"];
        all.extend(arguments);
        Ok(serde_json::from_str(&self.kubectl().output(&all).await?)?)
    }

    /// Every object that can be listed, of all groups and namespaces, with its version; but for what the API server makes for
    /// itself whenever it comes to it.
    async fn inventory(&self) -> Result<BTreeMap<ObjectName, String>> {
        let kinds = self.kubectl().output(&["api-resources", "--verbs=list", "--output=name"]).await?;
        let passing = ["componentstatuses", "events", "events.events.k8s.io", "leases.coordination.k8s.io"];
        let kinds: Vec<_> = kinds.lines().map(str::trim).filter(|kind| !passing.contains(kind)).collect();
        ensure!(kinds.len() > 30, "kinds are listed: {kinds:?}");
        let list = self.get(&["--all-namespaces", &kinds.join(",")]).await?;
        let items = list["items"].as_array().context("a list")?;
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let items = items.iter().filter(|object| !is_of_the_api_server(object));
        Ok(items.map(|object| (ObjectName::of(object), version(object))).collect())
    }
}

/// Whether the API server keeps the object for itself.
fn is_of_the_api_server(object: &Value) -> bool {
    if object["metadata"]["labels"]["app.kubernetes.io/name"] == "openservicemesh.io" {
        return false;
    }
    let name = ObjectName::of(object);
    match name.kind.as_str() {
        "FlowSchema" | "PriorityLevelConfiguration" | "ServiceCIDR" => true,
        "APIService" => !object["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"].is_null(),
        "IPAddress" => object["spec"]["parentRef"]["name"] == "kubernetes",
        _ => ["default", "kube-node-lease", "kube-public", "kube-system"].contains(&name.namespace.as_str()),
    }
}

fn of_release(inventory: &BTreeMap<ObjectName, String>, before: &BTreeMap<ObjectName, String>) -> Vec<ObjectName> {
    inventory.keys().filter(|name| !before.contains_key(name)).cloned().collect()
}

/// Whether helm keeps a revision of a release in it.
fn is_release(name: &ObjectName) -> bool {
    name.kind == "Secret" && name.name.starts_with("sh.helm.release.")
}

/// What the control plane does at its first start: the MeshConfig from the preset.
async fn seed_mesh_config(cluster: &Cluster) -> Result<()> {
    let preset = cluster.get(&["--namespace", NAMESPACE, "configmap", "preset-mesh-config"]).await?;
    let spec: Value = serde_json::from_str(preset["data"]["preset-mesh-config.json"].as_str().context("a preset")?)?;
    let object = json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2",
        "kind": "MeshConfig",
        "metadata": { "name": "osm-mesh-config", "namespace": NAMESPACE },
        "spec": spec,
    });
    cluster.kubectl().apply(&object.to_string()).await.map(drop)
}

async fn mesh_config(cluster: &Cluster) -> Result<Value> {
    cluster.get(&["--namespace", NAMESPACE, "meshconfig", "osm-mesh-config"]).await
}

#[tokio::test]
async fn installations_upgrades_rollbacks_and_removals_leave_what_is_the_users() -> Result<()> {
    let cluster = Cluster::start(KubernetesVersion::NEWEST).await?;
    let pristine = cluster.inventory().await?;
    cluster.install_crds().await?;
    let with_crds = cluster.inventory().await?;

    // Installation, with values that the user does not repeat later.
    let first = ["--set=osm.enablePermissiveTrafficPolicy=false", "--set=osm.osmController.replicaCount=3"];
    let said = cluster.operator("install", &first).await?;
    ensure!(said.contains("STATUS: deployed"), "{said}");
    let installed = cluster.inventory().await?;
    let made: Vec<_> = of_release(&installed, &with_crds);
    for name in &made {
        // Helm's own record, and what the API server makes of the Service.
        if is_release(name) || name.kind == "IPAddress" {
            continue;
        }
        let namespace = ["--namespace", name.namespace.as_str()];
        let kind = name.kind.as_str();
        let mut arguments = vec![kind, name.name.as_str()];
        if !name.namespace.is_empty() {
            arguments.extend(namespace);
        }
        let object = cluster.get(&arguments).await?;
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "openservicemesh.io", "{name}");
    }
    seed_mesh_config(&cluster).await?;
    assert_eq!(mesh_config(&cluster).await?["spec"]["traffic"]["enablePermissiveTrafficPolicyMode"], false);

    // The user changes settings; the control plane adds its bundle.
    let edit = r#"{"spec":{"traffic":{"enableEgress":false,"outboundPortExclusionList":[6379]}}}"#;
    let patch = ["patch", "--namespace", NAMESPACE, "meshconfig", "osm-mesh-config", "--type=merge", "--patch", edit];
    cluster.kubectl().output(&patch).await?;
    add_bundle(&cluster).await?;
    let edited = mesh_config(&cluster).await?;

    // An upgrade without the values of the installation.
    cluster.operator("upgrade", &["--reset-values"]).await?;
    assert_eq!(mesh_config(&cluster).await?, edited, "an upgrade leaves the MeshConfig alone");
    let deployment = ["--namespace", NAMESPACE, "deployment", "osm-controller"];
    assert_eq!(cluster.get(&deployment).await?["spec"]["replicas"], 2, "back to the default");
    assert_bundle(&cluster).await?;

    // An upgrade that changes nothing writes nothing.
    let before = cluster.inventory().await?;
    cluster.operator("upgrade", &["--reset-values"]).await?;
    let mut after = cluster.inventory().await?;
    after.retain(|name, _| before.contains_key(name));
    let versions = |inventory: &BTreeMap<ObjectName, String>| -> BTreeMap<ObjectName, String> {
        inventory.iter().filter(|(name, _)| !is_release(name)).map(|(name, it)| (name.clone(), it.clone())).collect()
    };
    assert_eq!(versions(&before), versions(&after));

    // Back to the first revision: the values are those of then, the MeshConfig is that of now.
    cluster.helm(&["rollback", "osm-operator", "1", "--namespace", NAMESPACE, "--wait=false"]).await?;
    assert_eq!(cluster.get(&deployment).await?["spec"]["replicas"], 3);
    assert_eq!(mesh_config(&cluster).await?, edited, "a rollback leaves the MeshConfig alone");
    assert_bundle(&cluster).await?;

    // Removal leaves the MeshConfig and the definitions, and nothing else.
    cluster.helm(&["uninstall", "osm-operator", "--namespace", NAMESPACE, "--wait"]).await?;
    let left = of_release(&cluster.inventory().await?, &with_crds);
    assert_eq!(left.iter().map(|name| name.kind.as_str()).collect::<Vec<_>>(), ["MeshConfig"]);
    assert_eq!(mesh_config(&cluster).await?, edited);

    // A new installation finds it as it was.
    cluster.operator("install", &[]).await?;
    assert_eq!(mesh_config(&cluster).await?, edited);
    cluster.helm(&["uninstall", "osm-operator", "--namespace", NAMESPACE, "--wait"]).await?;

    // The chart of the definitions leaves them, as it says; the notes' command removes them.
    cluster.helm(&["uninstall", "osm-operator-crds", "--namespace", NAMESPACE, "--wait"]).await?;
    let left = of_release(&cluster.inventory().await?, &pristine);
    ensure!(left.iter().any(|name| name.kind == "MeshConfig"), "objects stay with their definitions: {left:?}");
    cluster
        .kubectl()
        .output(&["delete", "crds", "--selector=app.kubernetes.io/name=openservicemesh.io", "--wait"])
        .await?;
    wait_until_only(&cluster, &pristine).await
}

/// Waits until there is nothing that was not there at the beginning: what the API server keeps for a definition (its OpenAPI
/// document, its registration) goes after the definition.
async fn wait_until_only(cluster: &Cluster, pristine: &BTreeMap<ObjectName, String>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        // Listing kinds that are just going fails.
        let left = cluster.inventory().await.map(|inventory| of_release(&inventory, pristine));
        match left {
            Ok(left) if left.is_empty() => return Ok(()),
            left if tokio::time::Instant::now() > deadline => anyhow::bail!("left over: {left:?}"),
            _ => tokio::task::yield_now().await,
        }
    }
}

const HOOKS: [(&str, &str); 2] =
    [("mutatingwebhookconfiguration", "osm-webhook-osm"), ("validatingwebhookconfiguration", "osm-validator-mesh-osm")];

/// As the control plane does: `caBundle` and nothing else, applied server-side.
async fn add_bundle(cluster: &Cluster) -> Result<()> {
    let bundle = STANDARD.encode(cluster.server.ca_pem());
    let apply = ["apply", "--server-side", "--field-manager=osm-operator", "--filename=-"];
    for (kind, name) in HOOKS {
        let stored = cluster.get(&[kind, name]).await?;
        let hooks = stored["webhooks"].as_array().context("webhooks")?.iter();
        let hooks = hooks.map(|hook| json!({ "name": hook["name"], "clientConfig": { "caBundle": bundle } }));
        let object = json!({
            "apiVersion": stored["apiVersion"],
            "kind": stored["kind"],
            "metadata": { "name": name },
            "webhooks": hooks.collect::<Vec<_>>(),
        });
        let output = cluster.kubectl().run_with_input(&apply, &object.to_string()).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

async fn assert_bundle(cluster: &Cluster) -> Result<()> {
    let bundle = STANDARD.encode(cluster.server.ca_pem());
    for (kind, name) in HOOKS {
        let object = cluster.get(&[kind, name]).await?;
        for hook in object["webhooks"].as_array().context("webhooks")? {
            ensure!(hook["clientConfig"]["caBundle"] == bundle, "{name} keeps the bundle of the control plane");
        }
    }
    Ok(())
}

/// The pod that a Deployment's template describes.
fn pod_of(deployment: &Value) -> Value {
    let template = &deployment["spec"]["template"];
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template["metadata"],
        "spec": template["spec"],
    });
    pod["metadata"]["name"] = json!("osm-controller-0");
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    pod
}

async fn pod_is_admitted(cluster: &Cluster) -> Result<()> {
    let deployment = cluster.get(&["--namespace", NAMESPACE, "deployment", "osm-controller"]).await?;
    let dry_run = ["create", "--dry-run=server", "--filename=-"];
    let pod = pod_of(&deployment);
    let output = cluster.kubectl().run_with_input(&dry_run, &pod.to_string()).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The namespace does refuse what is not restricted.
    let mut lax = pod;
    lax["spec"]["containers"][0]["securityContext"]["capabilities"] = json!({});
    let output = cluster.kubectl().run_with_input(&dry_run, &lax.to_string()).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("violates PodSecurity"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_oldest_version_admits_everything_in_a_restricted_namespace() -> Result<()> {
    let cluster = Cluster::start(KubernetesVersion::OLDEST).await?;
    cluster.install_crds().await?;
    // A root from values goes in although nothing serves the webhooks yet.
    let vault = ["--set=osm.certificateProvider.kind=vault,osm.vault.host=vault.example,osm.vault.token=token"];
    let more = ["--set=osm.osmController.autoScale.enable=true", "--set=osm.networkPolicy.egress.enabled=true"];
    cluster.operator("install", &[vault[0], more[0], more[1]]).await?;
    pod_is_admitted(&cluster).await?;
    let root = ["--namespace", NAMESPACE, "meshrootcertificate", "osm-mesh-root-certificate"];
    ensure!(cluster.get(&root).await?["spec"]["provider"]["vault"]["host"] == "vault.example");

    // A rotation changes the role; an upgrade does not change it back.
    let patch = r#"{"spec":{"role":"passive"}}"#;
    let arguments = ["patch", "--namespace", NAMESPACE, root[2], root[3], "--type=merge", "--patch", patch];
    cluster.kubectl().output(&arguments).await?;
    cluster.operator("upgrade", &[vault[0], "--set=osm.osmController.replicaCount=3"]).await?;
    ensure!(cluster.get(&root).await?["spec"]["role"] == "passive", "the role is left to whoever rotates roots");
    Ok(())
}

#[tokio::test]
async fn kustomize_installs_at_once_and_helm_takes_it_over() -> Result<()> {
    let cluster = Cluster::start(KubernetesVersion::NEWEST).await?;
    let folder = path(&Repository::this().config("default"));
    let apply = ["apply", "--server-side", "--kustomize", &folder];
    cluster.kubectl().output(&apply).await?;
    cluster.kubectl().output(&ESTABLISHED).await?;
    pod_is_admitted(&cluster).await?;
    add_bundle(&cluster).await?;
    let before = cluster.inventory().await?;
    cluster.kubectl().output(&apply).await?;
    assert_eq!(cluster.inventory().await?, before, "applied again, it changes nothing");
    cluster.operator("install", &["--take-ownership", "--force-conflicts"]).await?;
    let made = of_release(&cluster.inventory().await?, &before);
    assert_eq!(
        made.iter().map(|name| name.kind.as_str()).collect::<Vec<_>>(),
        ["Secret"],
        "only helm's record: {made:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_second_release_of_one_mesh_is_refused_and_another_mesh_is_not() -> Result<()> {
    let cluster = Cluster::start(KubernetesVersion::NEWEST).await?;
    cluster.install_crds().await?;
    cluster.operator("install", &[]).await?;
    cluster.namespace("other-system").await?;
    let before = cluster.inventory().await?;
    let chart = path(&Repository::this().operator_chart());
    let second = ["install", "second", &chart, "--namespace", "other-system", "--wait=false"];
    let refused = cluster.helm(&second).await.unwrap_err().to_string();
    ensure!(
        refused.contains("osm-operator-osm") && refused.contains("release"),
        "names what there is already: {refused}"
    );
    assert_eq!(of_release(&cluster.inventory().await?, &before), [], "and leaves nothing behind");
    let mut other = second.to_vec();
    other.extend(["--set=osm.meshName=other", "--set=osm.enforceSingleMesh=false"]);
    cluster.helm(&other).await.map(drop)
}

#[tokio::test]
async fn the_control_plane_may_do_its_work_and_no_more() -> Result<()> {
    let cluster = Cluster::start(KubernetesVersion::NEWEST).await?;
    cluster.install_crds().await?;
    cluster.operator("install", &[]).await?;
    let kubeconfig = cluster.server.kubeconfig_for_service_account(NAMESPACE, "osm-controller").await?;
    let control_plane = cluster.kubectl().with_kubeconfig(&kubeconfig);
    let object = |kind: &str, namespace: &str, name: &str| {
        json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": { "name": name, "namespace": namespace },
            "data": { "ca.crt": "YQ==" },
        })
        .to_string()
    };
    // What it may and what it may not write.
    let table = [
        ("ConfigMap", "default", "osm-trust-bundle", true),
        ("ConfigMap", "default", "something", false),
        // It makes one where there is none, and changes none that is there.
        ("Secret", NAMESPACE, "osm-ca-bundle", false),
        ("Secret", NAMESPACE, "something", false),
        ("Secret", "default", "osm-ca-bundle", false),
    ];
    let apply = ["apply", "--server-side", "--field-manager=osm-operator", "--validate=false", "--filename=-"];
    for (kind, namespace, name, allowed) in table {
        let output = control_plane.run_with_input(&apply, &object(kind, namespace, name)).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() == allowed, "{kind} {namespace}/{name}: {said}");
        ensure!(allowed || said.contains("forbidden"), "{said}");
    }
    let can = async |arguments: &[&str]| -> Result<bool> {
        let mut all = vec!["auth", "can-i"];
        all.extend(arguments);
        let output = control_plane.run(&all).await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim() == "yes")
    };
    let table: [(&[&str], bool); 17] = [
        (&["watch", "pods", "--all-namespaces"], true),
        (&["watch", "trafficsplits.split.smi-spec.io", "--all-namespaces"], true),
        (&["patch", "meshconfigs.config.openservicemesh.io", "--subresource=status", "--all-namespaces"], true),
        (&["create", "meshconfigs.config.openservicemesh.io", "--namespace", NAMESPACE], true),
        (&["update", "leases.coordination.k8s.io/osm-controller", "--namespace", NAMESPACE], true),
        (&["create", "tokenreviews.authentication.k8s.io"], true),
        (&["patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/osm-webhook-osm"], true),
        (&["patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/another"], false),
        (&["create", "secrets", "--namespace", NAMESPACE], true),
        (&["get", "secrets/osm-ca-bundle", "--namespace", NAMESPACE], true),
        (&["get", "secrets/something", "--namespace", NAMESPACE], false),
        (&["list", "secrets", "--all-namespaces"], false),
        (&["list", "secrets", "--namespace", NAMESPACE], false),
        (&["patch", "trafficsplits.split.smi-spec.io", "--all-namespaces"], false),
        (&["create", "pods", "--namespace", "default"], false),
        (&["create", "meshconfigs.config.openservicemesh.io", "--namespace", "default"], false),
        (&["create", "clusterrolebindings.rbac.authorization.k8s.io"], false),
    ];
    for (arguments, expected) in table {
        ensure!(can(arguments).await? == expected, "{arguments:?} is not {expected}");
    }
    Ok(())
}

/// A copy of the chart of the definitions as an earlier version would have been: MeshConfig has no such field in `spec.sidecar`.
fn earlier_crds(folder: &Path, field: &str) -> Result<PathBuf> {
    let chart = folder.join("osm-operator-crds");
    let current = Repository::this().crds_chart();
    std::fs::create_dir_all(chart.join("templates"))?;
    for name in ["Chart.yaml", "values.yaml", "values.schema.json"] {
        std::fs::copy(current.join(name), chart.join(name))?;
    }
    let metadata = std::fs::read_to_string(chart.join("Chart.yaml"))?;
    std::fs::write(chart.join("Chart.yaml"), metadata.replace("\nversion: 0.1.0", "\nversion: 0.0.9"))?;
    for entry in std::fs::read_dir(current.join("templates"))? {
        let path = entry?.path();
        std::fs::copy(&path, chart.join("templates").join(path.file_name().context("a name")?))?;
    }
    let template = chart.join("templates/config.openservicemesh.io_meshconfigs.yaml");
    let text = std::fs::read_to_string(&template)?;
    let (head, spec) = text.split_once("\nspec:\n").context("a spec")?;
    let spec = spec.trim_end().strip_suffix("{{- end }}").context("an end")?;
    let mut spec: Value = serde_saphyr::from_str(&format!("spec:\n{spec}"))?;
    for version in spec["spec"]["versions"].as_array_mut().context("versions")? {
        let sidecar = "/schema/openAPIV3Schema/properties/spec/properties/sidecar/properties";
        if let Some(fields) = version.pointer_mut(sidecar).and_then(Value::as_object_mut) {
            fields.remove(field);
        }
    }
    std::fs::write(&template, format!("{head}\n{}{{{{- end }}}}\n", serde_saphyr::to_string(&spec)?))?;
    Ok(chart)
}

#[tokio::test]
async fn an_upgrade_of_the_definitions_brings_new_fields_and_keeps_objects() -> Result<()> {
    let cluster = Cluster::start(KubernetesVersion::NEWEST).await?;
    let folder = tempfile::tempdir()?;
    let release = ["osm-operator-crds", "--namespace", NAMESPACE, "--wait=false"];
    let earlier = path(&earlier_crds(folder.path(), "configResyncInterval")?);
    cluster.helm(&[&["install", release[0], &earlier][..], &release[1..]].concat()).await?;
    cluster.kubectl().output(&ESTABLISHED).await?;
    let config = |sidecar: Value| {
        json!({
            "apiVersion": "config.openservicemesh.io/v1alpha2",
            "kind": "MeshConfig",
            "metadata": { "name": "osm-mesh-config", "namespace": NAMESPACE },
            "spec": { "sidecar": sidecar },
        })
        .to_string()
    };
    cluster.kubectl().apply(&config(json!({ "logLevel": "debug" }))).await?;
    let new = config(json!({ "logLevel": "debug", "configResyncInterval": "30s" }));
    let refused = cluster.kubectl().apply(&new).await.unwrap_err().to_string();
    ensure!(refused.contains("configResyncInterval"), "the earlier version does not know it: {refused}");

    let current = path(&Repository::this().crds_chart());
    cluster.helm(&[&["upgrade", release[0], &current][..], &release[1..]].concat()).await?;
    ensure!(mesh_config(&cluster).await?["spec"]["sidecar"]["logLevel"] == "debug", "objects stay");
    // The API server takes the new schema over when it sees it.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while let Err(error) = cluster.kubectl().apply(&new).await {
        ensure!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    ensure!(mesh_config(&cluster).await?["spec"]["sidecar"]["configResyncInterval"] == "30s");
    Ok(())
}
