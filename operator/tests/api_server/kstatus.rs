//! Objects as programs read them that know nothing of the mesh: by kstatus' rules (Flux, Helm, Argo CD), and by `kubectl wait`.

use std::sync::{Arc, Mutex};

use anyhow::{Result, bail, ensure};
use futures::TryStreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use osm_api::TrafficTarget;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::world::{LIMIT, SHOP, World, condition, target, target_path};

/// What kstatus says of a custom resource; `Unwritten` where there is nothing to say yet.
fn kstatus(object: &Value) -> &'static str {
    let (meta, status) = (&object["metadata"], &object["status"]);
    let is = |type_: &str, wanted: &str| condition(status, type_).is_some_and(|(status, _)| status == wanted);
    if !meta["deletionTimestamp"].is_null() {
        return "Terminating";
    }
    if status["conditions"].is_null() {
        return "Unwritten";
    }
    let behind = status["observedGeneration"].as_i64() < meta["generation"].as_i64();
    if behind || is("Reconciling", "True") {
        "InProgress"
    } else if is("Stalled", "True") {
        "Failed"
    } else if is("Ready", "True") {
        "Current"
    } else {
        "InProgress"
    }
}

/// What must hold of whatever is seen of an object.
fn check(object: &Value) -> Result<()> {
    let status = &object["status"];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let is_abnormal = condition["type"] == "Reconciling" || condition["type"] == "Stalled";
        ensure!(!is_abnormal || condition["status"] == "True", "there only while true: {condition}");
        ensure!(condition["observedGeneration"].as_i64() <= object["metadata"]["generation"].as_i64(), "{condition}");
        for field in ["reason", "message", "lastTransitionTime"] {
            ensure!(condition[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {condition}");
        }
    }
    ensure!(
        status["conditions"].is_null() || condition(status, "Ready").is_some(),
        "the summary is there from the first: {status}"
    );
    ensure!(object["metadata"]["finalizers"].is_null(), "nothing has to be undone: {object}");
    Ok(())
}

/// All that is seen of the TrafficTargets of a namespace, each said once as long as it is the same.
fn follow(client: kube::Client, seen: Arc<Mutex<Vec<Result<&'static str, String>>>>) -> tokio::task::JoinHandle<()> {
    let api = kube::Api::<TrafficTarget>::namespaced(client, "shop");
    let config = watcher::Config::default().fields("metadata.name=seen");
    tokio::spawn(async move {
        let events = watcher(api, config).default_backoff();
        let mut events = std::pin::pin!(events);
        while let Ok(Some(event)) = events.try_next().await {
            let said = match event {
                watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                    let object = serde_json::to_value(object).unwrap();
                    check(&object).map(|()| kstatus(&object)).map_err(|error| error.to_string())
                }
                watcher::Event::Delete(_) => Ok("Deleted"),
                watcher::Event::Init | watcher::Event::InitDone => continue,
            };
            let mut seen = seen.lock().unwrap();
            if seen.last() != Some(&said) {
                seen.push(said);
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn kstatus_and_kubectl_wait_read_create_change_mistake_repair_and_end() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    let operator = world.operator("a", &[]).await?;
    let _proxies =
        [world.proxy("api-0", "api", &[operator.xds]).await?, world.proxy("late-0", "late", &[operator.xds]).await?];
    let seen = Arc::default();
    let client = osm_kubernetes::client(Some(world.server.kubeconfig())).await?;
    let following = follow(client, Arc::clone(&seen));

    let kubectl = world.server.kubectl();
    let wait = async |what: &str, seconds: u32| {
        let (what, limit) = (format!("--for={what}"), format!("--timeout={seconds}s"));
        kubectl.run(&["wait", "-n", "shop", "traffictarget/seen", &what, &limit]).await
    };
    let holds = async |what: &str| -> Result<()> {
        let output = wait(what, 120).await?;
        ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let reason = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;

    world.apply(&target("seen", "late", "routes")).await?;
    for what in ["condition=Ready", "condition=Programmed", "jsonpath={.status.propagation.acked}=2/2"] {
        holds(what).await?;
    }
    holds(&format!("{reason}=Programmed")).await?;
    world.apply(&target("seen", "late", "missing")).await?;
    for what in ["condition=Stalled", "condition=ResolvedRefs=False", "condition=Ready=False"] {
        holds(what).await?;
    }
    holds(&format!("{reason}=RouteNotFound")).await?;
    for what in ["condition=Ready", "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True"] {
        let output = wait(what, 1).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("timed out"), "{what}: {said}");
    }
    world.apply(&target("seen", "late", "routes")).await?;
    holds("condition=Ready").await?;
    world.wait_ready(&target_path("seen"), "2/2").await?;
    // With nobody there to do anything, it goes all the same.
    operator.stop().await?;
    kubectl.output(&["delete", "-n", "shop", "traffictarget/seen", "--wait", "--timeout=60s"]).await?;

    let story = eventually("the end is seen", LIMIT, || async {
        let seen: Vec<_> = seen.lock().unwrap().clone();
        ensure!(seen.last() == Some(&Ok("Deleted")), "{seen:?}");
        Ok(seen)
    })
    .await?;
    following.abort();
    let mut words = Vec::new();
    for word in story {
        match word {
            Ok(word) => words.push(word),
            Err(problem) => bail!(problem),
        }
    }
    // All may be known by the time that it is looked at first.
    words.retain({
        let mut index = 0;
        move |word| {
            index += 1;
            !(index == 2 && *word == "InProgress")
        }
    });
    let expected =
        ["Unwritten", "Current", "InProgress", "Failed", "InProgress", "Current", "Deleted"].map(|word| json!(word));
    ensure!(json!(words) == json!(expected), "{words:?}");
    Ok(())
}
