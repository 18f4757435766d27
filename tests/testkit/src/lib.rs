//! Fixtures for tests and demos of the data path: a network, real proxies beside applications of ours, and no traces.
//!
//! What this is: everything around a control plane. A [`sandbox`] from which nothing can leak, a [`Fabric`] (a node, pods with a network
//! namespace each, Services' addresses, names), [`Workload`]s (an application of [`apps`], and in the mesh an [`Envoy`] and the
//! redirect rules), and a client for what the applications saw. What this is not: a control plane, or anything that is shipped.
//!
//! The path through it, in a test (in a program, call [`sandbox::enter`] first thing in `main`):
//!
//! ```
//! use osm_testkit::{Fabric, Workload, WorkloadSpec, sandbox_test};
//!
//! sandbox_test! {
//!     async fn a_client_reaches_an_echo() -> anyhow::Result<()> {
//!         let fabric = Fabric::create().await?;
//!         let echo = WorkloadSpec::new("echo", ["http-echo", "--listen", "[::]:8080", "--name", "echo"]);
//!         let echo = Workload::start(&fabric, &echo).await?;
//!         let client = Workload::start(&fabric, &WorkloadSpec::new("client", ["client"])).await?;
//!         // The runner is on the node; a control plane for the pods would listen on `NODE_IPV4`. A workload enters the mesh by
//!         // `client.join_mesh(&EnvoySpec::new(EnvoyBinary::find(NEWEST_ENVOY)?, bootstrap), &InterceptConfig::default())`.
//!         let report = client.control().get(&format!("http://{}:8080/", echo.pod().ipv4()), 10).await?;
//!         assert_eq!(report.successes(), 10);
//!         Ok(())
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Everything waits for states with a deadline ([`eventually`]), nothing sleeps.

pub mod apps;
mod envoy;
mod fabric;
mod manifests;
mod mariadb;
mod process;
pub mod sandbox;
mod workload;

pub use envoy::{Envoy, EnvoyBinary, EnvoySpec, NEWEST_ENVOY, OLDEST_ENVOY, PROXY_UID};
pub use fabric::{Fabric, NODE_IPV4, NODE_IPV6, Pod, PodAddresses, ServiceRule};
pub use manifests::{Manifests, PodManifest, apply_stage, stages};
pub use mariadb::{MARIADB_PORT, MARIADB_UID, MariaDb, MariaDbClient};
pub use process::{Process, ProcessSpec, Uid, eventually};
pub use rustix::process::Signal;
pub use workload::{APPLICATION_UID, Workload, WorkloadSpec};
