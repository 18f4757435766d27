//! Which public keys are good enough, in authorities and in requests alike.

use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Shortest RSA modulus accepted, in bits.
const RSA_MIN_BITS: usize = 2048;

/// Why a public key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublicKeyProblem {
    #[error("the public key is malformed: {0}")]
    Malformed(String),
    #[error("the RSA key has {bits} bits; at least 2048 are required")]
    ShortRsa { bits: usize },
    #[error("the key is neither RSA nor ECDSA on P-256 or P-384")]
    Unsupported,
}

/// RSA of at least 2048 bits, ECDSA on P-256 or P-384: what Envoy verifies by default.
pub(crate) fn check_public_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), PublicKeyProblem> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        return match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => check_rsa_bits(rsa.modulus),
            Ok(_) => Err(PublicKeyProblem::Unsupported),
            Err(error) => Err(PublicKeyProblem::Malformed(error.to_string())),
        };
    }
    if *algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err(PublicKeyProblem::Unsupported);
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    // The size of an uncompressed point: one byte, then two coordinates.
    let size = match curve {
        Some(curve) if curve == OID_EC_P256 => 65,
        Some(curve) if curve == OID_NIST_EC_P384 => 97,
        _ => return Err(PublicKeyProblem::Unsupported),
    };
    if key.subject_public_key.data.len() == size {
        Ok(())
    } else {
        Err(PublicKeyProblem::Malformed("the point does not fit its curve".to_owned()))
    }
}

fn check_rsa_bits(modulus: &[u8]) -> Result<(), PublicKeyProblem> {
    let bits = match modulus.iter().position(|byte| *byte != 0) {
        None => 0,
        Some(first) => {
            let significant = &modulus[first..];
            significant.len() * 8 - significant[0].leading_zeros() as usize
        }
    };
    if bits < RSA_MIN_BITS { Err(PublicKeyProblem::ShortRsa { bits }) } else { Ok(()) }
}
