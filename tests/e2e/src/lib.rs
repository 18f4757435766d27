//! The whole mesh at work: the control plane as a process of its own, real Envoys, real applications, in one sandbox, or in a
//! whole Kubernetes cluster.
//!
//! What this is: the [`World`] and the [`ClusterWorld`] that the demo and the end-to-end tests stand on, and the demo itself
//! ([`demo`], the program `osm-demo`). What this is not: a part of the product. Everything here uses the product from outside, as a user does: by its command
//! line, by copying manifests into a folder, by reading the status files it writes.
//!
//! The path through it: [`World::start`] reads a folder of manifests and starts what they describe → [`World::apply`] copies
//! files → [`World::wait_programmed`] waits until the control plane says that every proxy runs them → [`World::request`] and
//! [`World::load`] tell what an application sees.

mod cluster;
pub mod demo;
mod files;
mod operator;
mod world;

pub use cluster::{ClusterApplied, ClusterWorld, Helm, Programs};
pub use files::{Applied, ObjectKey};
pub use operator::Operator;
pub use world::{Member, World};
