//! Translations by themselves (`pure`), and as real Envoys take them: in validate mode, and live on the loopback addresses
//! over a delta ADS stream.
//!
//! Every test of the second kind runs on the oldest and the newest Envoy claimed. `OSM_ENVOY_DIR` names a directory that holds
//! `1.36.2/envoy` and `1.40.0/envoy`; without it the tests fail.
//!
//! Except in `redirected`, nothing redirects connections, so listeners are moved to loopback addresses of their own, which
//! play the ClusterIP or the pod's address. Everything else is the bytes that a proxy in a pod would get.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by failing")]

mod ads;
mod application;
mod certificates;
mod envoy;
mod everything;
mod fixture;
mod http;
mod inbound;
mod outbound;
mod peer;
mod pure;
mod redirected;
mod tcp;
mod validate;
