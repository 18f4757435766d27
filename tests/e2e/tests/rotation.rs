//! Roots of trust are replaced, moved back and removed under constant load: no request fails, but where it was asked for.
//!
//! On the oldest and the newest Envoy that are claimed to work. Needs root or user namespaces and Envoy; a test that cannot run fails
//! and names what installs them (`hack/setup`).

#[path = "suite/manifests.rs"]
#[allow(dead_code, reason = "shared with the suite, which uses all of it")]
mod manifests;
#[path = "resilience/mesh.rs"]
#[allow(dead_code, reason = "shared with the tests of resilience, which use all of it")]
mod mesh;
#[path = "suite/support.rs"]
#[allow(dead_code, unused_macros, reason = "shared with the suite, which uses all of it")]
mod support;

#[path = "rotation/roots.rs"]
mod roots;

#[path = "rotation/disturbed.rs"]
mod disturbed;
#[path = "rotation/removed.rs"]
mod removed;
#[path = "rotation/replaced.rs"]
mod replaced;
