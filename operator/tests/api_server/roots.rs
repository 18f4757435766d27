//! Roots in a cluster: every replica follows one record, no step is taken before all have told what their proxies hold, and
//! whoever takes over goes on.

use anyhow::{Context, Result, ensure};
use osm_cluster::CertManager;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::replicas::{account, announce, holder};
use crate::world::{CONTROL_PLANE, LIMIT, Operator, SHOP, World, condition};

const RECORD: &str = "/api/v1/namespaces/osm-system/configmaps/osm-rotation";
const TRUST_BUNDLE: &str = "/api/v1/namespaces/shop/configmaps/osm-trust-bundle";
/// Short times: nobody here reads a volume.
pub(crate) const TIMES: [&str; 6] =
    ["--lease-duration-seconds", "6", "--trust-bundle-delay-seconds", "1", "--proxy-grace-seconds", "5"];

pub(crate) fn path(name: &str) -> String {
    format!("/apis/config.openservicemesh.io/v1alpha2/namespaces/{CONTROL_PLANE}/meshrootcertificates/{name}")
}

/// A root in a Secret.
pub(crate) fn root(name: &str, secret: &str, role: &str) -> String {
    json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshRootCertificate",
        "metadata": { "namespace": CONTROL_PLANE, "name": name },
        "spec": { "role": role, "provider": { "tresor": { "ca": { "secretRef": {
            "name": secret, "namespace": CONTROL_PLANE,
        } } } } },
    })
    .to_string()
}

/// What is in force according to the record: who signs, and who is trusted.
async fn record(world: &World) -> Result<(String, Vec<String>)> {
    let record = world.get(RECORD).await?;
    let record: Value = serde_json::from_str(record["data"]["record.json"].as_str().context("there is a record")?)?;
    let name = |root: &Value| root["name"].as_str().unwrap_or_default().to_owned();
    let trusted = record["trusted"].as_array().context("roots are trusted")?;
    Ok((name(&record["signing"]), trusted.iter().map(|root| name(&root["root"])).collect()))
}

pub(crate) async fn wait_for_record(world: &World, signing: &str, trusted: &[&str]) -> Result<()> {
    eventually(&format!("{signing} signs, and {trusted:?} are trusted"), LIMIT, || async {
        let found = record(world).await?;
        ensure!(
            (found.0.as_str(), found.1.iter().map(String::as_str).collect::<Vec<_>>()) == (signing, trusted.to_vec()),
            "{found:?}"
        );
        Ok(())
    })
    .await
}

/// How many roots the namespace of the shop trusts.
pub(crate) async fn trusted_in_shop(world: &World) -> Result<usize> {
    let bundle = world.get(TRUST_BUNDLE).await?;
    let pem = bundle["data"].as_object().and_then(|data| data.values().next()?.as_str()).context("it has roots")?;
    Ok(pem.matches("BEGIN CERTIFICATE").count())
}

pub(crate) async fn wait_for_state(world: &World, name: &str, state: &str) -> Result<Value> {
    let what = format!("{name} is {state}");
    world
        .wait_for_status(&path(name), &what, |status| {
            status["state"] == state && condition(status, "Ready").is_some_and(|(ready, _)| ready == "True")
        })
        .await
}

/// Two replicas of a mesh with two proxies, one at each.
async fn replicas(world: &World) -> Result<Vec<(&'static str, Operator)>> {
    replicas_with(world, &TIMES).await
}

