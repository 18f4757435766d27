//! The one place where a provider's answer becomes a certificate that may be used.

use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;

use crate::bundle::TrustBundle;
use crate::der;
use crate::identity::{IdentityError, PeerIdentity};
use crate::issuer::{CertificateRequest, IssuedCertificate};
use crate::tls;
use crate::validity::{CLOCK_SKEW, LeafValidity};

/// A leaf that ends sooner than this is of no use: it could not be distributed in time.
const MIN_REMAINING: Duration = Duration::from_secs(60);

/// Why a certificate that a provider returned is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The answer has no certificate.
    #[error("the answer has no certificate")]
    Empty,
    /// A certificate of the chain cannot be read.
    #[error("certificate {position} of the answer is malformed: {message}")]
    Malformed {
        /// Position in the chain, from 1.
        position: usize,
        /// The parser's words.
        message: String,
    },
    /// The certificate is for another key than the one in the request.
    #[error("the certificate is for another key")]
    WrongKey,
    /// The certificate does not carry an identity of this mesh.
    #[error("the certificate carries no identity of this mesh: {0}")]
    NoIdentity(IdentityError),
    /// The certificate names somebody else.
    #[error("the certificate is for {found}, requested was {requested}")]
    WrongIdentity {
        /// URI in the request.
        requested: String,
        /// URI in the certificate.
        found: String,
    },
    /// The leaf could itself sign certificates.
    #[error("the certificate is a certificate authority")]
    IsAuthority,
    /// A usage that mutual TLS needs is missing.
    #[error("certificate {position} of the answer does not allow {usage}")]
    MissingUsage {
        /// Position in the chain, from 1.
        position: usize,
        /// Which usage.
        usage: &'static str,
    },
    /// The validity begins too far in the future.
    #[error("the certificate is not valid before {not_before}; the issuer's clock is more than 5 minutes ahead")]
    NotYetValid {
        /// Start of validity.
        not_before: OffsetDateTime,
    },
    /// The validity is over, or is within a minute.
    #[error("the certificate ends at {not_after}, less than a minute from now")]
    Expired {
        /// End of validity.
        not_after: OffsetDateTime,
    },
    /// The certificate is valid for longer than was asked.
    #[error("the certificate ends at {not_after}, later than the requested {requested}")]
    TooLong {
        /// End of validity.
        not_after: OffsetDateTime,
        /// Latest end that was asked for.
        requested: OffsetDateTime,
    },
    /// The chain does not lead to a root of the trust bundle.
    #[error("the certificate does not verify against the trust bundle: {message}")]
    Untrusted {
        /// The verifier's words.
        message: String,
    },
}

/// What an answer is held against.
pub(crate) struct Expectation<'a> {
    /// The public key, without its kind.
    pub(crate) public_key: &'a [u8],
    pub(crate) identity: &'a PeerIdentity,
    /// How long it may be valid from now on.
    pub(crate) validity: LeafValidity,
    pub(crate) bundle: &'a TrustBundle,
}

impl<'a> Expectation<'a> {
    /// What a request asks for.
    pub(crate) fn of(request: &'a CertificateRequest, bundle: &'a TrustBundle) -> Self {
        let (public_key, identity) = (request.public_key(), request.identity());
        Self { public_key, identity, validity: request.validity(), bundle }
    }
}

/// A chain that passed.
#[derive(Debug)]
pub(crate) struct VerifiedChain {
    /// Leaf and intermediates, without roots.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    /// Serial number of the leaf, hexadecimal.
    pub(crate) serial: String,
}

