//! The life of an installation.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use osm_e2e::ClusterWorld;
use osm_testkit::eventually;
use serde_json::Value;

use crate::LIMIT;
use crate::application::{NAMESPACE, load, unharmed};
use crate::disturbances::pods;
use crate::providers::AUTHORITIES;

/// Under load: upgrades that change nothing, a rollback, a user's MeshConfig that survives both, and an uninstallation that leaves what
/// it promises to leave.
pub(crate) async fn life(world: &ClusterWorld) -> Result<()> {
    let load = load(world).await?;
    let edit = r#"{"spec":{"observability":{"osmLogLevel":"debug"}}}"#;
    let meshconfig = ["meshconfig", "osm-mesh-config", "-n", "osm-system"];
    world.kubectl().output(&[&["patch"][..], &meshconfig, &["--type=merge", "-p", edit]].concat()).await?;
    let spec = async || anyhow::Ok(world.json(&[&["get"][..], &meshconfig].concat()).await?["spec"].clone());
    let edited = spec().await?;
    ensure!(edited["observability"]["osmLogLevel"] == "debug", "the edit is there: {edited}");
    let before = made(world).await?;
    for _ in 0..2 {
        world.install().await?;
    }
    world.helm().run(&["rollback", "osm-operator", "1", "-n", "osm-system", "--wait", "--timeout", "180s"]).await?;
    let after = made(world).await?;
    ensure!(before == after, "upgrades with the same values changed something: {before:?} became {after:?}");
    ensure!(spec().await? == edited, "the MeshConfig was {edited}, and is {}", spec().await?);
    let pods_before = pods(world, NAMESPACE, "app=echo").await?;
    world.helm().run(&["uninstall", "osm-operator", "-n", "osm-system", "--wait", "--timeout", "180s"]).await?;
    eventually("only what is promised stays", LIMIT, || async {
        let left = inventory(world).await?;
        ensure!(left == promised(), "left: {left:#?}");
        Ok(())
    })
    .await?;
    ensure!(spec().await? == edited, "uninstalling changed the MeshConfig");
    // Proxies go on by what they have.
    unharmed(load).await?;
    let pods_after = pods(world, NAMESPACE, "app=echo").await?;
    ensure!(pods_before == pods_after, "applications go on: {pods_before:?} became {pods_after:?}");
    Ok(())
}

/// Generations of what the chart made: they rise with each change of a spec.
async fn made(world: &ClusterWorld) -> Result<Vec<String>> {
    let kinds = "deployments,poddisruptionbudgets,networkpolicies";
    let mut list = world.json(&["get", kinds, "-n", "osm-system"]).await?["items"].take();
    let webhooks = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
    let configurations = world.json(&["get", webhooks]).await?["items"].take();
    let all = [list.take(), configurations];
    let all = all.iter().filter_map(Value::as_array).flatten();
    Ok(all
        .map(|object| format!("{} {} {}", object["kind"], object["metadata"]["name"], object["metadata"]["generation"]))
        .collect())
}

/// Everything in the control plane's namespace, and in the whole cluster what is named after it, but events and what the cluster makes.
async fn inventory(world: &ClusterWorld) -> Result<BTreeSet<String>> {
    let all = async |arguments: &[&str]| {
        let names =
            world.kubectl().output(&[&["api-resources", "--verbs=list", "-o", "name"][..], arguments].concat()).await?;
        let kinds: Vec<&str> =
            names.lines().filter(|name| !name.starts_with("events") && !name.ends_with("metrics.k8s.io")).collect();
        anyhow::Ok(kinds.join(","))
    };
    let mut left = BTreeSet::new();
    let kinds = all(&["--namespaced=true"]).await?;
    let found = world.json(&["get", &kinds, "-n", "osm-system"]).await?;
    let kinds = all(&["--namespaced=false"]).await?;
    let global = world.json(&["get", &kinds]).await?;
    let names = |list: &Value| -> Vec<(String, String)> {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        items.iter().map(|item| (text(&item["kind"]), text(&item["metadata"]["name"]))).collect()
    };
    for (kind, name) in names(&found) {
        let of_cluster = name == "kube-root-ca.crt" || (kind == "ServiceAccount" && name == "default");
        // The other chart's release, with the CRDs.
        let of_helm = kind == "Secret" && name.starts_with("sh.helm.release.v1.osm-operator-crds.");
        if !of_cluster && !of_helm {
            left.insert(format!("{kind} {name}"));
        }
    }
    let ours = |(kind, name): &(String, String)| name.contains("osm") && kind != "Namespace" && kind != "APIService";
    left.extend(names(&global).iter().filter(|object| ours(object)).map(|(kind, name)| format!("{kind} {name}")));
    Ok(left)
}

/// As the chart's notes say it: the MeshConfig, roots and what is in force of them, and what pods of the mesh still need. CRDs have
/// names without `osm`.
fn promised() -> BTreeSet<String> {
    let promised = [
        "MeshConfig osm-mesh-config",
        "MeshRootCertificate osm-mesh-root-certificate",
        "MeshRootCertificate next",
        "Secret osm-ca-bundle",
        "Secret next-root",
        "ConfigMap osm-rotation",
        "Lease osm-controller",
    ];
    let of_the_test = format!("ConfigMap {AUTHORITIES}");
    promised.map(ToOwned::to_owned).into_iter().chain([of_the_test]).collect()
}
