//! Everyday commands against a cluster. Each is a file: its arguments, what it does, and what it prints.
//!
//! What they decide is in functions of values, so that it can be tested without a cluster; only [`cluster`] talks to one.

pub(crate) mod certificate;
pub(crate) mod check;
mod cluster;
pub(crate) mod completion;
pub(crate) mod install;
pub(crate) mod namespace;
mod output;
pub(crate) mod policy;
pub(crate) mod proxy;
pub(crate) mod verify;
pub(crate) mod version;
