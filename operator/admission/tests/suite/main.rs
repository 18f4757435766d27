//! Injection and validation, from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod copies;
mod golden;
mod properties;
mod support;
mod validation;
