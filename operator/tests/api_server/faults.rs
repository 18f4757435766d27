//! An API server that fails in every way, and what is served meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::front::{Fault, Front};
use crate::world::{LIMIT, Operator, Proxy, SHOP, World, condition, target, target_path};

/// Resources that a grant to one more workload, and its end, may bring a proxy; all it has would be many more.
const FEW: usize = 12;

/// Waits until the fault has met some requests.
async fn met(front: &Front) -> Result<()> {
    eventually("requests fail", LIMIT, || async {
        ensure!(front.failed() >= 3, "{} so far", front.failed());
        Ok(())
    })
    .await
}

async fn is_served_as_before(operator: &Operator, proxy: &Proxy, snapshots: &Value) -> Result<()> {
    for page in ["/livez", "/readyz"] {
        let (code, body) = operator.get(page).await?;
        ensure!(code == 200, "{page} says {code}: {body}");
    }
    ensure!(operator.json("/debug/snapshots").await? == *snapshots, "what is served has changed");
    ensure!(proxy.look(|state| state.streams) == 1, "the stream ended: {}", proxy.look(|state| state.last_end.clone()));
    Ok(())
}

/// News arrives, and everything is as before when it is taken back.
async fn news_arrives(world: &World, operator: &Operator, name: &str, snapshots: &Value) -> Result<()> {
    world.wait_ready(&target_path(name), "1/1").await?;
    world.server.kubectl().output(&["delete", "-n", "shop", &format!("traffictarget/{name}")]).await?;
    eventually("everything is as before", LIMIT, || async {
        ensure!(operator.json("/debug/snapshots").await? == *snapshots, "it differs");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_fails_in_any_way_takes_nothing_from_what_is_served() -> Result<()> {
    let world = World::start().await?;
    let front = Front::start(world.server.kubeconfig(), world.folder.path()).await?;
    // It begins with trouble, and waits.
    front.fail(Some(Fault::Status(500)));
    let operator = world.start_operator_as("a", front.kubeconfig(), &[]).await?;
    eventually("it says what it waits for", LIMIT, || async {
        let (code, body) = operator.get("/readyz").await?;
        ensure!(
            code == 503 && body.contains("waiting for the API server") && body.contains("the test says 500"),
            "{code} {body}"
        );
        Ok(())
    })
    .await?;
    front.fail(None);
    operator.wait_until_ready().await?;
    world.apply(SHOP).await?;
    let proxy = world.proxy("api-0", "api", &[operator.xds]).await?;
    world.wait_ready(&target_path("buyer"), "1/1").await?;
    let snapshots = operator.json("/debug/snapshots").await?;
    let received = proxy.look(|state| state.received);

    let faults = [Fault::Status(500), Fault::Status(429), Fault::Status(410), Fault::Status(403), Fault::Hang];
    for (index, fault) in faults.into_iter().enumerate() {
        front.fail(Some(fault));
        let name = format!("late-{index}");
        world.apply(&target(&name, "late", "routes")).await?;
        met(&front).await?;
        is_served_as_before(&operator, &proxy, &snapshots).await?;
        if let Fault::Status(code @ (500 | 403)) = fault {
            eventually("it is shown as a problem", LIMIT, || async {
                let problems = operator.json("/debug/problems").await?.to_string();
                ensure!(problems.contains(&format!("the test says {code}")), "{problems}");
                Ok(())
            })
            .await?;
        }
        front.fail(None);
        news_arrives(&world, &operator, &name, &snapshots).await?;
    }
    // A slow one delays news and nothing else.
    front.fail(Some(Fault::Slow(Duration::from_secs(2))));
    world.apply(&target("slow", "late", "routes")).await?;
    news_arrives(&world, &operator, "slow", &snapshots).await?;
    is_served_as_before(&operator, &proxy, &snapshots).await?;
    front.fail(None);
    eventually("no problem is left", LIMIT, || async {
        let problems = operator.json("/debug/problems").await?;
        ensure!(problems.as_array().is_some_and(Vec::is_empty), "{problems}");
        Ok(())
    })
    .await?;
    // Six times a change and its end, and nothing else was pushed.
    let pushed = proxy.look(|state| state.received) - received;
    ensure!(pushed <= 6 * FEW, "{pushed} resources were sent");
    operator.stop().await
}

/// Definitions of before, or of somebody else, let objects through that ours would not.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_only_a_looser_schema_takes_is_told_and_stops_nothing() -> Result<()> {
    let world = World::start().await?;
    let loose = json!([{
        "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    }]);
    let kubectl = world.server.kubectl();
    let crd = ["patch", "crd", "traffictargets.access.smi-spec.io", "--type=json", "--patch"];
    kubectl.output(&[&crd[..], &[&loose.to_string()]].concat()).await?;
    world.apply(SHOP).await?;
    let mut odd = serde_json::from_str::<Value>(&target("odd", "late", "routes"))?;
    odd["spec"]["rules"] = json!("all");
    let odd = odd.to_string();
    eventually("the looser schema is in force", LIMIT, || world.apply(&odd)).await?;
    let operator = world.operator("a", &[]).await?;
    world.wait_ready(&target_path("buyer"), "0/0").await?;
    let object = world
        .wait_for_status(&target_path("odd"), "it is told", |status| {
            condition(status, "Accepted") == Some(("False".to_owned(), "Undecodable".to_owned()))
        })
        .await?;
    ensure!(object["status"]["conditions"].to_string().contains("spec.rules"), "{object}");
    ensure!(
        operator.json("/debug/problems").await?.to_string().contains("spec.rules"),
        "it is a problem of the source"
    );
    // It was read before, turns bad, and its last good state stays in force.
    let snapshots = operator.json("/debug/snapshots").await?;
    let mut turned = serde_json::from_str::<Value>(&target("buyer", "buyer", "routes"))?;
    turned["spec"]["sources"] = json!(7);
    world.apply(&turned.to_string()).await?;
    world
        .wait_for_status(&target_path("buyer"), "it is told", |status| {
            condition(status, "Accepted") == Some(("False".to_owned(), "Undecodable".to_owned()))
        })
        .await?;
    ensure!(operator.json("/debug/snapshots").await? == snapshots, "its last good state stays in force");
    world.apply(&target("buyer", "buyer", "routes")).await?;
    world.wait_ready(&target_path("buyer"), "0/0").await?;
    operator.stop().await
}
