//! Workloads of every kind that a cluster has, in a meshed namespace where nothing is allowed but what policies say.

use anyhow::{Context as _, Result, ensure};
use osm_cluster::images;
use osm_e2e::ClusterWorld;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::LIMIT;
use crate::application::{NAMESPACE, URL, answered, load, service, unharmed};

/// The Service's address of the other family reaches the same pods, by the same policy.
pub(crate) async fn ipv6(world: &ClusterWorld) -> Result<()> {
    let found = world.json(&["get", "service", "-n", NAMESPACE, "echo"]).await?;
    let addresses = found["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let address = addresses.into_iter().find(|address| address.contains(':')).context("an IPv6 address")?;
    let url = format!("http://[{address}]:8080/");
    answered(world, "caller", &url).await?;
    let report = world.control("other").get(&url, 3).await?;
    ensure!(report.successes() == 0, "nobody granted it, and yet: {report:?}");
    Ok(())
}

/// Under load, a Job, a run of a CronJob, and a StatefulSet that is called by its pods' names.
pub(crate) async fn of_every_kind(world: &ClusterWorld) -> Result<()> {
    let load = load(world).await?;
    let tools = tokio::task::spawn_blocking(images::busybox).await??;
    world.cluster().load_image(&tools)?;
    let image = tools.reference();
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "namespace": NAMESPACE, "name": "nightly" },
        "spec": { "schedule": "0 0 1 1 *", "jobTemplate": { "spec": task(image) } },
    });
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "namespace": NAMESPACE, "name": "once" },
        "spec": task(image),
    });
    world.apply_objects(&[job, cron]).await?;
    world.apply_objects(&stateful(world)).await?;
    world.kubectl().output(&["create", "job", "-n", NAMESPACE, "run", "--from=cronjob/nightly"]).await?;
    world.rolled_out(NAMESPACE, "statefulset/store").await?;
    for name in ["store-0", "store-1"] {
        let report = answered(world, "caller", &format!("http://{name}.store.{NAMESPACE}:8081/")).await?;
        ensure!(report.successes() == 3, "{report:?}");
    }
    for name in ["once", "run"] {
        finished(world, name).await?;
    }
    unharmed(load).await.map(drop)
}

/// A Job's pod ends, sidecar and all.
async fn finished(world: &ClusterWorld, name: &str) -> Result<()> {
    let job = format!("job/{name}");
    let waited =
        world.kubectl().output(&["wait", "-n", NAMESPACE, "--for=condition=Complete", "--timeout=180s", &job]).await;
    if let Err(error) = waited {
        let selector = format!("job-name={name}");
        let described = world.kubectl().output(&["describe", "pods", "-n", NAMESPACE, "-l", &selector]).await;
        return Err(error.context(described.unwrap_or_default()));
    }
    eventually("its pod has ended", LIMIT, || async {
        let list = world.json(&["get", "pods", "-n", NAMESPACE, "-l", &format!("job-name={name}")]).await?;
        let phases: Vec<_> =
            list["items"].as_array().into_iter().flatten().map(|pod| &pod["status"]["phase"]).collect();
        ensure!(phases.contains(&&json!("Succeeded")), "{phases:?}");
        Ok(())
    })
    .await
}

/// What a Job does: it asks the server in an init container, and again in its container.
fn task(image: &str) -> Value {
    let ask = |name: &str| {
        json!({
            "name": name, "image": image, "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-c", format!("timeout 60 wget -q -O - {URL}")],
        })
    };
    json!({ "backoffLimit": 0, "template": { "spec": {
        "serviceAccountName": "caller",
        "restartPolicy": "Never",
        "initContainers": [ask("before")],
        "containers": [ask("work")],
    } } })
}

fn stateful(world: &ClusterWorld) -> [Value; 2] {
    let arguments = ["http-echo", "--listen", "[::]:8081", "--name", "store"];
    let mut set = world.deployment(NAMESPACE, "store", "echo", &arguments);
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!("store");
    set["spec"]["replicas"] = json!(2);
    set["spec"].as_object_mut().unwrap().remove("strategy");
    let mut headless = service("store", 8081, "http");
    headless["spec"]["clusterIP"] = json!("None");
    [headless, set]
}
