//! Why a Pod is refused. Every message names Pod, field, value and remedy: its readers see nothing else.

use super::PodName;

/// Why a Pod is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What was sent is no Pod.
    #[error("{pod} cannot be read: {problem}")]
    Unreadable {
        /// The Pod.
        pod: PodName,
        /// Field and problem.
        problem: String,
    },
    /// A value of one of its annotations cannot be used.
    #[error("{pod}: annotation {annotation}: {problem}; {remedy}")]
    Annotation {
        /// The Pod.
        pod: PodName,
        /// The annotation.
        annotation: &'static str,
        /// The value, and what is wrong with it.
        problem: String,
        /// What to write.
        remedy: &'static str,
    },
    /// A value of an annotation of its Namespace cannot be used.
    #[error(
        "{pod}: annotation {annotation} of Namespace {:?}: {value:?} is neither on nor off; use enabled, yes or true, or \
         disabled, no or false",
        .pod.namespace
    )]
    NamespaceAnnotation {
        /// The Pod.
        pod: PodName,
        /// The annotation.
        annotation: &'static str,
        /// Its value.
        value: String,
    },
    /// There is no sidecar for Windows.
    #[error(
        "{pod}: the mesh has no sidecar for Windows nodes; remove the annotation openservicemesh.io/sidecar-injection, and \
         the Pod runs outside the mesh"
    )]
    Windows {
        /// The Pod.
        pod: PodName,
    },
    /// A container runs as the sidecar's user, so its connections would pass by the sidecar.
    #[error(
        "{pod}: container {container:?} runs as user {uid} (securityContext.runAsUser), which is the sidecar's, so its traffic \
         would bypass the mesh; run it as another user, or give the sidecar another one by the annotation \
         openservicemesh.io/proxy-uid"
    )]
    ProxyUid {
        /// The Pod.
        pod: PodName,
        /// The container.
        container: String,
        /// The user.
        uid: u32,
    },
    /// A name is taken that injection needs.
    #[error("{pod}: {part} {name:?} has a name that the sidecar's own needs; rename it{hint}")]
    NameTaken {
        /// The Pod.
        pod: PodName,
        /// `container` or `volume`.
        part: &'static str,
        /// Its name.
        name: &'static str,
        /// What may be the cause.
        hint: &'static str,
    },
    /// Probes that the sidecar cannot serve.
    #[error("{pod}: {problem}")]
    Probes {
        /// The Pod.
        pod: PodName,
        /// What the sidecar cannot do.
        problem: osm_bootstrap::ProbesError,
    },
}
