//! What is missing at the start, and what goes away later.

use anyhow::{Result, ensure};
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::world::{CONTROL_PLANE, LIMIT, MESH_CONFIG_PATH, SHOP, World, target, target_path};

/// The settings the chart would give.
fn preset() -> String {
    let spec = json!({ "traffic": { "enablePermissiveTrafficPolicyMode": true }, "observability": { "osmLogLevel": "debug" } });
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "namespace": CONTROL_PLANE, "name": "preset-mesh-config" },
        "data": { "preset-mesh-config.json": spec.to_string() },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_kinds_are_named_and_waited_for() -> Result<()> {
    let world = World::without_crds().await?;
    let operator = world.start_operator("a", &[]).await?;
    eventually("it says which kinds are missing", LIMIT, || async {
        let (code, body) = operator.get("/readyz").await?;
        let named = ["traffictargets.access.smi-spec.io", "meshconfigs.config.openservicemesh.io"];
        ensure!(code == 503 && named.iter().all(|name| body.contains(name)), "{code} {body}");
        Ok(())
    })
    .await?;
    ensure!(operator.get("/livez").await?.0 == 200, "it is alive all the same");
    world.install_crds().await?;
    operator.wait_until_ready().await?;
    world.apply(SHOP).await?;
    world.wait_ready(&target_path("buyer"), "0/0").await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_mesh_config_is_made_once_and_its_deletion_changes_nothing() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    world.apply(&preset()).await?;
    let operator = world.operator("a", &[]).await?;
    world.wait_ready(MESH_CONFIG_PATH, "0/0").await?;
    let permissive = || async {
        let mesh: Value = operator.json("/debug/mesh").await?;
        ensure!(mesh["settings"]["permissive"] == true, "{mesh}");
        anyhow::Ok(())
    };
    permissive().await?;
    // A user's settings are kept: neither this start nor another makes them anew.
    let patch = json!({ "spec": { "traffic": { "enableEgress": true } } }).to_string();
    let kubectl = world.server.kubectl();
    let config = ["meshconfig", "osm-mesh-config", "-n", CONTROL_PLANE];
    kubectl.output(&[&["patch"][..], &config, &["--type=merge", "--patch", &patch]].concat()).await?;
    let object = world.wait_ready(MESH_CONFIG_PATH, "0/0").await?;
    ensure!(object["spec"]["traffic"]["enableEgress"] == true && object["status"]["version"].is_string(), "{object}");

    eventually("logs follow it", LIMIT, || async {
        ensure!(operator.log().contains("\"level\":\"DEBUG\""), "no line at level debug");
        Ok(())
    })
    .await?;

    kubectl.output(&[&["delete"][..], &config].concat()).await?;
    // Later news are taken over, so the deletion was read, and changed nothing.
    world.apply(&target("second", "late", "routes")).await?;
    world.wait_ready(&target_path("second"), "0/0").await?;
    permissive().await?;
    ensure!(world.get(MESH_CONFIG_PATH).await.is_err(), "it is not made again while the process knows better");
    eventually("it is shown as a problem", LIMIT, || async {
        let problems = operator.json("/debug/problems").await?;
        ensure!(problems.to_string().contains("the MeshConfig was deleted"), "{problems}");
        let metrics = operator.get("/metrics").await?.1;
        ensure!(metrics.contains("osm_mesh_config_deleted 1"), "{metrics}");
        Ok(())
    })
    .await?;
    eventually("an event tells of it", LIMIT, || async {
        let query = ["get", "events", "-n", CONTROL_PLANE, "--field-selector=reason=Deleted", "-o", "json"];
        let events = kubectl.output(&query).await?;
        ensure!(events.contains("last settings stay in force"), "{events}");
        Ok(())
    })
    .await?;
    // Made again, all is well.
    let again = json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
        "metadata": { "name": "osm-mesh-config", "namespace": CONTROL_PLANE },
        "spec": { "traffic": { "enablePermissiveTrafficPolicyMode": true } },
    });
    world.apply(&again.to_string()).await?;
    world.wait_ready(MESH_CONFIG_PATH, "0/0").await?;
    let problems = operator.json("/debug/problems").await?;
    ensure!(!problems.to_string().contains("MeshConfig"), "{problems}");
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_proxies_are_let_in_than_the_mesh_config_allows_and_it_follows_live() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    world.apply(&preset()).await?;
    let operator = world.operator("a", &[]).await?;
    world.wait_ready(MESH_CONFIG_PATH, "0/0").await?;
    let kubectl = world.server.kubectl();
    let limit = |most: u32| {
        let patch = json!({ "spec": { "sidecar": { "maxDataPlaneConnections": most } } }).to_string();
        async move {
            let config = ["patch", "meshconfig", "osm-mesh-config", "-n", CONTROL_PLANE, "--type=merge", "--patch"];
            kubectl.output(&[&config[..], &[&patch]].concat()).await
        }
    };
    let first = world.proxy("api-0", "api", &[operator.xds]).await?;
    eventually("the first is served", LIMIT, || async {
        ensure!(first.look(|state| state.streams) == 1, "{:?}", first.look(|state| state.last_end.clone()));
        Ok(())
    })
    .await?;
    limit(1).await?;
    world.wait_ready(MESH_CONFIG_PATH, "1/1").await?;
    let second = world.proxy("buyer-0", "buyer", &[operator.xds]).await?;
    eventually("the second is refused and counted", LIMIT, || async {
        let end = second.look(|state| state.last_end.clone());
        ensure!(end.contains("the most that are allowed"), "{end:?}");
        let metrics = operator.get("/metrics").await?.1;
        let counted = metrics.lines().find_map(|line| line.strip_prefix("osm_proxy_max_connections_rejected_total "));
        ensure!(counted.is_some_and(|count| count.parse::<u64>().is_ok_and(|count| count > 0)), "{counted:?}");
        Ok(())
    })
    .await?;
    ensure!(first.look(|state| state.streams) == 1, "whoever is served already stays");
    limit(0).await?;
    eventually("without a limit it is let in", LIMIT, || async {
        let proxies = operator.json("/debug/proxies").await?;
        ensure!(proxies.as_array().is_some_and(|proxies| proxies.len() == 2), "{proxies}");
        Ok(())
    })
    .await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_costs_nothing_but_news() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    let operator = world.operator("a", &[]).await?;
    let proxy = world.proxy("api-0", "api", &[operator.xds]).await?;
    world.wait_ready(&target_path("buyer"), "1/1").await?;

    world.server.stop_api_server()?;
    let received = proxy.look(|state| state.received);
    ensure!(operator.get("/readyz").await?.0 == 200 && operator.get("/livez").await?.0 == 200, "it serves on");
    let snapshots = operator.json("/debug/snapshots").await?;
    world.server.start_api_server().await?;

    world.apply(&target("second", "late", "routes")).await?;
    world.wait_ready(&target_path("second"), "1/1").await?;
    ensure!(proxy.look(|state| state.streams) == 1, "the stream has lived through it");
    ensure!(proxy.look(|state| state.received) >= received);
    // Removed again, all is byte for byte as before: nothing else was made anew.
    world.server.kubectl().output(&["delete", "-n", "shop", "traffictarget/second"]).await?;
    eventually("everything is as before", LIMIT, || async {
        let now = operator.json("/debug/snapshots").await?;
        ensure!(now == snapshots, "it differs");
        Ok(())
    })
    .await?;
    operator.stop().await
}
