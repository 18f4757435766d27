//! The rules for an authority's chain, one function a rule.

use time::OffsetDateTime;
use x509_parser::oid_registry::{
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid,
};
use x509_parser::prelude::X509Certificate;
use x509_parser::signature_algorithm::SignatureAlgorithm;

use super::public_key::{PublicKeyProblem, check_public_key};
use crate::authority_error::AuthorityError;
use crate::validity::CLOCK_SKEW;

/// All rules, for all certificates of a chain that begins with the one that signs leaves.
pub(super) fn chain(certificates: &[X509Certificate<'_>], now: OffsetDateTime) -> Result<(), AuthorityError> {
    for (below, certificate) in certificates.iter().enumerate() {
        let place = Place { position: below + 1, certificate };
        place.named()?;
        place.is_authority(below)?;
        place.may_sign()?;
        place.validity(now)?;
        place.key()?;
        place.signature_algorithm()?;
        match certificates.get(below + 1) {
            Some(issuer) => place.signed_by(issuer)?,
            None => place.self_signed()?,
        }
    }
    Ok(())
}

/// A certificate with its position, for messages.
struct Place<'a, 'b> {
    position: usize,
    certificate: &'a X509Certificate<'b>,
}

impl Place<'_, '_> {
    fn subject(&self) -> String {
        self.certificate.subject().to_string()
    }

    fn malformed(&self, message: &(impl ToString + ?Sized)) -> AuthorityError {
        AuthorityError::MalformedCertificate { position: self.position, message: message.to_string() }
    }

    /// Certificates name their issuer by its subject.
    fn named(&self) -> Result<(), AuthorityError> {
        match self.certificate.subject().iter().next() {
            Some(_) => Ok(()),
            None => Err(self.malformed("its subject is empty")),
        }
    }

    fn is_authority(&self, below: usize) -> Result<(), AuthorityError> {
        let constraints = self
            .certificate
            .basic_constraints()
            .map_err(|error| self.malformed(&error))?
            .filter(|constraints| constraints.value.ca)
            .ok_or_else(|| AuthorityError::NotAuthority { position: self.position, subject: self.subject() })?;
        match constraints.value.path_len_constraint {
            Some(allowed) if (allowed as usize) < below => Err(AuthorityError::PathLength {
                position: self.position,
                subject: self.subject(),
                allowed,
                needed: below,
            }),
            _ => Ok(()),
        }
    }

    fn may_sign(&self) -> Result<(), AuthorityError> {
        let usage = self.certificate.key_usage().map_err(|error| self.malformed(&error))?;
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(AuthorityError::MayNotSign { position: self.position, subject: self.subject() });
        }
        let extended = self.certificate.extended_key_usage().map_err(|error| self.malformed(&error))?;
        let suits_tls =
            extended.is_none_or(|usage| usage.value.any || (usage.value.server_auth && usage.value.client_auth));
        if suits_tls {
            Ok(())
        } else {
            Err(AuthorityError::WrongExtendedKeyUsage { position: self.position, subject: self.subject() })
        }
    }

    fn validity(&self, now: OffsetDateTime) -> Result<(), AuthorityError> {
        let not_before = self.certificate.validity().not_before.to_datetime();
        let not_after = self.certificate.validity().not_after.to_datetime();
        if not_after <= now {
            return Err(AuthorityError::Expired { subject: self.subject(), not_after });
        }
        if not_before > now + CLOCK_SKEW {
            return Err(AuthorityError::NotYetValid { subject: self.subject(), not_before });
        }
        Ok(())
    }

    fn key(&self) -> Result<(), AuthorityError> {
        check_public_key(self.certificate.public_key()).map_err(|problem| match problem {
            PublicKeyProblem::Malformed(message) => self.malformed(&message),
            PublicKeyProblem::ShortRsa { bits } => {
                AuthorityError::WeakKey { position: self.position, subject: self.subject(), bits }
            }
            PublicKeyProblem::Unsupported => {
                AuthorityError::UnsupportedKey { position: self.position, subject: self.subject() }
            }
        })
    }

    fn signature_algorithm(&self) -> Result<(), AuthorityError> {
        const STRONG: [Oid<'static>; 6] = [
            OID_PKCS1_SHA256WITHRSA,
            OID_PKCS1_SHA384WITHRSA,
            OID_PKCS1_SHA512WITHRSA,
            OID_SIG_ECDSA_WITH_SHA256,
            OID_SIG_ECDSA_WITH_SHA384,
            OID_SIG_ECDSA_WITH_SHA512,
        ];
        let algorithm = &self.certificate.signature_algorithm;
        let oid = &algorithm.algorithm;
        // RSASSA-PSS names its hash in the parameters; its default is SHA-1.
        let strong = STRONG.contains(oid) || (*oid == OID_PKCS1_RSASSAPSS && pss_hash_is_strong(algorithm));
        if strong {
            return Ok(());
        }
        let name = x509_parser::objects::oid2sn(oid, x509_parser::objects::oid_registry())
            .map_or_else(|_| oid.to_id_string(), str::to_owned);
        Err(AuthorityError::WeakSignature { position: self.position, subject: self.subject(), algorithm: name })
    }

    fn signed_by(&self, issuer: &X509Certificate<'_>) -> Result<(), AuthorityError> {
        let named = self.certificate.issuer().as_raw() == issuer.subject().as_raw();
        if named && self.certificate.verify_signature(Some(issuer.public_key())).is_ok() {
            Ok(())
        } else {
            Err(AuthorityError::BrokenChain { position: self.position, subject: self.subject() })
        }
    }

    fn self_signed(&self) -> Result<(), AuthorityError> {
        let own = self.certificate.issuer().as_raw() == self.certificate.subject().as_raw();
        if own && self.certificate.verify_signature(None).is_ok() {
            Ok(())
        } else {
            Err(AuthorityError::NoRoot { subject: self.subject(), issuer: self.certificate.issuer().to_string() })
        }
    }
}

fn pss_hash_is_strong(algorithm: &x509_parser::x509::AlgorithmIdentifier<'_>) -> bool {
    use x509_parser::oid_registry::{OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512};
    let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(algorithm) else {
        return false;
    };
    [OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512].contains(parameters.hash_algorithm_oid())
}
