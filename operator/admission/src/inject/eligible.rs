//! Which Pods get a sidecar.

use std::fmt;

use osm_api::k8s_openapi::api::core::v1::Pod;

use super::PodName;
use super::refusal::Refusal;
use crate::annotation::{INJECTION_ANNOTATION, Switch};
use crate::world::{Membership, NamespaceSettings};

/// Namespaces of Kubernetes itself, which the mesh leaves alone.
const SYSTEM_NAMESPACES: [&str; 2] = ["kube-public", "kube-system"];

/// Why a Pod gets no sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// It shares the network of its node: redirecting its connections would redirect everybody's.
    HostNetwork,
    /// It belongs to the control plane.
    ControlPlaneNamespace,
    /// It belongs to Kubernetes.
    SystemNamespace,
    /// Its Namespace is not in this mesh.
    NamespaceNotInMesh,
    /// Its own annotation says so.
    DisabledByPod,
    /// The annotation of its Namespace says so.
    DisabledByNamespace,
    /// No annotation asks for a sidecar.
    NotEnabled,
    /// It is for Windows nodes, for which there is no sidecar.
    Windows,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNetwork => "it uses the network of its node",
            Self::ControlPlaneNamespace => "it is in the Namespace of the control plane",
            Self::SystemNamespace => "it is in a Namespace of Kubernetes",
            Self::NamespaceNotInMesh => "its Namespace is not in this mesh",
            Self::DisabledByPod => "its annotation disables it",
            Self::DisabledByNamespace => "the annotation of its Namespace disables it",
            Self::NotEnabled => "no annotation of it or its Namespace enables it",
            Self::Windows => "it is for Windows nodes, for which there is no sidecar",
        })
    }
}

/// Whether a Pod gets a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eligibility {
    Inject,
    Skip(SkipReason),
}

/// Decides by OSM's precedence: network and Namespace first, then the Pod's annotation, then its Namespace's.
pub(super) fn eligible(
    name: &PodName,
    pod: &Pod,
    namespace: &NamespaceSettings,
    control_plane_namespace: &str,
) -> Result<Eligibility, Refusal> {
    let skip = |reason| Ok(Eligibility::Skip(reason));
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        return skip(SkipReason::HostNetwork);
    }
    if name.namespace == control_plane_namespace {
        return skip(SkipReason::ControlPlaneNamespace);
    }
    if SYSTEM_NAMESPACES.contains(&name.namespace.as_str()) {
        return skip(SkipReason::SystemNamespace);
    }
    if namespace.membership == Membership::Outside {
        return skip(SkipReason::NamespaceNotInMesh);
    }
    let annotations = pod.metadata.annotations.as_ref();
    let own = Switch::read(annotations.and_then(|all| all.get(INJECTION_ANNOTATION)).map(String::as_str));
    match (&own, &namespace.injection) {
        (Switch::Unknown(value), _) => {
            return Err(Refusal::Annotation {
                pod: name.clone(),
                annotation: INJECTION_ANNOTATION,
                problem: format!("{value:?} is neither on nor off"),
                remedy: "use enabled, yes or true, or disabled, no or false",
            });
        }
        (Switch::Off, _) => return skip(SkipReason::DisabledByPod),
        (Switch::Unset, Switch::Unknown(value)) => {
            return Err(Refusal::NamespaceAnnotation {
                pod: name.clone(),
                annotation: INJECTION_ANNOTATION,
                value: value.clone(),
            });
        }
        (Switch::Unset, Switch::Off) => return skip(SkipReason::DisabledByNamespace),
        (Switch::Unset, Switch::Unset) => return skip(SkipReason::NotEnabled),
        (Switch::On, _) | (Switch::Unset, Switch::On) => {}
    }
    match (is_windows(pod), own) {
        // Who asks for this very Pod must learn that it cannot be; a Namespace may hold Pods of both kinds.
        (true, Switch::On) => Err(Refusal::Windows { pod: name.clone() }),
        (true, _) => skip(SkipReason::Windows),
        (false, _) => Ok(Eligibility::Inject),
    }
}

fn is_windows(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let selected = spec.node_selector.as_ref().and_then(|selector| selector.get("kubernetes.io/os"));
    selected.is_some_and(|os| os == "windows") || spec.os.as_ref().is_some_and(|os| os.name == "windows")
}
