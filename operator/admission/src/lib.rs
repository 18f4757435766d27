//! What the admission webhooks decide: which Pods get a sidecar and how, and which objects are refused.
//!
//! Pure: every answer follows from the request, from the few objects of the cluster that [`World`] keeps in memory, and from
//! the flags of the control plane. Nothing is written, asked or generated, so a dry run has no side effects, and two
//! replicas give the same answer. What it is not: a server. Requests and answers of the API server are in `osm-operator`.
//!
//! The path of a Pod through [`inject`]:
//!
//! 1. Is it to be injected? Network and Namespace decide first, then its own annotation, then that of its Namespace.
//! 2. Can it be? Names, users and values of annotations that would end in a broken Pod are refused, naming the remedy.
//! 3. Its probes are led to the sidecar ([`osm_bootstrap::ProbeRoute`]); nothing else of its own containers changes.
//! 4. Three containers at most come in front of its own: `osm-init` sets the redirect rules and writes the bootstrap, `envoy`
//!    and, for probes that Envoy cannot answer, `osm-healthcheck` are native sidecars: up before the application starts,
//!    stopped after it has ended. They are told to stop only then, so that neither has to outlive anything by waiting.
//! 5. A Pod that has been injected before (a copy, or one that another webhook changed since) ends as it would have in the
//!    first place; what others added to our containers meanwhile stays.
//!
//! The path of any other object through [`validate`]: what OSM refused is refused; what the status of the object would complain
//! of later is a warning now, in the same words.
//!
//! A Pod needs Namespaces that admit `NET_ADMIN` for its init container: Pod Security level `privileged`. Everything else in
//! it meets `restricted`.

mod annotation;
mod config;
mod inject;
mod validate;
mod version;
mod world;

pub use annotation::{
    IGNORE_LABEL, INBOUND_PORT_EXCLUSIONS, INJECTION_ANNOTATION, METRICS_ANNOTATION, MONITORED_BY_LABEL,
    OUTBOUND_PORT_EXCLUSIONS, OUTBOUND_RANGE_EXCLUSIONS, OUTBOUND_RANGE_INCLUSIONS, PROXY_UID_ANNOTATION,
    PROXY_UUID_LABEL, Switch,
};
pub use config::{InitPrivilege, InjectorConfig, InjectorDefaults, PullPolicy};
pub use inject::{Injection, PodAdmission, PodName, Refusal, SkipReason, inject};
pub use validate::{ObjectAdmission, Operation, RoleChange, RoleRules, Verdict, validate};
pub use version::{VERSION_ANNOTATION, injection_version};
pub use world::{MESH_CONFIG_NAME, Membership, NamespaceSettings, Touched, World};
