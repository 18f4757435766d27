//! How long a leaf is valid, by OSM's rules.

use std::fmt;
use std::time::Duration;

/// How far clocks of the mesh may differ: leaves are valid this long before they are issued, and a provider's answer may
/// start this far in the future.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Validity of a leaf: between [`LeafValidity::MIN`] and [`LeafValidity::MAX`]
/// (MeshConfig `spec.certificate.serviceCertValidityDuration`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeafValidity(Duration);

/// A validity out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use {given:?} as validity of certificates: it must be between 10 minutes and 87600 hours")]
pub struct LeafValidityError {
    /// What was given.
    pub given: Duration,
}

impl LeafValidity {
    /// 10 minutes: the shortest OSM accepts.
    pub const MIN: Self = Self(Duration::from_secs(10 * 60));
    /// 24 hours: OSM's default.
    pub const DEFAULT: Self = Self(Duration::from_secs(24 * 3600));
    /// 87600 hours: what OSM gives its internal certificates.
    pub const MAX: Self = Self(Duration::from_secs(87_600 * 3600));

    /// Checks the bounds. Fractions of a second are dropped, because certificates cannot express them.
    ///
    /// # Errors
    /// [`LeafValidityError`] outside of 10 minutes to 87600 hours.
    pub fn new(given: Duration) -> Result<Self, LeafValidityError> {
        let validity = Self(Duration::from_secs(given.as_secs()));
        if (Self::MIN..=Self::MAX).contains(&validity) { Ok(validity) } else { Err(LeafValidityError { given }) }
    }

    /// The validity as a duration in whole seconds.
    pub fn as_duration(self) -> Duration {
        self.0
    }
}

impl Default for LeafValidity {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for LeafValidity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs())
    }
}
