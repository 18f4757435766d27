//! Translations by themselves: bytes, names, attribution, and what depends on what.

mod access;
mod destinations;
mod determinism;
