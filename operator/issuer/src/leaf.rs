//! A leaf certificate in use.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::bundle::TrustBundle;
use crate::identity::PeerIdentity;
use crate::secret::SecretMaterial;

/// A verified leaf with its key. Only the store makes these, so holding one means that key, names, chain and validity
/// have been checked.
#[derive(Debug, Clone)]
pub struct LeafCertificate {
    pub(crate) identity: PeerIdentity,
    pub(crate) material: SecretMaterial,
    pub(crate) serial: String,
    pub(crate) issued_at: OffsetDateTime,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) renew_at: OffsetDateTime,
    pub(crate) roots: Arc<TrustBundle>,
}

impl LeafCertificate {
    /// Whom the certificate names.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// Key and chain.
    pub fn material(&self) -> &SecretMaterial {
        &self.material
    }

    /// Serial number, hexadecimal bytes joined by colons.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The roots of the issuer that signed it: a peer verifies it if it trusts one of them.
    pub fn roots(&self) -> &Arc<TrustBundle> {
        &self.roots
    }

    /// When it was issued, by our clock.
    pub fn issued_at(&self) -> OffsetDateTime {
        self.issued_at
    }

    /// Start of validity.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// When it is due for renewal.
    pub fn renew_at(&self) -> OffsetDateTime {
        self.renew_at
    }
}
