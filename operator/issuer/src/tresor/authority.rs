//! Certificate authorities from PEM: parsed once, checked once, refused with a reason that names the field.

mod check;

use std::fmt;

use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;
use zeroize::Zeroize;

use crate::authority_error::AuthorityError;
use crate::der;
use crate::key::WipedKeyPair;
use crate::secret::PrivateKeyPem;

/// The certificates of an authority, from the one that signs leaves up to a self-signed root.
#[derive(Clone)]
pub(super) struct AuthorityChain {
    certificates: Vec<CertificateDer<'static>>,
    subject: String,
    not_after: OffsetDateTime,
    not_after_subject: String,
}

impl AuthorityChain {
    /// Reads `ca.crt`: the signing certificate first, each followed by its issuer, the root last.
    pub(super) fn from_pem(text: &str, now: OffsetDateTime) -> Result<Self, AuthorityError> {
        let certificates = read_certificates(text)?;
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
    pub(super) fn signing(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// What a peer needs beside the leaf and the root.
    pub(super) fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.certificates[..self.certificates.len() - 1]
    }

    /// The root.
    pub(super) fn root(&self) -> &CertificateDer<'static> {
        &self.certificates[self.certificates.len() - 1]
    }

    /// Subject of the signing certificate.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// End of validity: the earliest in the chain.
    pub(super) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Fails when the chain has ended, or ends in an instant.
    pub(super) fn check_not_expired(&self, now: OffsetDateTime) -> Result<(), AuthorityError> {
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

/// Reads `private.key` and checks that it belongs to `signing`.
pub(super) fn private_key(pem: &PrivateKeyPem, signing: &CertificateDer<'_>) -> Result<WipedKeyPair, AuthorityError> {
    let key = read_key(pem)?;
    let certificate = parse(1, signing)?;
    if certificate.public_key().subject_public_key.data.as_ref() == key.0.public_key_raw() {
        Ok(key)
    } else {
        Err(AuthorityError::KeyMismatch { subject: certificate.subject().to_string() })
    }
}

/// Reads `private.key`: PKCS#8, PKCS#1 or SEC1.
pub(super) fn read_key(pem: &PrivateKeyPem) -> Result<WipedKeyPair, AuthorityError> {
    let mut der =
        PrivateKeyDer::from_pem_slice(pem.expose_private_key_pem().as_bytes()).map_err(|error| match error {
            rustls_pki_types::pem::Error::NoItemsFound => AuthorityError::NoPrivateKey,
            // The parser's error may quote the text, and the text is a key.
            _ => AuthorityError::MalformedPrivateKey,
        })?;
    let key = KeyPair::try_from(&der).map(WipedKeyPair);
    der.zeroize();
    key.map_err(|_| AuthorityError::UnsupportedPrivateKey)
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

fn parse<'a>(position: usize, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, AuthorityError> {
    der::certificate(der).map_err(|message| AuthorityError::MalformedCertificate { position, message })
}
