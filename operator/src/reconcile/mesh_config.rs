//! MeshConfig: the settings of the mesh. Its status says which proxies run them, which version of the control plane applies them,
//! and which pods were injected with settings of before.

use osm_api::Kind;
use serde_json::{Value, json};

use super::Reconciler;
use super::plan::{self, Plan, Situation};

/// Most pods that are named; the count tells how many there are.
const MAX_PODS: usize = 10;

/// Reconciles [`Kind::MeshConfig`].
#[derive(Debug)]
pub(super) struct MeshConfig;

impl Reconciler for MeshConfig {
    fn kind(&self) -> Kind {
        Kind::MeshConfig
    }

    fn plan(&self, situation: &Situation<'_>) -> Plan {
        plan::status(situation, |status| {
            status["version"] = json!(env!("CARGO_PKG_VERSION"));
            mention_pods(status, situation.pods_behind);
        })
    }
}

/// Says in `Programmed` which pods have to be made anew: images, resources and what is intercepted are decided when a pod is
/// made, so no proxy can acknowledge them.
fn mention_pods(status: &mut Value, pods: &[String]) {
    if pods.is_empty() {
        return;
    }
    let named = pods.iter().take(MAX_PODS).cloned().collect::<Vec<_>>().join(", ");
    let more = if pods.len() > MAX_PODS { ", ..." } else { "" };
    let words = format!(
        " {} pods were made with other sidecar settings and take up these when they are made anew: {named}{more}.",
        pods.len()
    );
    let Some(conditions) = status["conditions"].as_array_mut() else { return };
    for condition in conditions.iter_mut().filter(|condition| condition["type"] == "Programmed") {
        let message = format!("{}{words}", condition["message"].as_str().unwrap_or_default());
        condition["message"] = json!(message);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use osm_api::ObjectRef;
    use osm_api::k8s_openapi::jiff::Timestamp;

    use super::super::plan::tests::{known, stored};
    use super::*;

    fn status(previous: Option<Value>, pods: &[String]) -> Plan {
        let (object, now) = (ObjectRef::new(Kind::MeshConfig, "osm-system", "osm-mesh-config"), Instant::now());
        let (stored, entry) = (stored(1, previous), known(1, 2, 2, now));
        let time = Timestamp::UNIX_EPOCH;
        MeshConfig.plan(&Situation {
            object: &object,
            stored: Some(&stored),
            entry: &entry,
            pods_behind: pods,
            now,
            time,
        })
    }

    #[test]
    fn the_status_names_version_and_pods_that_are_behind_and_is_written_once() {
        let pods: Vec<String> = (0..12).map(|number| format!("shop/api-{number}")).collect();
        let Plan::Status(first) = status(None, &pods) else { panic!("a status") };
        assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
        let text = first["conditions"].to_string();
        assert!(text.contains("12 pods") && text.contains("shop/api-0,") && !text.contains("shop/api-11"), "{text}");
        assert_eq!(status(Some(first.clone()), &pods), Plan::Nothing);
        let Plan::Status(done) = status(Some(first), &[]) else { panic!("a status") };
        assert!(!done["conditions"].to_string().contains("pods were made"));
    }
}
