//! The certificates of an authority, of any provider: parsed once, checked once, refused with a reason that names the field.

mod check;
mod public_key;

use std::fmt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;

use crate::authority_error::AuthorityError;
use crate::der;

/// The certificates of an authority, from the one that signs leaves up to a self-signed root.
#[derive(Clone)]
pub(crate) struct AuthorityChain {
    certificates: Vec<CertificateDer<'static>>,
    subject: String,
    not_after: OffsetDateTime,
    not_after_subject: String,
}

impl AuthorityChain {
    /// Reads `ca.crt`: the signing certificate first, each followed by its issuer, the root last.
    pub(crate) fn from_pem(text: &str, now: OffsetDateTime) -> Result<Self, AuthorityError> {
        Self::new(read_certificates(text)?, now)
    }

    /// Checks certificates in the order of [`Self::from_pem`].
    pub(crate) fn new(certificates: Vec<CertificateDer<'static>>, now: OffsetDateTime) -> Result<Self, AuthorityError> {
        let parsed =
            certificates.iter().enumerate().map(|(index, der)| parse(index + 1, der)).collect::<Result<Vec<_>, _>>()?;
        check::chain(&parsed, now)?;
        let (Some(first), Some(earliest)) = (parsed.first(), parsed.iter().min_by_key(|one| one.validity().not_after))
        else {
            return Err(AuthorityError::NoCertificate);
        };
        let (subject, not_after, not_after_subject) =
            (first.subject().to_string(), earliest.validity().not_after.to_datetime(), earliest.subject().to_string());
        Ok(Self { certificates, subject, not_after, not_after_subject })
    }

    /// The certificate that signs leaves.
    pub(crate) fn signing(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// What providers return in any order, in the order of [`Self::from_pem`]: from `signing` on, each followed by its
    /// issuer as far as `pool` has it.
    #[cfg(any(feature = "cert-manager", feature = "vault", feature = "key-vault"))]
    pub(crate) fn ordered(
        signing: CertificateDer<'static>,
        pool: &[CertificateDer<'static>],
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        let mut chain = vec![signing];
        // A chain has no certificate twice, so it is not longer than this.
        for position in 1..=pool.len() {
            let last = parse(position, &chain[position - 1])?;
            if last.issuer().as_raw() == last.subject().as_raw() {
                break;
            }
            let signer = pool.iter().find(|other| {
                der::certificate(other).is_ok_and(|other| {
                    other.subject().as_raw() == last.issuer().as_raw()
                        && last.verify_signature(Some(other.public_key())).is_ok()
                })
            });
            let Some(signer) = signer else { break };
            chain.push(signer.clone());
        }
        Self::new(chain, now)
    }

    /// What a peer needs beside the leaf and the root.
    pub(crate) fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.certificates[..self.certificates.len() - 1]
    }

    /// The root.
    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        &self.certificates[self.certificates.len() - 1]
    }

    /// Subject of the signing certificate.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// End of validity: the earliest in the chain.
    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Fails when the chain has ended, or ends in an instant.
    pub(crate) fn check_not_expired(&self, now: OffsetDateTime) -> Result<(), AuthorityError> {
        if self.not_after > now {
            return Ok(());
        }
        Err(AuthorityError::Expired { subject: self.not_after_subject.clone(), not_after: self.not_after })
    }
}

impl fmt::Debug for AuthorityChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityChain")
            .field("subject", &self.subject)
            .field("certificates", &self.certificates.len())
            .field("not_after", &self.not_after)
            .finish()
    }
}

fn read_certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let mut certificates = Vec::new();
    for section in CertificateDer::pem_slice_iter(text.as_bytes()) {
        certificates.push(section.map_err(|error| AuthorityError::MalformedCertificate {
            position: certificates.len() + 1,
            message: error.to_string(),
        })?);
    }
    if certificates.is_empty() {
        return Err(AuthorityError::NoCertificate);
    }
    Ok(certificates)
}

pub(crate) fn parse<'a>(position: usize, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, AuthorityError> {
    der::certificate(der).map_err(|message| AuthorityError::MalformedCertificate { position, message })
}