/// Checks key, names, usage, validity at `now`, and the chain up to the trust bundle.
pub(crate) fn verify_leaf(
    issued: &IssuedCertificate,
    expected: &Expectation<'_>,
    now: OffsetDateTime,
) -> Result<VerifiedChain, LeafError> {
    let parsed = parse_chain(issued.chain())?;
    let (Some(leaf), Some(leaf_der)) = (parsed.first(), issued.chain().first()) else {
        return Err(LeafError::Empty);
    };
    check_key(leaf, expected.public_key)?;
    check_identity(leaf, expected.identity)?;
    check_usage(leaf, &parsed)?;
    let (not_before, not_after) = check_validity(leaf, expected.validity, now)?;
    let intermediates: Vec<_> = issued.chain()[1..]
        .iter()
        .zip(&parsed[1..])
        .filter(|(_, certificate)| certificate.issuer().as_raw() != certificate.subject().as_raw())
        .map(|(der, _)| der.clone())
        .collect();
    // An issuer whose clock is a little ahead is forgiven; everything else must hold at that instant.
    check_chain(leaf_der, &intermediates, expected.bundle, now.max(not_before))?;
    let serial = leaf.tbs_certificate.raw_serial_as_string();
    let mut chain = vec![leaf_der.clone()];
    chain.extend(intermediates);
    Ok(VerifiedChain { chain, not_before, not_after, serial })
}

fn parse_chain<'a>(chain: &'a [CertificateDer<'static>]) -> Result<Vec<X509Certificate<'a>>, LeafError> {
    chain
        .iter()
        .enumerate()
        .map(|(index, der)| {
            der::certificate(der).map_err(|message| LeafError::Malformed { position: index + 1, message })
        })
        .collect()
}

fn check_key(leaf: &X509Certificate<'_>, public_key: &[u8]) -> Result<(), LeafError> {
    if leaf.public_key().subject_public_key.data.as_ref() == public_key { Ok(()) } else { Err(LeafError::WrongKey) }
}

fn check_identity(leaf: &X509Certificate<'_>, requested: &PeerIdentity) -> Result<(), LeafError> {
    let found = PeerIdentity::from_parsed(leaf).map_err(LeafError::NoIdentity)?;
    if found == *requested {
        Ok(())
    } else {
        Err(LeafError::WrongIdentity { requested: requested.uri(), found: found.uri() })
    }
}

/// The leaf signs handshakes and not certificates; the leaf and its intermediates serve both sides of a connection.
fn check_usage(leaf: &X509Certificate<'_>, chain: &[X509Certificate<'_>]) -> Result<(), LeafError> {
    let malformed = |position: usize, message: String| LeafError::Malformed { position, message };
    if leaf.is_ca() {
        return Err(LeafError::IsAuthority);
    }
    let usage = leaf.key_usage().map_err(|error| malformed(1, error.to_string()))?;
    if usage.is_some_and(|usage| !usage.value.digital_signature()) {
        return Err(LeafError::MissingUsage { position: 1, usage: "digitalSignature" });
    }
    for (index, certificate) in chain.iter().enumerate() {
        let position = index + 1;
        let extended = certificate.extended_key_usage().map_err(|error| malformed(position, error.to_string()))?;
        let Some(extended) = extended.filter(|usage| !usage.value.any) else {
            continue;
        };
        let usages = [(extended.value.server_auth, "serverAuth"), (extended.value.client_auth, "clientAuth")];
        if let Some((_, usage)) = usages.into_iter().find(|(allowed, _)| !allowed) {
            return Err(LeafError::MissingUsage { position, usage });
        }
    }
    Ok(())
}

fn check_validity(
    leaf: &X509Certificate<'_>,
    validity: LeafValidity,
    now: OffsetDateTime,
) -> Result<(OffsetDateTime, OffsetDateTime), LeafError> {
    let not_before = leaf.validity().not_before.to_datetime();
    let not_after = leaf.validity().not_after.to_datetime();
    if not_before > now + CLOCK_SKEW {
        return Err(LeafError::NotYetValid { not_before });
    }
    if not_after < now + MIN_REMAINING || not_after <= not_before {
        return Err(LeafError::Expired { not_after });
    }
    // Counted from `now`, not from the request: a slow issuer counts from when it signs.
    let requested = now + validity.as_duration() + CLOCK_SKEW;
    if not_after > requested {
        return Err(LeafError::TooLong { not_after, requested });
    }
    Ok((not_before, not_after))
}

fn check_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    at: OffsetDateTime,
) -> Result<(), LeafError> {
    let untrusted = |error: rustls::Error| LeafError::Untrusted { message: error.to_string() };
    let seconds = u64::try_from(at.unix_timestamp()).unwrap_or_default();
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf).map_err(untrusted)?,
        &bundle.root_store(),
        intermediates,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        tls::provider().signature_verification_algorithms.all,
    )
    .map_err(untrusted)
}
