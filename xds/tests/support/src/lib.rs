//! What the tests of `osm-xds` share: a scripted xDS client that speaks on the wire, small Envoy resources, throw-away
//! certificates, and a real Envoy as a child process.
//!
//! What this is not: a part of the product. Nothing here is used outside tests, and nothing here knows the server's
//! types: the client sees bytes and checks by itself that every response is well formed.
//!
//! The way through: [`Variant`] says which of the four protocol variants to speak; [`Connection`] opens [`Stream`]s;
//! a stream sends [`Request`]s, keeps the books a well-behaved client keeps, and returns [`Response`]s.
//!
//! Failed expectations panic: a test is the only caller.

// Panicking is how a test helper reports; there is no caller that could handle an error.
#![allow(clippy::panic)]

mod client;
mod envoy;
mod http;
mod macros;
mod pki;
mod relay;
mod resources;
mod variant;
mod world;

pub use client::{Client, Connection, DEADLINE, Ended, Received, Request, Response, Stream, Tls};
pub use envoy::{Envoy, EnvoyVersion, eventually};
pub use http::{Answer, Load, http_get, http_get_on, upstream};
pub use pki::{Authority, Identity};
pub use relay::Relay;
pub use resources::*;
pub use variant::{Path, Protocol, Variant};
pub use world::{Authenticate, Events, FLEET, NODE, Running, Unknown, World, WorldBuilder, admit};
