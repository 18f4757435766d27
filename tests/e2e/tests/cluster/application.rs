//! An application in two meshed namespaces: `caller` asks `echo`, which has two replicas, by policy alone.

use anyhow::{Result, ensure};
use osm_e2e::{ClusterWorld, ObjectKey};
use osm_testkit::apps::{LoadRequest, Report, RunningLoad, Target};
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::LIMIT;

/// Namespace of everything here.
pub(crate) const NAMESPACE: &str = "echoes";

/// What `caller` asks for.
pub(crate) const URL: &str = "http://echo.echoes:8080/";

/// A namespace of the mesh.
pub(crate) fn meshed(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name,
        "labels": { "openservicemesh.io/monitored-by": "osm" },
        "annotations": { "openservicemesh.io/sidecar-injection": "enabled" },
    } })
}

/// A ServiceAccount of this namespace.
pub(crate) fn account(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": NAMESPACE, "name": name } })
}

/// A Service of this namespace with both families of addresses, `app: <name>`.
pub(crate) fn service(name: &str, port: u16, protocol: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": NAMESPACE, "name": name }, "spec": {
        "selector": { "app": name },
        "ipFamilyPolicy": "RequireDualStack",
        "ports": [{ "name": protocol, "port": port, "targetPort": port, "appProtocol": protocol }],
    } })
}

/// Lets `sources` ask `destination` everything by HTTP.
pub(crate) fn grant(name: &str, destination: &str, sources: &[&str]) -> Value {
    let account = |name: &&str| json!({ "kind": "ServiceAccount", "name": name, "namespace": NAMESPACE });
    json!({
        "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": { "namespace": NAMESPACE, "name": name },
        "spec": {
            "destination": account(&destination),
            "rules": [{ "kind": "HTTPRouteGroup", "name": "everything" }],
            "sources": sources.iter().map(account).collect::<Vec<_>>(),
        },
    })
}

/// A server of two replicas that is replaced pod by pod, without a moment of fewer.
fn server(world: &ClusterWorld) -> Value {
    let arguments = ["http-echo", "--listen", "[::]:8080", "--name", "echo"];
    let mut deployment = world.deployment(NAMESPACE, "echo", "echo", &arguments);
    deployment["spec"]["replicas"] = json!(2);
    deployment["spec"]["strategy"] =
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } });
    let pod = &mut deployment["spec"]["template"]["spec"];
    // Clients learn of a removed pod a moment after it is told to end.
    pod["terminationGracePeriodSeconds"] = json!(30);
    pod["containers"][0]["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 5 } } });
    pod["containers"][0]["readinessProbe"] =
        json!({ "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 5 });
    deployment
}

/// Starts both, and waits until the caller is answered.
pub(crate) async fn start(world: &ClusterWorld) -> Result<()> {
    let routes = json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
        "metadata": { "namespace": NAMESPACE, "name": "everything" },
        "spec": { "matches": [{ "name": "everything", "pathRegex": ".*", "methods": ["*"] }] },
    });
    let objects = [
        meshed(NAMESPACE),
        account("echo"),
        account("caller"),
        account("other"),
        service("echo", 8080, "http"),
        routes,
        grant("echo", "echo", &["caller"]),
        server(world),
        world.deployment(NAMESPACE, "caller", "caller", &["client", "--name", "caller"]),
        world.deployment(NAMESPACE, "other", "other", &["client", "--name", "other"]),
    ];
    world.apply_objects(&objects).await?;
    for name in ["echo", "caller", "other"] {
        world.rolled_out(NAMESPACE, &format!("deployment/{name}")).await?;
    }
    world.wait_condition(&ObjectKey::new("TrafficTarget", NAMESPACE, "echo"), "Programmed").await?;
    answered(world, "caller", URL).await?;
    let report = world.control("other").get(URL, 3).await?;
    ensure!(report.successes() == 0, "nobody granted it, and yet: {report:?}");
    Ok(())
}

/// Waits until `from` is answered by `url`.
pub(crate) async fn answered(world: &ClusterWorld, from: &str, url: &str) -> Result<Report> {
    eventually(&format!("{from} is answered by {url}"), LIMIT, || async {
        let report = world.control(from).get(url, 3).await?;
        ensure!(report.successes() == 3, "{report:?}");
        Ok(report)
    })
    .await
}

/// Load of 20 requests a second, each with the time that a loaded machine needs.
pub(crate) async fn load(world: &ClusterWorld) -> Result<RunningLoad> {
    let request = LoadRequest { rate: Some(20), timeout_milliseconds: 20_000, ..LoadRequest::new(Target::get(URL)) };
    let load = world.load("caller", &request).await?;
    load.reach(20, LIMIT).await?;
    Ok(load)
}

/// Lets the load go on a little, and expects that nothing has failed.
pub(crate) async fn unharmed(load: RunningLoad) -> Result<u64> {
    let so_far = load.report().await?.attempts;
    load.reach(so_far + 40, LIMIT).await?;
    let report = load.finish().await?;
    ensure!(report.unsuccessful() == 0, "{} requests failed: {report:?}", report.unsuccessful());
    Ok(report.attempts)
}
