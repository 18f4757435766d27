//! The crate as its users see it, by its public names only.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod adopting;
mod folder;
mod identity;
mod openssl;
mod renewal;
mod secrets;
mod store;
mod successor;
mod support;
mod tls;
mod verification;
