//! What the workspace promises about itself: which crate may know which, what pure crates may reach, and that no file is
//! forgotten. The promises are in `tests`; this is how they are looked up.
//!
//! What this is not: a linter of code. What a compiler or clippy can say is left to them.
//!
//! The path through it: [`Workspace`] asks `cargo metadata`; [`sources`] reads files.

pub mod sources;
mod workspace;

pub use workspace::{Package, Workspace};
