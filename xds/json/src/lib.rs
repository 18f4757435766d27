//! Envoy resources as canonical proto JSON, and back.
//!
//! What this is: the translation between the bytes of a resource and the JSON that Envoy's documentation, its admin
//! endpoint and its static configuration files use. Messages inside `google.protobuf.Any` are expanded, keys are
//! sorted, and the bytes made from JSON are the same for equal JSON, so both directions may be compared, hashed and
//! stored.
//!
//! What this is not: a validator. A resource that is well formed here may still be refused by Envoy.
//!
//! The way through: the descriptors come from the `envoy-types` crate (`build.rs` finds them, the private module
//! `descriptors` reads them); [`to_json`] and [`from_json`] go through them; [`redact`] hides what Envoy's own
//! descriptors mark as sensitive.

// The version of this crate decides which descriptor set `build.rs` finds.
use envoy_types as _;

mod convert;
mod descriptors;
mod encode;
mod error;
mod redact;

pub use convert::{Resource, from_json, to_json};
pub use error::{FromJsonError, ToJsonError};
pub use redact::{REDACTED, redact};

#[cfg(test)]
mod tests;
