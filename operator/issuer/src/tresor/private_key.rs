//! The authority's private key from PEM.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, PrivateKeyDer, alg_id};
use zeroize::Zeroize;

use crate::authority;
use crate::authority_error::AuthorityError;
use crate::key::WipedKeyPair;
use crate::secret::PrivateKeyPem;

/// Reads `private.key` and checks that it belongs to `signing`.
pub(super) fn private_key(pem: &PrivateKeyPem, signing: &CertificateDer<'_>) -> Result<WipedKeyPair, AuthorityError> {
    let key = read_key(pem)?;
    let certificate = authority::parse(1, signing)?;
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

/// With which algorithm the key signs; `None` if it is of no kind that an authority may have.
pub(super) fn algorithm(key: &WipedKeyPair) -> Option<AlgorithmIdentifier> {
    let algorithms = [
        (&PKCS_ECDSA_P256_SHA256, alg_id::ECDSA_SHA256),
        (&PKCS_ECDSA_P384_SHA384, alg_id::ECDSA_SHA384),
        (&PKCS_RSA_SHA256, alg_id::RSA_PKCS1_SHA256),
    ];
    algorithms.into_iter().find(|(algorithm, _)| *algorithm == key.algorithm()).map(|(_, identifier)| identifier)
}
