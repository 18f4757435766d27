//! MeshConfig: the settings of the mesh. Its status says which proxies run them, which version of the control plane applies them,
//! which pods were injected with settings of before, and until when the ingress gateway has a certificate. Until it is known what
//! became of the gateway, the status stays as it is.

use osm_api::Kind;
use serde_json::{Value, json};

use super::Reconciler;
use super::plan::{self, Plan, Situation};
use crate::account::Account;

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
        let gateway = match &situation.entry.account {
            Some(Account::Object(account)) => account.gateway.as_ref(),
            _ => None,
        };
        if gateway.is_none() && situation.entry.account.is_some() && situation.entry.problem.is_none() {
            // What is wrong with the ingress gateway is not known yet.
            return Plan::Nothing;
        }
        plan::status(situation, |status| {
            status["version"] = json!(env!("CARGO_PKG_VERSION"));
            mention_pods(status, situation.pods_behind);
            match gateway {
                Some(Value::Null) => drop(status.as_object_mut().and_then(|status| status.remove("ingressGateway"))),
                Some(gateway) => status["ingressGateway"] = gateway.clone(),
                None => {}
            }
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
        status_with(previous, pods, Some(Value::Null))
    }

    fn status_with(previous: Option<Value>, pods: &[String], gateway: Option<Value>) -> Plan {
        let (object, now) = (ObjectRef::new(Kind::MeshConfig, "osm-system", "osm-mesh-config"), Instant::now());
        let (stored, mut entry) = (stored(1, previous), known(1, 2, 2, now));
        if let Some(Account::Object(account)) = &mut entry.account {
            account.gateway = gateway;
        }
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

    #[test]
    fn nothing_is_written_before_it_is_known_what_became_of_the_gateway() {
        let gateway = json!({ "secret": "ingress/tls", "expires": "2026-01-02T00:00:00Z" });
        let Plan::Status(with) = status_with(None, &[], Some(gateway.clone())) else { panic!("a status") };
        assert_eq!(with["ingressGateway"], gateway);
        assert_eq!(status_with(Some(with.clone()), &[], None), Plan::Nothing);
        assert_eq!(status_with(Some(with.clone()), &[], Some(gateway)), Plan::Nothing);
        let Plan::Status(without) = status_with(Some(with), &[], Some(Value::Null)) else { panic!("a status") };
        assert!(without.get("ingressGateway").is_none(), "{without}");
    }
}
