//! The mesh as one incremental computation: Kubernetes objects in, layers of Envoy resources and findings out.
//!
//! `osm-mesh` says what objects mean, `osm-translate` how that is said to Envoy; this crate says what depends on what. It is
//! a program for `osm-incremental`: [`Key`] lists every input, node and index from top to bottom, and each module computes
//! some of them: `facts` (one object) → `services`, `policies` (joins) → `destinations`, `inbound` (Envoy resources, made
//! once and shared) → `layers` (which proxies get which).
//!
//! A proxy's snapshot is two layers: [`LayerKey::Mesh`], the same for all, and the [`LayerKey::Workload`] of its identity.
//! Pure: no I/O, no clock, no randomness; equal objects give equal layers in whatever order they came.

mod destinations;
mod engine;
mod facts;
mod inbound;
mod key;
mod layers;
mod options;
mod policies;
mod program;
mod reference;
mod references;
mod services;
mod sockets;
mod value;

pub use engine::{MeshChanges, MeshEngine, ResourceChange};
pub use key::{Item, Key, LayerKey};
pub use options::{MESH_CONFIG_NAME, Options};
pub use osm_incremental::{Stats, Work};
pub use program::MeshProgram;
pub use reference::object_id;
pub use value::{Delivery, DestinationClusters, ItemValue, LayerEntry, ReachedService, Use, Value};
