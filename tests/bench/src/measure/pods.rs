//! How much later a pod is ready because it has a sidecar, on a whole cluster.

use std::time::{Duration, Instant};

use anyhow::Context;
use osm_cluster::Lifetime;
use osm_e2e::{ClusterWorld, Programs};
use osm_testkit::{NEWEST_ENVOY, eventually};
use serde_json::{Value, json};

use crate::figure::{Figure, Goal};
use crate::measure::{Effort, progress};
use crate::statistics::Summary;

const LIMIT: Duration = Duration::from_secs(180);
/// Pairs whose images and caches are cold.
const WARM_UP: usize = 1;
/// Time between two looks at a Pod.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const NAMESPACES: [&str; 2] = ["bench-unmeshed", "bench-meshed"];

/// Starts pods in pairs, without and with a sidecar, one at a time.
///
/// # Errors
/// The cluster does not start, or a pod does not become ready.
pub async fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let programs = Programs::beside_this_one(NEWEST_ENVOY)?;
    let world = ClusterWorld::empty("bench", &programs, Lifetime::Owned).await?;
    world.install().await?;
    progress("pods: the cluster is up and the mesh installed");
    let client = osm_kubernetes::client(Some(&world.cluster().kubeconfig())).await?;
    let label = json!({ "openservicemesh.io/monitored-by": "osm" });
    let annotation = json!({ "openservicemesh.io/sidecar-injection": "enabled" });
    world
        .apply_objects(&[
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACES[0] } }),
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": NAMESPACES[1], "labels": label, "annotations": annotation,
            } }),
        ])
        .await?;
    // Kubernetes makes the account of a namespace a moment later.
    for namespace in NAMESPACES {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        eventually("the namespace has its account", LIMIT, || request(&client, "GET", &path, None)).await?;
    }
    let (mut plain, mut added) = (Vec::new(), Vec::new());
    for pair in 0..WARM_UP + effort.rounds {
        let without = ready(&client, &world, NAMESPACES[0], pair, 1).await?;
        let with = ready(&client, &world, NAMESPACES[1], pair, 2).await?;
        if pair >= WARM_UP {
            plain.push(without);
            added.push(with - without);
        }
    }
    let summary = |values| Summary::of(values).context("no pairs");
    Ok(vec![
        Figure::new(
            "pod_ready_overhead_ms",
            Goal::Record,
            summary(added)?,
            "milliseconds that a Pod with a sidecar takes longer from its creation until it is ready than one without, in pairs, one \
             at a time, images on the node; kubelet, containerd, API server and control plane share the machine",
        ),
        Figure::new(
            "pod_ready_ms_unmeshed",
            Goal::Record,
            summary(plain)?,
            "milliseconds from the creation of the Pod without a sidecar until it is ready",
        ),
    ])
}

/// Milliseconds until a new Pod is ready; it must have as many containers as said, init containers that go on included.
async fn ready(
    client: &kube::Client,
    world: &ClusterWorld,
    namespace: &str,
    number: usize,
    least_containers: usize,
) -> anyhow::Result<f64> {
    let name = format!("{namespace}-{number}");
    let deployment = world.deployment(namespace, &name, "default", &["client", "--name", &name]);
    let template = &deployment["spec"]["template"];
    let mut pod =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
    pod["metadata"]["name"] = name.clone().into();
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let path = format!("{pods}/{name}");
    let start = Instant::now();
    request(client, "POST", &pods, Some(&pod)).await?;
    let limit = start + LIMIT;
    let found = loop {
        let found = request(client, "GET", &path, None).await?;
        let conditions = found["status"]["conditions"].as_array().into_iter().flatten();
        if conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
            break found;
        }
        anyhow::ensure!(Instant::now() < limit, "{path} is not ready within {LIMIT:?}: {}", found["status"]);
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let took = start.elapsed();
    let containers = ["containers", "initContainers"].map(|field| found["spec"][field].as_array().map_or(0, Vec::len));
    let containers: usize = containers.iter().sum();
    anyhow::ensure!(
        if least_containers == 1 { containers == 1 } else { containers >= least_containers },
        "{path} has {containers} containers"
    );
    request(client, "DELETE", &format!("{path}?gracePeriodSeconds=0"), None).await?;
    Ok(took.as_secs_f64() * 1e3)
}

async fn request(client: &kube::Client, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", "application/json").body(body)?;
    client.request(request).await.with_context(|| format!("{method} {path}"))
}
