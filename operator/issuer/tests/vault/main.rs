//! Vault's provider against a real server: OpenBao, which has Vault's API. Needs python3 with pip the first time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod failures;
mod issuing;
mod kubernetes;
mod open_bao;
mod proxy;
mod roles;
mod tokens;