pub(crate) async fn replicas_with(world: &World, arguments: &[&str]) -> Result<Vec<(&'static str, Operator)>> {
    world.apply(SHOP).await?;
    world.apply(&account()).await?;
    let mut operators = Vec::new();
    for name in ["a", "b"] {
        let operator = world.operator(name, arguments).await?;
        announce(world, name, &operator).await?;
        operators.push((name, operator));
    }
    Ok(operators)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_replaced_over_all_replicas_and_whoever_takes_over_goes_on() -> Result<()> {
    let world = World::start().await?;
    let mut operators = replicas(&world).await?;
    wait_for_record(&world, "(Secret osm-ca-bundle)", &["(Secret osm-ca-bundle)"]).await?;
    let [a, b] = [operators[0].1.xds, operators[1].1.xds];
    let api = world.proxy("api-0", "api", &[a, b]).await?;
    let buyer = world.proxy("buyer-0", "buyer", &[b, a]).await?;

    // As OSM has it: an object that names the Secret which signs anyway. It is that root, and nothing has to be done.
    world.apply(&root("osm-mesh-root-certificate", "osm-ca-bundle", "active")).await?;
    let status = wait_for_state(&world, "osm-mesh-root-certificate", "active").await?["status"].clone();
    ensure!(status["usage"] == "issuing" && status["propagation"]["acked"] == "2/2", "{status}");
    ensure!(trusted_in_shop(&world).await? == 1);

    // The next one: its Secret is made by the replica that writes, and read by the other.
    world.apply(&root("next", "next-root", "passive")).await?;
    wait_for_state(&world, "next", "validatingRollout").await?;
    ensure!(trusted_in_shop(&world).await? == 2);
    world.apply(&root("next", "next-root", "active")).await?;
    world.apply(&root("osm-mesh-root-certificate", "osm-ca-bundle", "passive")).await?;
    wait_for_record(&world, "next", &["(Secret osm-ca-bundle)", "next"]).await?;
    for (name, operator) in &operators {
        eventually("the replica signs with it", LIMIT, || async {
            let page = operator.json("/debug/roots").await?;
            ensure!(page["signing"] == "osm-system/next", "{name}: {page}");
            Ok(())
        })
        .await?;
    }

    // Proxies still reach the control plane with the former root's certificates: it stays, and the status names them.
    world.apply(&root("osm-mesh-root-certificate", "osm-ca-bundle", "inactive")).await?;
    let what = "both proxies are named";
    let waits = |status: &Value| {
        let waits = status["waitsFor"].to_string();
        waits.contains("shop/api/api-0") && waits.contains("shop/buyer/buyer-0")
    };
    world.wait_for_status(&path("osm-mesh-root-certificate"), what, waits).await?;
    let leader = holder(&world).await?;
    let position = operators.iter().position(|(name, _)| *name == leader).context("one of ours leads")?;
    let (_, killed) = operators.remove(position);
    killed.kill().await?;
    let pod = format!("osm-controller-{leader}");
    let kubectl = world.server.kubectl();
    kubectl.output(&["delete", "pod", "-n", CONTROL_PLANE, &pod, "--grace-period=0", "--force"]).await?;
    eventually("the other takes over", LIMIT, || async {
        let now = holder(&world).await?;
        ensure!(now != leader, "{now}");
        Ok(())
    })
    .await?;
    // With what the new root signed they come back, as the one that took over asks them to.
    api.renew(world.credentials("next-root", "api-0", "api").await?);
    buyer.renew(world.credentials("next-root", "buyer-0", "buyer").await?);
    wait_for_record(&world, "next", &["next"]).await?;
    let status = wait_for_state(&world, "next", "active").await?["status"].clone();
    ensure!(status["propagation"]["acked"] == "2/2", "{status}");
    wait_for_state(&world, "osm-mesh-root-certificate", "inactive").await?;
    ensure!(trusted_in_shop(&world).await? == 1);
    let events = kubectl.output(&["get", "events", "-n", CONTROL_PLANE, "-o", "json"]).await?;
    for reason in ["ValidatingRollout", "IssuingRollout"] {
        ensure!(events.contains(reason), "no event {reason}: {events}");
    }
    for (_, operator) in operators {
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cert_manager_takes_the_place_of_a_secret_and_gives_it_back() -> Result<()> {
    let world = World::start().await?;
    CertManager::install_crds(world.server.kubectl()).await?;
    let operators = replicas(&world).await?;
    let xds = [operators[0].1.xds, operators[1].1.xds];
    let proxy = world.proxy("api-0", "api", &xds).await?;
    world.apply(&root("first", "osm-ca-bundle", "active")).await?;
    wait_for_state(&world, "first", "active").await?;
    let of_cert_manager = |role: &str| {
        json!({
            "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshRootCertificate",
            "metadata": { "namespace": CONTROL_PLANE, "name": "cert-manager" },
            "spec": { "role": role, "provider": { "certManager": {
                "issuerName": "osm-ca", "issuerKind": "Issuer", "issuerGroup": "cert-manager.io",
            } } },
        })
        .to_string()
    };

    // Nobody answers yet: its status says so, and the former root goes on.
    world.apply(&of_cert_manager("passive")).await?;
    let unusable = |status: &Value| condition(status, "ResolvedRefs").is_some_and(|(resolved, _)| resolved == "False");
    world.wait_for_status(&path("cert-manager"), "an issuer that is not there is told", unusable).await?;
    let _controllers = CertManager::start(world.server.kubeconfig(), CONTROL_PLANE).await?;
    world.apply(CertManager::ISSUERS).await?;
    wait_for_state(&world, "cert-manager", "validatingRollout").await?;
    world.apply(&of_cert_manager("active")).await?;
    world.apply(&root("first", "osm-ca-bundle", "passive")).await?;
    wait_for_record(&world, "cert-manager", &["(Secret osm-ca-bundle)", "cert-manager"]).await?;
    proxy.renew(world.credentials("root", "api-0", "api").await?);
    wait_for_state(&world, "cert-manager", "active").await?;
    world.apply(&root("first", "osm-ca-bundle", "inactive")).await?;
    wait_for_record(&world, "cert-manager", &["cert-manager"]).await?;

    // And back.
    world.apply(&root("first", "osm-ca-bundle", "passive")).await?;
    wait_for_state(&world, "first", "validatingRollout").await?;
    world.apply(&root("first", "osm-ca-bundle", "active")).await?;
    world.apply(&of_cert_manager("passive")).await?;
    wait_for_record(&world, "first", &["cert-manager", "first"]).await?;
    proxy.renew(world.credentials("osm-ca-bundle", "api-0", "api").await?);
    world.apply(&of_cert_manager("inactive")).await?;
    wait_for_record(&world, "first", &["first"]).await?;
    for (_, operator) in operators {
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_silent_holds_every_step_until_it_is_heard_again() -> Result<()> {
    let world = World::start().await?;
    let operators = replicas(&world).await?;
    world.apply(&root("first", "osm-ca-bundle", "active")).await?;
    wait_for_state(&world, "first", "active").await?;
    let leader = holder(&world).await?;
    let (silent, operator) = operators.iter().find(|(name, _)| *name != leader).context("another follows")?;
    operator.pause()?;
    world.apply(&root("next", "next-root", "passive")).await?;
    world.apply(&root("next", "next-root", "active")).await?;
    world.apply(&root("first", "osm-ca-bundle", "passive")).await?;
    let pod = format!("osm-controller-{silent}");
    let what = "the silent replica is named";
    // By now everything else has come true.
    let waits = |status: &Value| {
        status["waitsForCount"] == 1 && status["waitsFor"].to_string().contains(&format!("control plane {pod} "))
    };
    world.wait_for_status(&path("next"), what, waits).await?;
    ensure!(record(&world).await?.0 == "(Secret osm-ca-bundle)");
    let before = world.get(RECORD).await?;
    operator.go_on()?;
    wait_for_state(&world, "next", "active").await?;

    // Deleted or broken, the record is written anew from what is in force.
    let kubectl = world.server.kubectl();
    kubectl.output(&["delete", "configmap", "-n", CONTROL_PLANE, "osm-rotation"]).await?;
    let both = ["(Secret osm-ca-bundle)", "next"];
    wait_for_record(&world, "next", &both).await?;
    let broken = r#"{"data":{"record.json":"{"}}"#;
    kubectl
        .output(&["patch", "configmap", "-n", CONTROL_PLANE, "osm-rotation", "--type=merge", "--patch", broken])
        .await?;
    wait_for_record(&world, "next", &both).await?;

    // So is one that somebody puts back from before.
    let old = json!({ "data": { "record.json": before["data"]["record.json"] } }).to_string();
    kubectl
        .output(&["patch", "configmap", "-n", CONTROL_PLANE, "osm-rotation", "--type=merge", "--patch", &old])
        .await?;
    wait_for_record(&world, "next", &both).await?;

    // A compromised root goes at once.
    let annotation = format!("{}={}", osm_api::REMOVE_ROOT_NOW_ANNOTATION, osm_api::REMOVE_ROOT_NOW_VALUE);
    kubectl.output(&["annotate", "mrc", "-n", CONTROL_PLANE, "first", &annotation]).await?;
    wait_for_record(&world, "next", &["next"]).await?;
    for (_, operator) in operators {
        operator.stop().await?;
    }
    Ok(())
}
