//! cert-manager's provider against the real controllers of cert-manager on a real API server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod cluster;
mod failures;
mod issuing;
