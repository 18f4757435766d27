//! Several replicas: one writes, all count.

use anyhow::{Context, Result, ensure};
use osm_testkit::eventually;
use serde_json::json;

use crate::world::{CONTROL_PLANE, LIMIT, Operator, SHOP, World, target, target_path};

/// Makes the pod of a replica, so that the others find it.
pub(crate) async fn announce(world: &World, name: &str, operator: &Operator) -> Result<()> {
    let pod = format!("osm-controller-{name}");
    world
        .apply(
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "namespace": CONTROL_PLANE, "name": pod, "labels": { "app": "osm-controller" } },
                "spec": { "serviceAccountName": "osm-controller", "containers": [{
                    "name": "osm-controller", "image": "osm-operator",
                    "ports": [{ "name": "admin", "containerPort": operator.admin.port() }],
                }] },
            })
            .to_string(),
        )
        .await?;
    let status = json!({ "status": { "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }] } });
    let patch = ["patch", "pod", &pod, "-n", CONTROL_PLANE, "--subresource=status", "--type=merge"];
    world.server.kubectl().output(&[&patch[..], &["--patch", &status.to_string()]].concat()).await?;
    Ok(())
}

/// The ServiceAccount of the replicas' pods.
pub(crate) fn account() -> String {
    let metadata = json!({ "namespace": CONTROL_PLANE, "name": "osm-controller" });
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }).to_string()
}

/// The replica that holds the Lease.
pub(crate) async fn holder(world: &World) -> Result<String> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{CONTROL_PLANE}/leases/osm-controller");
    eventually("a replica holds the Lease", LIMIT, || async {
        let lease = world.get(&path).await?;
        let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
        let (replica, _) = holder.context("nobody holds it")?.split_once('_').context("the replica's name is in it")?;
        Ok(replica.trim_start_matches("osm-controller-").to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_replicas_writes_for_all_and_another_takes_over() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    world.apply(&account()).await?;
    let mut operators = Vec::new();
    for name in ["a", "b", "c"] {
        let operator = world.operator(name, &["--lease-duration-seconds", "6", "--settling-seconds", "1"]).await?;
        announce(&world, name, &operator).await?;
        operators.push((name, operator));
    }
    // Each proxy is at another replica first.
    let [a, b, c] = [&operators[0].1, &operators[1].1, &operators[2].1].map(|operator| operator.xds);
    let _api = world.proxy("api-0", "api", &[b, c, a]).await?;
    let _buyer = world.proxy("buyer-0", "buyer", &[c, a, b]).await?;
    world.wait_ready(&target_path("buyer"), "2/2").await?;

    let leader = holder(&world).await?;
    let writers = |writes: &[(String, String, String)]| {
        let statuses = writes.iter().filter(|(_, _, what)| what.starts_with("traffictargets/"));
        statuses.map(|(user, ..)| user.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    ensure!(
        writers(&world.operator_writes()?) == [format!("operator-{leader}")].into(),
        "{:?}",
        world.operator_writes()?
    );

    // A change is acknowledged at replicas that do not write, and is written by the one that does.
    world.apply(&target("buyer", "late", "routes")).await?;
    world.wait_ready(&target_path("buyer"), "1/1").await?;
    world.apply(&target("buyer", "buyer", "routes")).await?;
    world.wait_ready(&target_path("buyer"), "2/2").await?;
    ensure!(writers(&world.operator_writes()?) == [format!("operator-{leader}")].into());

    let before = world.operator_writes()?.len();
    let position = operators.iter().position(|(name, _)| *name == leader).context("one of ours leads")?;
    let (_, killed) = operators.remove(position);
    killed.kill().await?;
    world
        .server
        .kubectl()
        .output(&[
            "delete",
            "pod",
            "-n",
            CONTROL_PLANE,
            &format!("osm-controller-{leader}"),
            "--grace-period=0",
            "--force",
        ])
        .await?;
    world.apply(&target("second", "buyer", "routes")).await?;
    world.wait_ready(&target_path("second"), "2/2").await?;
    let successor = holder(&world).await?;
    ensure!(successor != leader, "{successor}");
    let writes = world.operator_writes()?;
    // What was under way when it was killed may still be its.
    let mut since = writes[before..].iter().skip_while(|(user, ..)| *user == format!("operator-{leader}")).peekable();
    ensure!(since.peek().is_some(), "{:?}", &writes[before..]);
    ensure!(since.all(|(user, ..)| *user == format!("operator-{successor}")), "{:?}", &writes[before..]);
    for (_, operator) in operators {
        operator.stop().await?;
    }
    Ok(())
}
