//! What draining a node asks of the control plane: its pods go by the Eviction API, as the PodDisruptionBudget allows.

use anyhow::{Context as _, Result, bail, ensure};
use osm_e2e::{ClusterWorld, ObjectKey};
use osm_testkit::eventually;
use serde_json::json;

use crate::LIMIT;
use crate::application::{NAMESPACE, URL, answered, load, unharmed};
use crate::disturbances::{change, pods};

const CONTROL_PLANE: &str = "osm-system";

/// Under load both replicas are asked to go at the same time, and one stays. When the leader has gone, another writes what proxies
/// acknowledge.
pub(crate) async fn of_the_leader(world: &ClusterWorld) -> Result<()> {
    let load = load(world).await?;
    world.rolled_out(CONTROL_PLANE, "deployment/osm-controller").await?;
    eventually("the budget allows one to go", LIMIT, || async {
        let budget = world.json(&["get", "poddisruptionbudget", "osm-controller", "-n", CONTROL_PLANE]).await?;
        ensure!(budget["status"]["disruptionsAllowed"] == 1, "{}", budget["status"]);
        Ok(())
    })
    .await?;
    let (leader, replicas) = eventually("a replica leads", LIMIT, || async {
        let (leader, replicas) = (leader(world).await?, pods(world, CONTROL_PLANE, "app=osm-controller").await?);
        ensure!(replicas.contains(&leader) && replicas.len() == 2, "{leader} of {replicas:?}");
        Ok((leader, replicas))
    })
    .await?;
    let other = replicas.iter().find(|name| **name != leader).context("there are two")?;
    let (leader_goes, other_goes) = tokio::try_join!(evict(world, &leader), evict(world, other))?;
    ensure!(leader_goes != other_goes, "{leader}: {leader_goes}, {other}: {other_goes}");
    if other_goes {
        eventually("the leader may go when the other has been replaced", LIMIT, || async {
            ensure!(evict(world, &leader).await?, "not yet");
            Ok(())
        })
        .await?;
    }
    eventually("another leads", LIMIT, || async {
        let successor = self::leader(world).await?;
        ensure!(successor != leader, "{leader} still does");
        Ok(())
    })
    .await?;
    change(world, true).await?;
    world.wait_condition(&ObjectKey::new("TrafficTarget", NAMESPACE, "other"), "Programmed").await?;
    answered(world, "other", URL).await?;
    change(world, false).await?;
    world.rolled_out(CONTROL_PLANE, "deployment/osm-controller").await?;
    unharmed(load).await.map(drop)
}

/// The pod that holds the Lease.
async fn leader(world: &ClusterWorld) -> Result<String> {
    let lease = world.json(&["get", "lease", "osm-controller", "-n", CONTROL_PLANE]).await?;
    let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
    let (pod, _) =
        holder.context("nobody holds the Lease")?.split_once('_').context("it begins with the pod's name")?;
    Ok(pod.to_owned())
}

/// Asks a pod to go; whether the budget lets it.
async fn evict(world: &ClusterWorld, pod: &str) -> Result<bool> {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "namespace": CONTROL_PLANE, "name": pod },
    });
    let path = format!("/api/v1/namespaces/{CONTROL_PLANE}/pods/{pod}/eviction");
    let arguments = ["create", "--raw", &path, "-f", "-"];
    let output = world.kubectl().run_with_input(&arguments, &eviction.to_string()).await?;
    let words = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(true),
        false if words.contains("violate the pod's disruption budget") => Ok(false),
        false => bail!("evicting {pod}: {words}"),
    }
}
