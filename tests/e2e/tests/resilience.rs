//! Under constant load, whatever changes in the mesh or happens to its control plane, no request fails.
//!
//! On the oldest and the newest Envoy that are claimed to work. Needs root or user namespaces and Envoy; a test that cannot run fails
//! and names what installs them (`hack/setup`).

#[path = "suite/manifests.rs"]
#[allow(dead_code, reason = "shared with the suite, which uses all of it")]
mod manifests;
#[path = "resilience/mesh.rs"]
mod mesh;
#[path = "suite/support.rs"]
#[allow(dead_code, unused_macros, reason = "shared with the suite, which uses all of it")]
mod support;

#[path = "resilience/changes.rs"]
mod changes;
#[path = "resilience/control_plane.rs"]
mod control_plane;
