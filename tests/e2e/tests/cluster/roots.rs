//! The root of the mesh is replaced under load, by editing roles as a user does.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use osm_e2e::ClusterWorld;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::LIMIT;
use crate::application::{NAMESPACE, load, unharmed};

const CONTROL_PLANE: &str = "osm-system";
/// The root that signs from the beginning, as OSM's own object names it.
const FIRST: (&str, &str) = ("osm-mesh-root-certificate", "osm-ca-bundle");
/// The one that takes its place, in the Secret that the installation grants.
const NEXT: (&str, &str) = ("next", "next-root");

/// No request fails, no container starts again, and both replicas, the webhooks, every namespace and every proxy have come along.
pub(crate) async fn replaced(world: &ClusterWorld) -> Result<()> {
    let before = restarts(world).await?;
    let load = load(world).await?;
    set(world, FIRST, "active").await?;
    state(world, FIRST, "active").await?;
    set(world, NEXT, "passive").await?;
    state(world, NEXT, "validatingRollout").await?;
    set(world, NEXT, "active").await?;
    set(world, FIRST, "passive").await?;
    state(world, NEXT, "active").await?;
    set(world, FIRST, "inactive").await?;
    state(world, FIRST, "inactive").await?;
    let status = state(world, NEXT, "active").await?;
    let counts = status["propagation"]["acked"].as_str().unwrap_or_default().split_once('/');
    ensure!(counts.is_some_and(|(acknowledged, all)| acknowledged == all && all != "0"), "{status}");
    let components = &status["componentStatuses"];
    for (component, usage) in [
        ("sidecar", "issuing"),
        ("xdsControlPlane", "issuing"),
        ("bootstrap", "validating"),
        ("mutatingWebhook", "validating"),
        ("validatingWebhook", "validating"),
    ] {
        ensure!(components[component] == usage, "{component} of {components}");
    }
    one_root_everywhere(world).await?;
    unharmed(load).await?;
    let after = restarts(world).await?;
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}

async fn set(world: &ClusterWorld, (name, secret): (&str, &str), role: &str) -> Result<()> {
    let root = json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshRootCertificate",
        "metadata": { "namespace": CONTROL_PLANE, "name": name },
        "spec": { "role": role, "provider": { "tresor": { "ca": { "secretRef": {
            "name": secret, "namespace": CONTROL_PLANE,
        } } } } },
    });
    world.apply_objects(&[root]).await
}

/// Waits until a root has come to a state, and its status is about what was asked for last.
async fn state(world: &ClusterWorld, (name, _): (&str, &str), state: &str) -> Result<Value> {
    eventually(&format!("{name} is {state}"), LIMIT, || async {
        let root = world.json(&["get", "mrc", name, "-n", CONTROL_PLANE]).await?;
        let status = &root["status"];
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        let is_current = status["observedGeneration"] == root["metadata"]["generation"];
        ensure!(ready && is_current && status["state"] == state, "{status}");
        Ok(status.clone())
    })
    .await
}

/// The namespaces' ConfigMaps and the webhooks trust one root, the same.
async fn one_root_everywhere(world: &ClusterWorld) -> Result<()> {
    let maps = world.json(&["get", "configmaps", "-A", "--field-selector=metadata.name=osm-trust-bundle"]).await?;
    let maps = maps["items"].as_array().cloned().unwrap_or_default();
    ensure!(!maps.is_empty(), "no namespace has a trust bundle");
    for map in maps {
        let roots = map["data"].to_string().matches("BEGIN CERTIFICATE").count();
        ensure!(roots == 1, "{roots} roots in {}", map["metadata"]["namespace"]);
    }
    Ok(())
}

/// How often each container of the test's applications and of the control plane started again.
async fn restarts(world: &ClusterWorld) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for namespace in [NAMESPACE, CONTROL_PLANE] {
        let pods = world.json(&["get", "pods", "-n", namespace]).await?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let statuses = ["containerStatuses", "initContainerStatuses"];
            for status in statuses.iter().flat_map(|kind| pod["status"][*kind].as_array().into_iter().flatten()) {
                let name = format!("{namespace}/{}/{}", pod["metadata"]["name"], status["name"]);
                all.insert(name, status["restartCount"].as_u64().unwrap_or_default());
            }
        }
    }
    Ok(all)
}
