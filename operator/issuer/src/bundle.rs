//! The set of roots against which a peer's certificate is verified.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use crate::{der, pem, tls};

/// A non-empty set of root certificates. Sorted and without duplicates, so equal sets are equal values and equal bytes.
#[derive(Clone)]
pub struct TrustBundle {
    roots: Vec<CertificateDer<'static>>,
    /// The same roots, parsed: every leaf that is issued is verified against them.
    parsed: Arc<RootCertStore>,
}

/// Why certificates are not a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustBundleError {
    /// An empty bundle would trust nobody, or, in some TLS libraries, everybody.
    #[error("build a trust bundle: it has no certificate")]
    Empty,
    /// A certificate is not well formed.
    #[error("build a trust bundle: certificate {position}: {message}")]
    Malformed {
        /// Position in the input, from 1.
        position: usize,
        /// The parser's words.
        message: String,
    },
}

impl TrustBundle {
    /// Checks and sorts `roots`.
    ///
    /// # Errors
    /// [`TrustBundleError`] when there is none or one cannot be a trust anchor.
    pub fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, TrustBundleError> {
        if roots.is_empty() {
            return Err(TrustBundleError::Empty);
        }
        let mut parsed = RootCertStore::empty();
        for (index, root) in roots.iter().enumerate() {
            parsed
                .add(root.clone())
                .map_err(|error| TrustBundleError::Malformed { position: index + 1, message: error.to_string() })?;
        }
        let mut roots = roots;
        roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        Ok(Self { roots, parsed: Arc::new(parsed) })
    }

    /// Reads a bundle from PEM (`CERTIFICATE` sections; other sections are passed over).
    ///
    /// # Errors
    /// [`TrustBundleError`] when a section is malformed or there is none.
    pub fn from_pem(text: &str) -> Result<Self, TrustBundleError> {
        let mut roots = Vec::new();
        for section in CertificateDer::pem_slice_iter(text.as_bytes()) {
            roots.push(section.map_err(|error| TrustBundleError::Malformed {
                position: roots.len() + 1,
                message: error.to_string(),
            })?);
        }
        Self::new(roots)
    }

    /// The roots of both, as while one root replaces another.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut roots = self.roots.clone();
        roots.extend(other.roots.iter().cloned());
        roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        let mut parsed = RootCertStore::clone(&self.parsed);
        parsed.extend(other.parsed.roots.iter().cloned());
        Self { roots, parsed: Arc::new(parsed) }
    }

    /// The roots, sorted by their bytes.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The roots as PEM, one after the other: the value of Envoy's `validation_context.trusted_ca`.
    pub fn pem(&self) -> String {
        self.roots.iter().map(|root| pem::certificate(root)).collect()
    }

    /// From when and until when all roots are valid; `None` when one cannot be read.
    pub fn validity(&self) -> Option<(OffsetDateTime, OffsetDateTime)> {
        let validity = |root: &CertificateDer<'static>| {
            let parsed = der::certificate(root).ok()?;
            Some((parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime()))
        };
        let all: Option<Vec<_>> = self.roots.iter().map(validity).collect();
        let all = all?;
        Some((all.iter().map(|(from, _)| *from).max()?, all.iter().map(|(_, until)| *until).min()?))
    }

    /// Whether every root of `other` is one of these.
    pub fn contains(&self, other: &Self) -> bool {
        other.roots.iter().all(|root| self.roots.binary_search_by(|own| own.as_ref().cmp(root.as_ref())).is_ok())
    }

    /// Whether a chain of certificates, leaf first, leads to one of the roots at `now`. Says nothing of names.
    pub fn verifies(&self, chain: &[CertificateDer<'_>], now: OffsetDateTime) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
        let Ok(since_epoch) = Duration::try_from(now - OffsetDateTime::UNIX_EPOCH) else { return false };
        let algorithms = tls::provider().signature_verification_algorithms.all;
        let now = UnixTime::since_unix_epoch(since_epoch);
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.parsed, intermediates, now, algorithms).is_ok()
    }

    pub(crate) fn root_store(&self) -> Arc<RootCertStore> {
        self.parsed.clone()
    }
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.roots == other.roots
    }
}

impl Eq for TrustBundle {}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustBundle").field("roots", &self.roots.len()).finish()
    }
}
