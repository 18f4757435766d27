//! Placeholder.
pub mod world;
