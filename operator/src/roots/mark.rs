//! Whether what an issuer is made from is the same as before, told without keeping it.

use std::hash::{BuildHasher as _, DefaultHasher, Hash, Hasher as _, RandomState};
use std::sync::LazyLock;

use osm_issuer::tresor::AuthorityMaterial;

/// Of this process alone, so that a mark tells nothing of what it was made from.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A digest of everything that an issuer is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// A mark that is being made.
#[derive(Debug)]
pub(super) struct Marking(DefaultHasher);

impl Marking {
    pub(super) fn new() -> Self {
        Self(KEYS.build_hasher())
    }

    pub(super) fn add(&mut self, part: impl Hash) {
        part.hash(&mut self.0);
    }

    pub(super) fn add_authority(&mut self, material: &AuthorityMaterial) {
        self.add(material.certificate_pem());
        self.add(material.private_key().expose_private_key_pem());
    }

    pub(super) fn finish(&self) -> Mark {
        Mark(self.0.finish())
    }
}
