//! The control plane against a real API server: what it writes, when, and what it does when things go away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

#[path = "documentation/blocks.rs"]
mod blocks;
#[path = "api_server/credentials.rs"]
mod credentials;
#[path = "api_server/faults.rs"]
mod faults;
#[path = "api_server/front.rs"]
mod front;
#[path = "api_server/gateway.rs"]
mod gateway;
#[path = "api_server/kstatus.rs"]
mod kstatus;
#[path = "api_server/outages.rs"]
mod outages;
#[path = "api_server/owners.rs"]
mod owners;
#[path = "api_server/pages.rs"]
mod pages;
#[path = "api_server/pod_security.rs"]
mod pod_security;
#[path = "api_server/replicas.rs"]
mod replicas;
#[path = "api_server/rights.rs"]
mod rights;
#[path = "api_server/roots.rs"]
mod roots;
#[path = "api_server/sources.rs"]
mod sources;
#[path = "api_server/status.rs"]
mod status;
#[path = "api_server/world.rs"]
mod world;
