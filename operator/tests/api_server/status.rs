//! Conditions, counts, events and snapshot objects.

use anyhow::{Context, Result, ensure};
use osm_testkit::eventually;
use serde_json::json;

use crate::world::{LIMIT, SHOP, World, condition, snapshot_path, target, target_path};

fn is(status: &serde_json::Value, type_: &str, wanted: &str, reason: &str) -> bool {
    condition(status, type_) == Some((wanted.to_owned(), reason.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_follow_an_object_from_its_creation_to_its_repair() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    let operator = world.operator("a", &[]).await?;
    world.wait_ready(&target_path("buyer"), "0/0").await?;

    let _api = world.proxy("api-0", "api", &[operator.xds]).await?;
    let _buyer = world.proxy("buyer-0", "buyer", &[operator.xds]).await?;
    let object = world.wait_ready(&target_path("buyer"), "2/2").await?;
    ensure!(
        object["metadata"]["managedFields"]
            .as_array()
            .context("there are managers")?
            .iter()
            .all(|entry| { entry["manager"] != "osm-operator" || entry["subresource"] == "status" }),
        "only status is ours: {object}"
    );

    // A reference to nothing: said on the object, with an event, and mended by itself when it is there.
    world.apply(&target("buyer", "buyer", "missing")).await?;
    let object = world
        .wait_for_status(&target_path("buyer"), "the reference is missed", |status| {
            is(status, "ResolvedRefs", "False", "RouteNotFound") && is(status, "Stalled", "True", "RouteNotFound")
        })
        .await?;
    ensure!(object["status"]["observedGeneration"] == object["metadata"]["generation"]);
    let event = eventually("an event tells it", LIMIT, || async {
        let events = world.get("/apis/events.k8s.io/v1/namespaces/shop/events").await?;
        let found =
            events["items"].as_array().into_iter().flatten().find(|event| event["reason"] == "RouteNotFound").cloned();
        found.with_context(|| events.to_string())
    })
    .await?;
    ensure!(event["type"] == "Warning" && event["regarding"]["name"] == "buyer", "{event}");
    world
        .apply(
            &json!({
                "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
                "metadata": { "namespace": "shop", "name": "missing" },
                "spec": { "matches": [{ "name": "all", "pathRegex": "/.*", "methods": ["GET"] }] },
            })
            .to_string(),
        )
        .await?;
    let object = world.wait_ready(&target_path("buyer"), "2/2").await?;
    ensure!(condition(&object["status"], "Stalled").is_none() && condition(&object["status"], "Reconciling").is_none());

    // kubectl's own judgement.
    let kubectl = world.server.kubectl();
    kubectl
        .output(&["wait", "--for=condition=Programmed", "--timeout=60s", "-n", "shop", "traffictarget/buyer"])
        .await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_has_a_snapshot_object_as_long_as_it_is_there() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    // Left behind by a control plane that ended while its workload went.
    world
        .apply(
            &json!({
                "apiVersion": "snapshot.openservicemesh.io/v1alpha1", "kind": "ProxySnapshot",
                "metadata": { "namespace": "shop", "name": "orphan", "labels": {
                    "app.kubernetes.io/name": "openservicemesh.io", "app.kubernetes.io/instance": "osm",
                    "app.kubernetes.io/managed-by": "osm-operator",
                } },
                "spec": { "serviceAccount": "orphan" },
            })
            .to_string(),
        )
        .await?;
    let operator = world.operator("a", &[]).await?;
    let _api = world.proxy("api-0", "api", &[operator.xds]).await?;
    let snapshot = world
        .wait_for_status(&snapshot_path("api"), "the proxy is in sync", |status| status["proxies"]["summary"] == "1/1")
        .await?;
    ensure!(snapshot["spec"]["serviceAccount"] == "api", "{snapshot}");
    let contributors = snapshot["status"]["contributors"].to_string();
    ensure!(contributors.contains("traffictarget/shop/buyer"), "{contributors}");
    let table = world.server.kubectl().output(&["get", "proxysnapshots", "-A"]).await?;
    ensure!(table.contains("1/1"), "{table}");

    eventually("the orphan is removed", LIMIT, || async {
        ensure!(world.get(&snapshot_path("orphan")).await.is_err(), "it is still there");
        Ok(())
    })
    .await?;
    let kubectl = world.server.kubectl();
    kubectl.output(&["delete", "-n", "shop", "pod/buyer-0", "--grace-period=0", "--force"]).await?;
    kubectl.output(&["delete", "-n", "shop", "serviceaccount/buyer"]).await?;
    eventually("its snapshot object goes with the workload", LIMIT, || async {
        ensure!(world.get(&snapshot_path("buyer")).await.is_err(), "it is still there");
        Ok(())
    })
    .await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_takes_its_proxy_along() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    let operator = world.operator("a", &[]).await?;
    let proxy = world.proxy("buyer-0", "buyer", &[operator.xds]).await?;
    eventually("the proxy is served", LIMIT, || async {
        ensure!(proxy.look(|state| state.streams) == 1, "{:?}", proxy.look(|state| state.last_end.clone()));
        Ok(())
    })
    .await?;
    let kubectl = world.server.kubectl();
    kubectl.output(&["delete", "-n", "shop", "pod/buyer-0", "--grace-period=0", "--force"]).await?;
    eventually("its streams end and it is refused, though its certificate is good", LIMIT, || async {
        let (streams, end) = proxy.look(|state| (state.streams, state.last_end.clone()));
        ensure!(streams == 1 && end.contains("there is no pod"), "{streams} streams, the last ended by {end}");
        Ok(())
    })
    .await?;
    let proxies = operator.json("/debug/proxies").await?;
    ensure!(proxies == json!([]), "{proxies}");
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_writes_nothing_where_nothing_differs() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    let operator = world.operator("a", &[]).await?;
    let proxies =
        [world.proxy("api-0", "api", &[operator.xds]).await?, world.proxy("buyer-0", "buyer", &[operator.xds]).await?];
    world.wait_ready(&target_path("buyer"), "2/2").await?;
    for account in ["api", "buyer"] {
        let in_sync = |status: &serde_json::Value| status["proxies"]["summary"] == "1/1";
        world.wait_for_status(&snapshot_path(account), "the proxy is in sync", in_sync).await?;
    }
    let listen = operator.xds.to_string();
    operator.stop().await?;
    let before = world.operator_writes()?;
    ensure!(before.iter().any(|(_, verb, what)| verb == "patch" && what == "traffictargets/shop/buyer"), "{before:?}");

    // Long, so that a loaded machine brings all proxies back in time.
    let operator = world.operator("b", &["--listen", &listen, "--settling-seconds", "20"]).await?;
    // Counts that differ are written once proxies have had time to come back, all objects' at the same time. This proxy is new.
    let _late = world.proxy("late-0", "late", &[operator.xds]).await?;
    let in_sync = |status: &serde_json::Value| status["proxies"]["summary"] == "1/1";
    world.wait_for_status(&snapshot_path("late"), "the new proxy is counted", in_sync).await?;
    let all = world.operator_writes()?;
    let after: Vec<&str> = all.iter().filter(|(user, ..)| user == "operator-b").map(|(_, _, what)| &**what).collect();
    ensure!(after == ["proxysnapshots/shop/late"], "{after:?}");
    ensure!(proxies.iter().all(|proxy| proxy.look(|state| state.streams) == 2), "both proxies came back");
    operator.stop().await
}
