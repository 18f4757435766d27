//! Names in a Pod that injection needs for itself.

use osm_api::k8s_openapi::api::core::v1::PodSpec;
use osm_bootstrap::names;

use super::PodName;
use super::refusal::Refusal;

/// Containers that injection adds.
const OWN_CONTAINERS: [&str; 3] = [names::INIT_CONTAINER, names::PROXY_CONTAINER, names::HEALTH_CHECK_CONTAINER];
/// Volumes that injection adds.
const OWN_VOLUMES: [&str; 3] = [names::CONFIGURATION_VOLUME, names::TOKEN_VOLUME, names::TRUST_BUNDLE_VOLUME];

/// Whether a container of this name is one of ours.
pub(super) fn is_own_container(name: &str) -> bool {
    OWN_CONTAINERS.contains(&name)
}

/// Whether a Pod has been injected: it may be a copy of another (`kubectl debug --copy-to`), or come a second time because
/// another webhook changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Former {
    /// It has nothing of ours.
    Fresh,
    /// It has our containers.
    Injected,
}

/// Finds out whether the Pod has been injected, and refuses names of others that ours would clash with.
pub(super) fn former(name: &PodName, spec: &PodSpec) -> Result<Former, Refusal> {
    let taken = |part, name_taken, hint| Refusal::NameTaken { pod: name.clone(), part, name: name_taken, hint };
    let mut own = Vec::new();
    for container in spec.init_containers.iter().flatten() {
        let is_native = container.restart_policy.as_deref() == Some("Always");
        if OWN_CONTAINERS.contains(&container.name.as_str()) {
            own.push((container.name.as_str(), is_native));
        }
    }
    let injected = own.contains(&(names::INIT_CONTAINER, false)) && own.contains(&(names::PROXY_CONTAINER, true));
    let hint = " (a copy of a Pod that another mesh injected has to be made from its template)";
    let container = OWN_CONTAINERS.into_iter().find(|own_name| {
        let in_init = !injected && own.iter().any(|(name, _)| name == own_name);
        in_init || spec.containers.iter().any(|container| container.name == *own_name)
    });
    if let Some(container) = container {
        return Err(taken("container", container, hint));
    }
    if injected {
        return Ok(Former::Injected);
    }
    let volume = OWN_VOLUMES.into_iter().find(|own| spec.volumes.iter().flatten().any(|volume| volume.name == *own));
    match volume {
        Some(volume) => Err(taken("volume", volume, "")),
        None => Ok(Former::Fresh),
    }
}
