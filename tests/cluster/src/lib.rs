//! A real Kubernetes cluster for tests and the demo: API server, controllers, scheduler, kubelet, container runtime, DNS.
//!
//! What this is: how those programs are had (a small Go module of ours, Debian packages), started, reached and ended, without a
//! container engine and without a registry of images. What this is not: a copy of anything in a cluster; what runs is what users run.
//!
//! The path through it: a test that needs only the API starts an [`ApiServer`], ready in seconds. One that
//! needs pods starts a [`Cluster`] and gives it [`images`]. [`Tool`] has the programs. [`rights`] compares roles with the audit log.

mod api_server;
mod cache;
mod cert_manager;
mod certificates;
mod cluster;
mod control_plane;
mod daemon;
pub mod images;
mod kubeconfig;
mod kubectl;
mod probe;
pub mod rights;
mod tools;
mod wait;

pub use api_server::{ApiServer, ApiServerOptions, Controllers};
pub use cache::{cache_directory, once};
pub use cert_manager::CertManager;
pub use cluster::{Cluster, ClusterOptions, Lifetime, NODE_NAME, Tier};
pub use kubectl::Kubectl;
pub use tools::{KubernetesVersion, Prepared, Tool};
