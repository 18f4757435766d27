//! Workloads of every kind that a cluster has, in a meshed namespace where nothing is allowed but what policies say.

use anyhow::{Context as _, Result, ensure};
use osm_cluster::images;
use osm_e2e::ClusterWorld;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::LIMIT;
use crate::application::{NAMESPACE, URL, answered, load, service, unharmed};
use crate::disturbances::pods;

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

/// Under load, a Job, a run of a CronJob, a StatefulSet that is called by its pods' names, and a pod with probes of several kinds.
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
    world.apply_objects(&[probed(world), job, cron]).await?;
    world.apply_objects(&stateful(world)).await?;
    world.kubectl().output(&["create", "job", "-n", NAMESPACE, "run", "--from=cronjob/nightly"]).await?;
    world.rolled_out(NAMESPACE, "deployment/probed").await?;
    world.rolled_out(NAMESPACE, "statefulset/store").await?;
    for name in ["store-0", "store-1"] {
        let report = answered(world, "caller", &format!("http://{name}.store.{NAMESPACE}:8081/")).await?;
        ensure!(report.successes() == 3, "{report:?}");
    }
    for name in ["once", "run"] {
        finished(world, name).await?;
    }
    unharmed(load).await?;
    // All probes have been asked many times by now, and not one kept silent.
    for pod in pods(world, NAMESPACE, "app=probed").await? {
        let pod = world.json(&["get", "pod", "-n", NAMESPACE, &pod]).await?;
        for container in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            ensure!(container["ready"] == true && container["restartCount"] == 0, "{container}");
        }
    }
    Ok(())
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

/// HTTP, TCP and exec, for each of startup, liveness and readiness; nobody is granted anything here.
fn probed(world: &ClusterWorld) -> Value {
    let http = ["http-echo", "--listen", "[::]:8082", "--name", "probed-http"];
    let mut deployment = world.deployment(NAMESPACE, "probed", "other", &http);
    let tcp = ["tcp-echo", "--listen", "[::]:9001", "--name", "probed-tcp"];
    let mut second =
        world.deployment(NAMESPACE, "probed-tcp", "other", &tcp)["spec"]["template"]["spec"]["containers"][0].clone();
    let containers = &mut deployment["spec"]["template"]["spec"]["containers"];
    second["name"] = json!("tcp");
    let probe = |action: Value| {
        let mut probe = json!({ "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 10 });
        probe.as_object_mut().unwrap().extend(action.as_object().cloned().unwrap());
        probe
    };
    let http = probe(json!({ "httpGet": { "path": "/healthy", "port": 8082 } }));
    let tcp = probe(json!({ "tcpSocket": { "port": 9001 } }));
    let exec = probe(json!({ "exec": { "command": ["/usr/local/bin/osm-bookstore", "--version"] } }));
    containers[0]["startupProbe"] = http.clone();
    containers[0]["livenessProbe"] = http.clone();
    containers[0]["readinessProbe"] = http;
    second["startupProbe"] = exec;
    second["livenessProbe"] = tcp.clone();
    second["readinessProbe"] = tcp;
    containers.as_array_mut().unwrap().push(second);
    deployment
}
