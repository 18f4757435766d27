//! A server of Envoy's configuration protocol (xDS), as a library.
//!
//! It knows the protocol, not meshes: what the resources say, who may have which, and where they come from is the
//! embedder's. It is for control planes whose proxies are many and whose changes are small: the cost of a change follows
//! what changed and whom it concerns, not how much there is.
//!
//! # The path through it
//!
//! 1. A message becomes a [`Resource`]: encoded once, into the bytes that every proxy's responses are put together from.
//!    Its [`Version`] is a hash of its content, so equal content is never sent twice, not even after a restart or by
//!    another replica.
//! 2. Resources are gathered in [`Layer`]s, persistent maps that share what did not change with the layer they were made
//!    from, and layers in a [`Snapshot`]: what one kind of proxy shall hold. An entry's [`Delivery`] says whether it is
//!    sent to everyone or only to those that ask for it by name.
//! 3. [`Cache::publish`] makes snapshots current and wakes the streams that hold something that changed.
//! 4. Each stream is a [`Stream`], a state machine without I/O: requests, snapshots and time go in, responses and
//!    [`Event`]s come out. It keeps what the client holds as the difference from a snapshot, so a client that is up to
//!    date costs next to nothing, and computes what to say when the transport can take it, so a client that is slow
//!    costs one response.
//! 5. [`Server`] puts gRPC, HTTP/2 and TLS around it. A [`Policy`] says who a client is, and is told what happens.
//!
//! # What it takes care of
//!
//! * Both forms of the protocol, delta and state of the world, on the aggregated service and on those of one type.
//! * Make-before-break on aggregated streams: clusters, their endpoints and secrets, then listeners and routes, then
//!   removals, each step after the client has acknowledged those it builds on.
//! * Refusals: nothing is sent again until something changes; [`Cache::hold_back`] keeps one version of one resource from
//!   one proxy while everything else goes out; [`Isolation`] finds the one to blame.
//! * Clients that do not read, do not acknowledge, ask for too much or come all at once ([`Settings`]).
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use envoy_types::pb::envoy::config::cluster::v3::Cluster;
//! use futures::future::BoxFuture;
//! use osm_xds::{
//!     Admission, Cache, Delivery, Layer, Node, Peer, Policy, ProxyName, Refusal, Resource, Server, Settings, Snapshot,
//!     SnapshotKey,
//! };
//!
//! /// Lets everyone in and serves all the same.
//! struct Open;
//!
//! impl Policy for Open {
//!     fn authenticate<'a>(
//!         &'a self,
//!         _: &'a Peer,
//!         node: &'a Node,
//!     ) -> BoxFuture<'a, Result<Admission, Refusal>> {
//!         let proxy = ProxyName::new(Arc::clone(&node.id));
//!         Box::pin(async move { Ok(Admission { key: SnapshotKey::new("all"), proxy }) })
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster { name: "backend".to_owned(), ..Cluster::default() };
//! let mut layer = Layer::new();
//! layer.insert(Arc::new(Resource::new("backend", &cluster)?), Delivery::Wildcard);
//!
//! let cache = Cache::new();
//! cache.publish([(SnapshotKey::new("all"), Some(Arc::new(Snapshot::new([layer]))))]);
//! cache.set_ready();
//! let server = Server::new(cache, Arc::new(Open), Settings::default());
//! server.serve_plaintext(tokio::net::TcpListener::bind("127.0.0.1:18000").await?).await;
//! # Ok(())
//! # }
//! ```

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
pub use server::{ClientStatus, Progress, ServeError, Server, ServiceBody, StreamProgress, TlsSource, XdsService};
pub use settings::{Isolation, Settings, StreamSettings};
pub use snapshot::Snapshot;
pub use stream::{LastRejection, Request, RequestError, RequestNames, Response, Stream, TypeStatus, UnknownNames};
pub use type_url::TypeUrl;
pub use version::Version;
