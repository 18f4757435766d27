//! How keys and entries are hashed.

use std::hash::{BuildHasherDefault, DefaultHasher};

/// A hasher with a fixed start value: the standard one reads randomness. Nothing iterates over a map that uses it.
pub(crate) type FixedState = BuildHasherDefault<DefaultHasher>;
