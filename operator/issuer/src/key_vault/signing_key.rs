//! The key in the vault: which algorithm it signs with, and whether it is the one that a certificate was made for. Pure.

use aws_lc_rs::digest;
use azure_security_keyvault_keys::models::{CurveName, JsonWebKey, KeyAttributes, KeyType, SignatureAlgorithm};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};
use time::OffsetDateTime;
use x509_parser::oid_registry::OID_PKCS1_RSASSAPSS;
use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;

use crate::der;

/// With which algorithm the vault signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Es256,
    Es384,
    Rs256,
    Ps256,
}

impl Algorithm {
    /// Decided by the key; an RSA key signs as its certificate was signed, so that whoever verifies that verifies leaves.
    pub(super) fn of(key: &JsonWebKey, certificate: &X509Certificate<'_>) -> Result<Self, String> {
        let pss = certificate.signature_algorithm.algorithm == OID_PKCS1_RSASSAPSS;
        match (&key.kty, &key.crv) {
            (Some(KeyType::Ec | KeyType::EcHsm), Some(CurveName::P256)) => Ok(Self::Es256),
            (Some(KeyType::Ec | KeyType::EcHsm), Some(CurveName::P384)) => Ok(Self::Es384),
            (Some(KeyType::Rsa | KeyType::RsaHsm), _) if pss => Ok(Self::Ps256),
            (Some(KeyType::Rsa | KeyType::RsaHsm), _) => Ok(Self::Rs256),
            _ => Err("it is neither RSA nor EC on P-256 or P-384; create such a key".to_owned()),
        }
    }

    /// The vault's name of it.
    pub(super) fn name(self) -> SignatureAlgorithm {
        match self {
            Self::Es256 => SignatureAlgorithm::Es256,
            Self::Es384 => SignatureAlgorithm::Es384,
            Self::Rs256 => SignatureAlgorithm::Rs256,
            Self::Ps256 => SignatureAlgorithm::Ps256,
        }
    }

    /// What the vault signs is a digest, made here.
    pub(super) fn digest(self, message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Es256 | Self::Rs256 | Self::Ps256 => &digest::SHA256,
            Self::Es384 => &digest::SHA384,
        };
        digest::digest(algorithm, message).as_ref().to_vec()
    }

    /// As it stands in a certificate.
    pub(super) fn identifier(self) -> AlgorithmIdentifier {
        match self {
            Self::Es256 => alg_id::ECDSA_SHA256,
            Self::Es384 => alg_id::ECDSA_SHA384,
            Self::Rs256 => alg_id::RSA_PKCS1_SHA256,
            Self::Ps256 => alg_id::RSA_PSS_SHA256,
        }
    }

    /// The vault's form of a signature in the form of certificates.
    pub(super) fn signature(self, raw: &[u8]) -> Result<Vec<u8>, String> {
        let coordinate = match self {
            Self::Es256 => 32,
            Self::Es384 => 48,
            Self::Rs256 | Self::Ps256 => return Ok(raw.to_vec()),
        };
        if raw.len() != 2 * coordinate {
            return Err(format!("the signature has {} bytes, not {}", raw.len(), 2 * coordinate));
        }
        let (r, s) = raw.split_at(coordinate);
        Ok(der::value(der::SEQUENCE, &[der::integer(r), der::integer(s)].concat()))
    }
}

/// Whether the key may sign at `now`; else why not, with the remedy.
pub(super) fn check_usable(
    attributes: Option<&KeyAttributes>,
    key: &JsonWebKey,
    now: OffsetDateTime,
) -> Result<(), String> {
    if let Some(attributes) = attributes {
        if attributes.enabled == Some(false) {
            return Err("it is disabled; enable it".to_owned());
        }
        if let Some(expires) = attributes.expires.filter(|expires| *expires <= now) {
            return Err(format!("it expired at {expires}; extend it, or rotate to a new version"));
        }
        if let Some(not_before) = attributes.not_before.filter(|not_before| *not_before > now) {
            return Err(format!("it is not valid before {not_before}; correct its activation date"));
        }
    }
    match &key.key_ops {
        Some(operations) if !operations.iter().any(|operation| operation == "sign") => {
            Err("its permitted operations lack `sign`; add that".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether the certificate was made for the key.
pub(super) fn belongs(key: &JsonWebKey, certificate: &X509Certificate<'_>) -> bool {
    let spki = certificate.public_key();
    match (&key.x, &key.y, &key.n, &key.e) {
        (Some(x), Some(y), ..) => {
            let point = spki.subject_public_key.data.as_ref();
            let same = |half: &[u8], whole: &[u8]| trimmed(half) == trimmed(whole);
            let half = point.len().saturating_sub(1) / 2;
            point.len() > 1 && point[0] == 4 && same(x, &point[1..=half]) && same(y, &point[1 + half..])
        }
        (_, _, Some(n), Some(e)) => match spki.parsed() {
            Ok(PublicKey::RSA(rsa)) => trimmed(rsa.modulus) == trimmed(n) && trimmed(rsa.exponent) == trimmed(e),
            _ => false,
        },
        _ => false,
    }
}

fn trimmed(big_endian: &[u8]) -> &[u8] {
    let first = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
    &big_endian[first..]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_the_vault_become_der() {
        let mut raw = vec![0; 64];
        raw[31] = 1;
        raw[32] = 0x80;
        let der = Algorithm::Es256.signature(&raw).unwrap();
        let s = [&[0x02, 33, 0, 0x80][..], &[0; 31]].concat();
        assert_eq!(der, [&[0x30, 38, 0x02, 1, 1][..], &s].concat());
        assert!(Algorithm::Es384.signature(&raw).unwrap_err().contains("64 bytes, not 96"));
        assert_eq!(Algorithm::Rs256.signature(&raw).unwrap(), raw);
        let longest = Algorithm::Es384.signature(&[0xff; 96]).unwrap();
        assert_eq!(longest.len(), 2 + 2 * 51);
    }
}
