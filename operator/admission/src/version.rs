//! Which settings a Pod was injected with, so that Pods that are behind can be named.

use osm_bootstrap::Probes;
use serde_json::json;

use crate::config::InjectorConfig;
use crate::inject::{volumes, wanted_containers};

/// Annotation of every Pod with a sidecar: [`injection_version`] of what it was injected with.
pub const VERSION_ANNOTATION: &str = "openservicemesh.io/injection-version";

/// A short text that differs when MeshConfig or the flags of the control plane would give a new Pod other containers or
/// volumes. What the Pod or its Namespace contribute is not part of it.
#[must_use]
pub fn injection_version(config: &InjectorConfig) -> String {
    // Any port, for the container that answers probes to be among them.
    let containers = wanted_containers(config, &config.interception, Probes::default(), &[1].into());
    let text = json!({ "containers": containers, "volumes": volumes() }).to_string();
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}
