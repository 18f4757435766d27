//! What happens to nodes, applications and control planes, under load: no request fails.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use osm_e2e::{ClusterWorld, ObjectKey};
use osm_testkit::eventually;

use crate::LIMIT;
use crate::application::{NAMESPACE, URL, answered, grant, load, unharmed};

/// All pods of the server are replaced, one by one; then one is deleted.
pub(crate) async fn rolling_update(world: &ClusterWorld) -> Result<()> {
    let load = load(world).await?;
    world.restart(NAMESPACE, "echo").await?;
    let pods = pods(world, NAMESPACE, "app=echo").await?;
    let first = pods.first().context("the server has pods")?;
    world.kubectl().output(&["delete", "pod", "-n", NAMESPACE, first]).await?;
    world.rolled_out(NAMESPACE, "deployment/echo").await?;
    unharmed(load).await.map(drop)
}

/// The kubelet ends and comes back; pods and their proxies go on.
pub(crate) async fn kubelet_restarts(world: &ClusterWorld) -> Result<()> {
    let load = load(world).await?;
    world.cluster().restart_kubelet().await?;
    unharmed(load).await.map(drop)
}

/// Grants `other` what `caller` has, or takes it away.
pub(crate) async fn change(world: &ClusterWorld, granted: bool) -> Result<()> {
    let object = grant("other", "echo", &["other"]).to_string();
    eventually("the policy is changed", LIMIT, || async {
        if granted {
            world.kubectl().apply(&object).await
        } else {
            let name = "traffictarget/other";
            world.kubectl().output(&["delete", "-n", NAMESPACE, "--ignore-not-found", name]).await
        }
    })
    .await
    .map(drop)
}

/// The API server ends for a minute, that is 1,200 requests at 20 a second. Then a new policy takes effect.
pub(crate) async fn api_server_away(world: &ClusterWorld) -> Result<()> {
    let load = load(world).await?;
    let begin = load.report().await?.attempts;
    world.cluster().stop_api_server()?;
    let away = load.reach(begin + 1200, LIMIT).await;
    world.cluster().start_api_server().await?;
    away?;
    change(world, true).await?;
    world.wait_condition(&ObjectKey::new("TrafficTarget", NAMESPACE, "other"), "Programmed").await?;
    answered(world, "other", URL).await?;
    change(world, false).await?;
    eventually("the policy is gone", LIMIT, || async {
        let report = world.control("other").get(URL, 3).await?;
        ensure!(report.successes() == 0, "{report:?}");
        Ok(())
    })
    .await?;
    world.rolled_out("osm-system", "deployment/osm-controller").await?;
    unharmed(load).await.map(drop)
}

/// Names of the pods that a selector selects and that are not about to end.
pub(crate) async fn pods(world: &ClusterWorld, namespace: &str, selector: &str) -> Result<Vec<String>> {
    let list = world.json(&["get", "pods", "-n", namespace, "-l", selector]).await?;
    let living = list["items"].as_array().into_iter().flatten();
    let living = living.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(living.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect())
}

/// What the mesh says of itself: conditions of policies, versions of snapshots. An error while a pod is about to end, or a proxy is not
/// there or behind.
pub(crate) async fn state(world: &ClusterWorld) -> Result<BTreeMap<String, String>> {
    let expected = proxies(world).await?;
    let kinds = "traffictargets,httproutegroups,tcproutes,trafficsplits,meshconfigs,proxysnapshots";
    let list = world.json(&["get", kinds, "-A"]).await?;
    let mut state = BTreeMap::new();
    for object in list["items"].as_array().into_iter().flatten() {
        let (kind, meta, status) = (&object["kind"], &object["metadata"], &object["status"]);
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let conditions: BTreeMap<_, _> = conditions
            .map(|condition| (condition["type"].as_str().unwrap_or_default(), condition["status"].as_str()))
            .collect();
        if kind == "ProxySnapshot" {
            let identity = (text(&meta["namespace"]), text(&object["spec"]["serviceAccount"]));
            let pods = expected.get(&identity).copied().unwrap_or_default();
            let proxies = &status["proxies"];
            let all_run_it = proxies["connected"] == pods && proxies["synced"] == pods;
            ensure!(all_run_it, "{identity:?} has {pods} pods with a proxy: {status}");
        }
        let name = format!("{kind} {}/{}", meta["namespace"], meta["name"]);
        state.insert(name, format!("{conditions:?} {}", status["version"]));
    }
    Ok(state)
}

/// How many pods with a proxy each ServiceAccount has, by namespace and name.
async fn proxies(world: &ClusterWorld) -> Result<BTreeMap<(String, String), u64>> {
    let list = world.json(&["get", "pods", "-A"]).await?;
    let mut proxies = BTreeMap::new();
    for pod in list["items"].as_array().into_iter().flatten() {
        let (meta, spec) = (&pod["metadata"], &pod["spec"]);
        let mut containers = spec["initContainers"].as_array().into_iter().flatten();
        if containers.any(|container| container["name"] == "envoy") {
            ensure!(meta["deletionTimestamp"].is_null(), "{} is about to end", meta["name"]);
            *proxies.entry((text(&meta["namespace"]), text(&spec["serviceAccountName"]))).or_default() += 1;
        }
    }
    Ok(proxies)
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
