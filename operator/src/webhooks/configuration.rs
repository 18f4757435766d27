//! The part of the webhook configurations that the control plane owns: the roots by which the API server verifies it. The
//! rest is installed by the chart.

use serde_json::{Value, json};

/// Path of the mutating webhook (OSM's).
pub const MUTATING_PATH: &str = "/mutate-pod-creation";
/// Path of the validating webhooks (OSM's).
pub const VALIDATING_PATH: &str = "/validate";

/// What to apply, server-side, for all webhooks of a stored configuration to trust `bundle` (PEM); `None` when they do
/// already. It says nothing but `caBundle`, so that everything else stays with whoever installed it.
///
/// While a root is being replaced, `bundle` holds both, and is applied before a certificate of the new one is served.
#[must_use]
pub fn ca_bundle_apply(stored: &Value, bundle: &str) -> Option<Value> {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(bundle);
    let webhooks = stored.get("webhooks")?.as_array()?;
    let has_it = |webhook: &Value| webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str) == Some(&encoded);
    if webhooks.iter().all(has_it) {
        return None;
    }
    let webhooks: Vec<Value> = webhooks
        .iter()
        .filter_map(|webhook| webhook.get("name"))
        .map(|name| json!({ "name": name, "clientConfig": { "caBundle": encoded } }))
        .collect();
    Some(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": stored.get("kind")?,
        "metadata": { "name": stored.pointer("/metadata/name")? },
        "webhooks": webhooks,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bundle_is_applied_and_only_when_it_differs() {
        let mut stored = json!({
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": "osm-webhook-osm", "labels": { "app": "osm-controller" } },
            "webhooks": [
                { "name": "a", "clientConfig": { "caBundle": "cm9vdA==", "service": {} } },
                { "name": "b", "clientConfig": { "service": {} } },
            ],
        });
        let applied = ca_bundle_apply(&stored, "root").unwrap();
        let expected = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": "osm-webhook-osm" },
            "webhooks": [
                { "name": "a", "clientConfig": { "caBundle": "cm9vdA==" } },
                { "name": "b", "clientConfig": { "caBundle": "cm9vdA==" } },
            ],
        });
        assert_eq!(applied, expected);
        stored["webhooks"][1]["clientConfig"]["caBundle"] = "cm9vdA==".into();
        assert_eq!(ca_bundle_apply(&stored, "root"), None);
        assert_eq!(ca_bundle_apply(&json!({ "kind": "Other" }), "root"), None);
    }
}
