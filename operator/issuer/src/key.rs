//! Leaf keys: which kind, how they are made, and the request that proves possession of one.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::CertificateSigningRequestDer;
use zeroize::Zeroize;

use crate::error::IssueError;
use crate::identity::SubjectNames;
use crate::secret::PrivateKeyPem;

/// What kind of key a leaf has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LeafKeyAlgorithm {
    /// ECDSA on the P-256 curve: the default, and about a thousand times cheaper to make than RSA.
    #[default]
    EcdsaP256,
    /// RSA (MeshConfig `spec.certificate.certKeyBitSize`).
    Rsa(RsaKeySize),
}

/// Size of an RSA key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RsaKeySize {
    /// 2048 bits.
    Bits2048,
    /// 3072 bits.
    Bits3072,
    /// 4096 bits.
    Bits4096,
}

/// A key size out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use {given} as RSA key size: it must be between 2048 and 4096 bits")]
pub struct RsaKeySizeError {
    /// What was given, in bits.
    pub given: u32,
}

impl RsaKeySize {
    /// The smallest size that can be made and is not weaker than `bits`, which must be in 2048..=4096 as in OSM
    /// (MeshConfig `spec.certificate.certKeyBitSize`). OSM's schema allows odd sizes such as 2500; keys are made in
    /// steps of 1024.
    ///
    /// # Errors
    /// [`RsaKeySizeError`] outside of the bounds.
    pub fn at_least(bits: u32) -> Result<Self, RsaKeySizeError> {
        match bits {
            2048 => Ok(Self::Bits2048),
            2049..=3072 => Ok(Self::Bits3072),
            3073..=4096 => Ok(Self::Bits4096),
            given => Err(RsaKeySizeError { given }),
        }
    }

    /// The size in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits2048 => 2048,
            Self::Bits3072 => 3072,
            Self::Bits4096 => 4096,
        }
    }
}

/// A key pair whose serialised form is wiped when dropped.
pub(crate) struct WipedKeyPair(pub(crate) KeyPair);

impl Drop for WipedKeyPair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for WipedKeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for WipedKeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl fmt::Debug for WipedKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// An ECDSA key pair. The library that made it wipes its memory.
struct Ecdsa(EcdsaKeyPair);

impl PublicKeyData for Ecdsa {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Ecdsa {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

enum Pair {
    Ecdsa(Ecdsa),
    Rsa(WipedKeyPair),
}

/// A freshly made leaf key. It stays here; what leaves is the public key, or a request that proves possession.
pub(crate) struct LeafKey {
    pair: Pair,
    public_key_info: Vec<u8>,
}

impl LeafKey {
    /// Makes a key. Microseconds for ECDSA; tens of milliseconds to seconds for RSA, so that belongs on the blocking pool.
    pub(crate) fn generate(algorithm: LeafKeyAlgorithm) -> Result<Self, IssueError> {
        let attempt = "generate a private key";
        match algorithm {
            LeafKeyAlgorithm::EcdsaP256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
                    .map_err(|error| IssueError::Local { attempt, message: error.to_string() })?;
                let pair = Ecdsa(pair);
                Ok(Self { public_key_info: pair.subject_public_key_info(), pair: Pair::Ecdsa(pair) })
            }
            LeafKeyAlgorithm::Rsa(size) => {
                let size = match size {
                    RsaKeySize::Bits2048 => rcgen::RsaKeySize::_2048,
                    RsaKeySize::Bits3072 => rcgen::RsaKeySize::_3072,
                    RsaKeySize::Bits4096 => rcgen::RsaKeySize::_4096,
                };
                let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size);
                let pair = WipedKeyPair(pair.map_err(|error| local(attempt, &error))?);
                Ok(Self { public_key_info: pair.subject_public_key_info(), pair: Pair::Rsa(pair) })
            }
        }
    }

    /// The raw public key, to be compared with the certificate's.
    pub(crate) fn public_key(&self) -> &[u8] {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.der_bytes(),
            Pair::Rsa(pair) => pair.der_bytes(),
        }
    }

    /// The public key with its kind, as it stands in certificates.
    pub(crate) fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }

    pub(crate) fn is_rsa(&self) -> bool {
        matches!(self.pair, Pair::Rsa(_))
    }

    /// A certificate signing request for `names`, signed with the key.
    pub(crate) fn request(&self, names: &SubjectNames) -> Result<CertificateSigningRequestDer<'static>, IssueError> {
        let params = request_params(names, self.is_rsa())?;
        let request = match &self.pair {
            Pair::Ecdsa(pair) => params.serialize_request(pair),
            Pair::Rsa(pair) => params.serialize_request(pair),
        };
        Ok(request.map_err(|error| local("write a certificate signing request", &error))?.into())
    }

    pub(crate) fn private_key_pem(&self) -> Result<PrivateKeyPem, IssueError> {
        match &self.pair {
            Pair::Ecdsa(pair) => {
                // Wiped when dropped.
                let document = pair.0.to_pkcs8v1().map_err(|error| IssueError::Local {
                    attempt: "write a private key",
                    message: error.to_string(),
                })?;
                Ok(PrivateKeyPem::from_pkcs8(document.as_ref()))
            }
            Pair::Rsa(pair) => Ok(PrivateKeyPem::from_pkcs8(pair.0.serialized_der())),
        }
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What every leaf has, whoever signs it: names, no subject (so the names are critical), server and client use.
fn request_params(names: &SubjectNames, rsa: bool) -> Result<CertificateParams, IssueError> {
    let ia5 =
        |name: &str| name.to_owned().try_into().map_err(|error| local("write a subject alternative name", &error));
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in names.dns() {
        params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
    }
    params.subject_alt_names.push(SanType::URI(ia5(names.uri())?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Only an RSA key can encipher (RFC 8813 forbids the bit for ECDSA).
    if rsa {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

pub(crate) fn local(attempt: &'static str, error: &rcgen::Error) -> IssueError {
    IssueError::Local { attempt, message: error.to_string() }
}
