//! Key Vault's provider against a double of it (osm-key-vault-double): a real vault cannot be had.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod authentication;
mod failures;
mod issuing;
mod managed_identity;
mod support;
mod versions;
