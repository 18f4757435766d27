//! Roots that cannot be used, from an object in a folder to its status document: each is named with its field, and the root that is
//! in force goes on signing.
//!
//! Needs the program `openssl` for what no library of ours would make.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod authorities;
mod control_plane;
mod providers;
mod vault;
