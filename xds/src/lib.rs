//! Envoy's configuration protocol (xDS), server side.
mod cache;
mod layer;
mod policy;
mod references;
mod resource;
mod server;
mod settings;
mod snapshot;
mod stream;
mod type_url;
mod version;
mod wire;

pub use cache::{Cache, Epoch, Publication, Published, SnapshotKey};
pub use layer::{Delivery, Difference, Entry, Layer};
pub use policy::{
    Admission, ClientIdentity, CloseReason, Event, Node, Peer, Policy, ProxyName, Refusal, Rejection, Service,
    StreamId, UnknownName, Variant,
};
pub use references::DanglingReference;
pub use resource::{Resource, ResourceError, encodes};
pub use server::{ClientStatus, Progress, ServeError, Server, ServiceBody, TlsSource, XdsService};
pub use settings::{Isolation, Settings, StreamSettings};
pub use snapshot::Snapshot;
pub use stream::{LastRejection, Request, RequestError, RequestNames, Response, Stream, TypeStatus, UnknownNames};
pub use type_url::TypeUrl;
pub use version::Version;
