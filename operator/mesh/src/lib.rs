//! Kubernetes objects to mesh: what each object says, what it refers to, and what is wrong with it.
//!
//! Pure functions, one file per kind, of two shapes: `kind(&Object) -> Parsed<KindFacts>` reads one object on its own, and a
//! join (`mesh_service`, `grant`, `routing`, `settings`) combines facts into the vocabulary of [`model`]. Nothing here
//! fails: what cannot be used is left out and becomes a [`Finding`](model::Finding) that names object, field, value and
//! remedy. Which function runs when something changes is decided in `osm-engine`.
//!
//! Three rules hold everywhere. A grant is never wider than what was written: a rule that cannot be understood grants
//! nothing. A bad part costs only itself. Nothing depends on the order in which objects arrive.

/// The vocabulary of the mesh.
pub use osm_model as model;

mod endpoint_slice;
mod http_route_group;
mod mesh_config;
mod mesh_root_certificate;
mod namespace;
mod parsed;
mod pod;
mod service;
mod tcp_route;
mod traffic_split;
mod traffic_target;

pub use endpoint_slice::{SERVICE_NAME_LABEL, SliceAddress, SliceFacts, endpoint_slice};
pub use http_route_group::{NamedMatch, RouteGroupFacts, http_route_group};
pub use mesh_config::{MeshConfigFacts, SETTING_EFFECTS, SettingEffect, mesh_config, settings};
pub use mesh_root_certificate::{RootFacts, RootRemoval, mesh_root_certificate};
pub use namespace::{AccessMode, IGNORE_LABEL, MONITORED_BY_LABEL, NamespaceFacts, PERMISSIVE_ANNOTATION, namespace};
pub use parsed::{Parsed, Report};
pub use pod::{PodFacts, pod};
pub use service::{PortFacts, ServiceFacts, mesh_service, service};
pub use tcp_route::{TcpPorts, TcpRouteFacts, tcp_route};
pub use traffic_split::{SplitFacts, SplitReferences, routing, traffic_split};
pub use traffic_target::{Grant, RuleReference, TargetFacts, TcpGrant, grant, traffic_target};
