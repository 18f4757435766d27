//! Who owns which field: what a GitOps tool applied stays as it is, and what others change of ours comes back, without a fight.

use anyhow::{Context as _, Result, ensure};
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::rights::webhook_configurations;
use crate::world::{CONTROL_PLANE, LIMIT, SHOP, World, target, target_path};

/// Seconds that lie at least between two writes that put the same back; a little less, for clocks that differ.
const PUT_BACK_EVERY: i64 = 9;

const BUNDLE: &str = "/api/v1/namespaces/shop/configmaps/osm-trust-bundle";

/// Reconciliations so far, by the operator's own count.
fn reconciliations(metrics: &str) -> u64 {
    let counts = metrics.lines().filter(|line| line.starts_with("osm_reconcile_duration_seconds_count"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gitops_tool_applied_does_not_drift() -> Result<()> {
    let world = World::start().await?;
    let kubectl = world.server.kubectl();
    let config = json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
        "metadata": { "namespace": CONTROL_PLANE, "name": "osm-mesh-config" },
        "spec": { "traffic": { "enablePermissiveTrafficPolicyMode": false } },
    });
    let manifests = format!("{}---\n{SHOP}\n---\n{config}\n", webhook_configurations());
    let managed = ["--server-side", "--field-manager=gitops", "--filename=-"];
    let applied = kubectl.run_with_input(&[&["apply"][..], &managed].concat(), &manifests).await?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let operator = world.operator("a", &[]).await?;
    world.wait_ready(&target_path("buyer"), "0/0").await?;
    for configuration in
        ["mutatingwebhookconfigurations/osm-webhook-osm", "validatingwebhookconfigurations/osm-validator-mesh-osm"]
    {
        eventually("the webhook configurations have the roots", LIMIT, || async {
            let found = world.get(&format!("/apis/admissionregistration.k8s.io/v1/{configuration}")).await?;
            ensure!(found["webhooks"][0]["clientConfig"]["caBundle"].is_string(), "{found}");
            Ok(())
        })
        .await?;
    }
    // Another policy comes and goes, so that all are looked at again and again.
    let before = reconciliations(&operator.get("/metrics").await?.1);
    while reconciliations(&operator.get("/metrics").await?.1) < before + 20 {
        world.apply(&target("another", "late", "routes")).await?;
        world.wait_ready(&target_path("another"), "0/0").await?;
        kubectl.output(&["delete", "-n", "shop", "traffictarget/another"]).await?;
    }
    let diff = kubectl.run_with_input(&[&["diff"][..], &managed].concat(), &manifests).await?;
    let (said, trouble) = (String::from_utf8_lossy(&diff.stdout), String::from_utf8_lossy(&diff.stderr));
    ensure!(diff.status.success() && said.is_empty(), "it drifts: {said}{trouble}");
    only_own_fields_are_managed(&world).await?;
    operator.stop().await
}

/// Of objects that others made, the control plane owns the status, or `caBundle`.
async fn only_own_fields_are_managed(world: &World) -> Result<()> {
    let kinds = "meshconfigs,traffictargets,httproutegroups,services,pods,serviceaccounts,endpointslices,namespaces,\
                 mutatingwebhookconfigurations,validatingwebhookconfigurations";
    let arguments = ["get", kinds, "--all-namespaces", "--show-managed-fields", "--output=json"];
    let list: Value = serde_json::from_str(&world.server.kubectl().output(&arguments).await?)?;
    let mut ours = 0;
    for object in list["items"].as_array().context("a list")? {
        let managers = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        for entry in managers.filter(|entry| entry["manager"] == "osm-operator") {
            ours += 1;
            let fields = entry["fieldsV1"].to_string();
            let is_bundle =
                fields.contains("f:caBundle") && !fields.contains("f:service") && !fields.contains("f:rules");
            ensure!(
                entry["subresource"] == "status" || is_bundle,
                "{} {}: {entry}",
                object["kind"],
                object["metadata"]["name"]
            );
        }
    }
    ensure!(ours >= 5, "{ours} objects are managed by it");
    Ok(())
}

/// Seconds since 1970 at which the operator patched the ConfigMap of `shop`.
fn patched(world: &World) -> Result<Vec<i64>> {
    let log = std::fs::read_to_string(world.server.audit_log())?;
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = events.filter(|event| {
        let object = &event["objectRef"];
        let is_it = object["resource"] == "configmaps" && object["namespace"] == "shop";
        is_it && event["verb"] == "patch" && event["user"]["username"] == "operator-a"
    });
    ours.map(|event| {
        let time = event["requestReceivedTimestamp"].as_str().context("a request has a time")?;
        let time: osm_api::k8s_openapi::jiff::Timestamp = time.parse()?;
        Ok(time.as_second())
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_of_ours_comes_back_without_a_fight_and_what_they_add_stays() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    let operator = world.operator("a", &[]).await?;
    let found = eventually("the roots are there", LIMIT, || world.get(BUNDLE)).await?;
    let roots = found["data"]["ca.crt"].as_str().context("it has the roots")?.to_owned();
    let kubectl = world.server.kubectl();
    let patch = async |content: Value| {
        let arguments = ["patch", "configmap", "osm-trust-bundle", "-n", "shop", "--type=merge", "--patch"];
        kubectl.output(&[&arguments[..], &[&content.to_string()]].concat()).await
    };
    let restored = async || {
        eventually("the roots are back", LIMIT, || async {
            let found = world.get(BUNDLE).await?;
            ensure!(found["data"]["ca.crt"] == *roots, "{found}");
            Ok(found)
        })
        .await
    };
    // A label and a key of somebody else are theirs.
    patch(json!({ "metadata": { "labels": { "mine": "yes" } }, "data": { "mine": "content" } })).await?;
    for _ in 0..3 {
        patch(json!({ "data": { "ca.crt": "somebody else's" } })).await?;
        let found = restored().await?;
        ensure!(found["metadata"]["labels"]["mine"] == "yes" && found["data"]["mine"] == "content", "{found}");
    }
    // The first write made it, and what was added was no reason to write.
    let times = patched(&world)?;
    ensure!(times.len() == 4, "it was written {} times: {times:?}", times.len());
    for pair in times.windows(2) {
        ensure!(pair[1] - pair[0] >= PUT_BACK_EVERY, "{times:?}");
    }
    eventually("an event tells of it", LIMIT, || async {
        let events = world.get("/apis/events.k8s.io/v1/namespaces/default/events").await?;
        let event =
            events["items"].as_array().into_iter().flatten().find(|event| event["reason"] == "TrustBundleRestored");
        let event = event.with_context(|| events.to_string())?;
        ensure!(event["regarding"]["name"] == "shop" && event["type"] == "Warning", "{event}");
        Ok(())
    })
    .await?;
    operator.stop().await
}
