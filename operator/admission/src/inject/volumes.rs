//! The volumes that injection adds. None is a Secret: a Pod proves who it is by its ServiceAccount's token.

use osm_bootstrap::names;
use serde_json::{Value, json};

/// More than any bootstrap needs, so that nothing else can fill the node's memory through it.
const CONFIGURATION_SIZE: &str = "4Mi";

/// Configuration in memory, the token, and the roots that verify the control plane.
pub(crate) fn volumes() -> Vec<Value> {
    vec![
        json!({
            "name": names::CONFIGURATION_VOLUME,
            "emptyDir": { "medium": "Memory", "sizeLimit": CONFIGURATION_SIZE },
        }),
        json!({
            "name": names::TOKEN_VOLUME,
            "projected": {
                "sources": [{ "serviceAccountToken": {
                    "audience": names::TOKEN_AUDIENCE,
                    "expirationSeconds": names::TOKEN_EXPIRATION_SECONDS,
                    "path": names::TOKEN_FILE,
                } }],
            },
        }),
        json!({
            "name": names::TRUST_BUNDLE_VOLUME,
            "configMap": {
                "name": names::TRUST_BUNDLE_CONFIG_MAP,
                "items": [{ "key": names::TRUST_BUNDLE_KEY, "path": names::TRUST_BUNDLE_KEY }],
                // A Pod that comes before the roots waits for them.
                "optional": false,
            },
        }),
    ]
}
