//! Settings of the MeshConfig that the control plane itself follows while it runs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use osm_e2e::ClusterWorld;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::LIMIT;

/// `osmLogLevel` and `enableDebugServer` are followed by every replica without a restart. Who asks over the network sees the pages
/// below `/debug` as long as they are enabled.
pub(crate) async fn followed_live(world: &ClusterWorld) -> Result<()> {
    set(world, "info", false).await?;
    let replicas = eventually("there are two replicas", LIMIT, || async {
        let replicas = replicas(world).await?;
        ensure!(replicas.len() == 2, "{replicas:?}");
        Ok(replicas)
    })
    .await?;
    visible(world, &replicas, false).await?;
    let mut former = BTreeMap::new();
    for pod in replicas.keys() {
        former.insert(pod, log(world, pod).await?.len());
    }
    // Each step is seen by its effect on the pages before the next is taken.
    set(world, "debug", true).await?;
    visible(world, &replicas, true).await?;
    set(world, "error", false).await?;
    visible(world, &replicas, false).await?;
    set(world, "error", true).await?;
    visible(world, &replicas, true).await?;
    set(world, "info", false).await?;
    visible(world, &replicas, false).await?;
    for (pod, lines) in former {
        eventually("the log goes on at level info", LIMIT, || async {
            let log = log(world, pod).await?.split_off(lines);
            let last = log.iter().rfind(|line| line["fields"]["message"] == "log level");
            ensure!(last.is_some_and(|line| line["fields"]["level"] == "info"), "{pod}: {log:#?}");
            let at = |level: &str| log.iter().filter(|line| line["level"] == level).count();
            ensure!(at("DEBUG") > 0, "{pod} says nothing at level debug: {log:#?}");
            let enabled: Vec<_> =
                log.iter().map(|line| &line["fields"]["enabled"]).filter(|it| it.is_boolean()).collect();
            // What was logged before and after; not that they were enabled at level error, and disabled again.
            ensure!(enabled == [true, false], "{pod}: {log:#?}");
            Ok(())
        })
        .await?;
    }
    let after = self::replicas(world).await?;
    ensure!(after == replicas, "{replicas:?} became {after:?}");
    Ok(())
}

async fn set(world: &ClusterWorld, level: &str, debug: bool) -> Result<()> {
    let patch =
        json!({ "spec": { "observability": { "osmLogLevel": level, "enableDebugServer": debug } } }).to_string();
    let arguments = ["patch", "meshconfig", "osm-mesh-config", "-n", "osm-system", "--type=merge", "-p", &patch];
    world.kubectl().output(&arguments).await.map(drop)
}

/// Replicas of the control plane, and how often each was started anew.
async fn replicas(world: &ClusterWorld) -> Result<BTreeMap<String, u64>> {
    let list = world.json(&["get", "pods", "-n", "osm-system", "-l", "app=osm-controller"]).await?;
    let pods = list["items"].as_array().context("a list of pods")?;
    let of = |pod: &Value| {
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64()?;
        Some((pod["metadata"]["name"].as_str()?.to_owned(), restarts))
    };
    pods.iter().map(|pod| of(pod).with_context(|| format!("{pod}"))).collect()
}

/// Waits until every replica shows its pages below `/debug` to whoever asks over the network, or hides them.
async fn visible(world: &ClusterWorld, replicas: &BTreeMap<String, u64>, shown: bool) -> Result<()> {
    for pod in replicas.keys() {
        // By way of the API server, which is not on the pod's loopback interface.
        let page = |page: &str| format!("/api/v1/namespaces/osm-system/pods/{pod}:9091/proxy{page}");
        eventually("who may see /debug follows", LIMIT, || async {
            world.cluster().get(&page("/readyz")).await?;
            match (world.cluster().get(&page("/debug/mesh")).await, shown) {
                (Ok(mesh), true) => ensure!(mesh.contains("permissive"), "{mesh}"),
                (Err(error), false) => {
                    let said = format!("{error:#}");
                    ensure!(said.contains("404") && said.contains("spec.observability.enableDebugServer"), "{said}");
                }
                (answer, _) => anyhow::bail!("{answer:?}"),
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The lines of a replica's log.
async fn log(world: &ClusterWorld, pod: &str) -> Result<Vec<Value>> {
    let text = world.kubectl().output(&["logs", "-n", "osm-system", pod, "--tail=-1"]).await?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
