//! The mesh as its users see it, on the oldest and the newest Envoy that are claimed to work.
//!
//! Needs root or user namespaces, Envoy and MariaDB; a test that cannot run fails and names what installs them (`hack/setup`).

mod first_use;
mod hygiene;
mod manifests;
mod nack;
mod refusals;
mod series;
mod services;
mod support;
