//! The vocabulary of the mesh: what `osm-mesh` resolves Kubernetes objects *to* and `osm-translate` turns *into* Envoy
//! resources.
//!
//! Everything here is plain immutable data that was validated when it was made: no I/O, no clock, no logs, no Kubernetes
//! types and no Envoy types. Types are `Eq + Ord` (and ordered inside) so that equality can cut an incremental computation
//! short and so that equal meshes always print, compare and encode equally.
//!
//! Reading order of the modules: `name` (who and what things are called) → `service` (what can be reached) → `http` (what a
//! request looks like) → `policy` (who may) → `settings` (mesh-wide choices) → `view` (what one proxy is told) → `origin`
//! (which object a resource comes from) → `finding` (what was wrong with the objects).

mod finding;
mod http;
mod name;
mod origin;
mod policy;
mod service;
mod settings;
mod view;

pub use finding::{Aspect, Finding, Severity};
pub use http::{HeaderMatch, HttpMatch, Method, PathMatch};
pub use name::{Identity, InvalidName, NamespaceName, ServiceId, TrustDomain};
pub use origin::{ObjectId, Origin};
pub use policy::{HttpRule, InboundPolicy, Principals, TcpRule};
pub use service::{
    Addressing, Backend, Endpoint, EndpointReadiness, MeshPort, MeshService, Protocol, SplitRule, TrafficRouting,
};
pub use settings::{
    AccessLog, Egress, ExternalAuthorization, LocalProxyMode, MeshSettings, TlsParameters, TlsVersion, Tracing,
};
pub use view::{Destination, DestinationRoutes, InboundPort, InboundView, Reachable};
