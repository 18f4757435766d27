//! Benchmarks of the control plane, as ratios taken in one run against peers: the floor server (the least that tonic
//! can do), go-control-plane (a Go program in `gcp/`) and the project's own xDS server.
//!
//! This is no micro-benchmark suite and no test of conformance; what it asserts of a server is what a proxy needs to be
//! right about: content, versions, counts.
//!
//! The path of a run: a server process is started and steered by [`control`] over the [`world`] it holds; a [`fleet`] of
//! synthetic proxies loads and verifies it.

pub mod api_server;
pub mod control;
pub mod figure;
pub mod fleet;
pub mod floor;
pub mod folder;
pub mod machine;
pub mod measure;
pub mod mesh;
pub mod operator;
pub mod ours;
pub mod process;
pub mod report;
pub mod sandboxed;
pub mod statistics;
pub mod subject;
pub mod world;
