//! Taking up a leaf that was issued before and kept elsewhere, so that a restart needs no new one.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use super::signing::{self, Issued, Signing};
use super::{CertificateStore, Change};
use crate::error::{Blame, IssueError};
use crate::identity::PeerIdentity;
use crate::issuer::IssuedCertificate;
use crate::leaf::LeafCertificate;
use crate::renewal::renew_at;
use crate::secret::{PrivateKeyPem, SecretMaterial};
use crate::validity::CLOCK_SKEW;
use crate::verify::{Expectation, LeafError, verify_leaf};

impl CertificateStore {
    /// Takes up a leaf that was issued before: PEM chain, leaf first, and key, as they were found at `origin`. It is held against
    /// the same as an answer of the issuer that signs now would be, also its validity. From now on the store keeps it fresh.
    ///
    /// # Errors
    /// [`IssueError::BadCertificate`] when it is not a leaf of `identity` that the signing issuer could have signed now;
    /// [`IssueError`] when its roots are not known.
    pub async fn adopt(
        &self,
        identity: &PeerIdentity,
        chain_pem: &str,
        key: PrivateKeyPem,
        origin: Blame,
    ) -> Result<Arc<LeafCertificate>, IssueError> {
        self.trust_bundle().await?;
        let issued = self.signing.adopt(identity, chain_pem, key, &origin)?;
        let entry = self.entry(identity);
        let flight = entry.join_flight().await;
        if let Some(leaf) = entry.valid_leaf(self.signing.now()) {
            return Ok(leaf);
        }
        let leaf = flight.record(Ok(issued), self.signing.now(), signing::jitter())?;
        tracing::debug!(%identity, serial = leaf.serial(), not_after = %leaf.not_after(), "took up a certificate");
        self.subscribers.publish(&Change::Leaf(identity.clone()));
        Ok(leaf)
    }
}

impl Signing {
    fn adopt(
        &self,
        identity: &PeerIdentity,
        chain_pem: &str,
        key: PrivateKeyPem,
        origin: &Blame,
    ) -> Result<Issued, IssueError> {
        let bad = |problem| IssueError::BadCertificate { origin: origin.clone(), problem };
        let now = self.now();
        let (_, generation, bundle) = self.signer()?;
        let public_key = public_key(&key).ok_or_else(|| bad(LeafError::WrongKey))?;
        let chain = chain(chain_pem).map_err(bad)?;
        let validity = self.validity_for(identity);
        let expected = Expectation { public_key: &public_key, identity, validity, bundle: &bundle };
        let verified = verify_leaf(&IssuedCertificate::new(chain), &expected, now).map_err(bad)?;
        // As the request that it came of was made, if its issuer's clock is ours.
        let issued_at = (verified.not_before + CLOCK_SKEW).min(now);
        let leaf = LeafCertificate {
            identity: identity.clone(),
            material: SecretMaterial::new(key, verified.chain),
            serial: verified.serial,
            issued_at,
            not_before: verified.not_before,
            not_after: verified.not_after,
            renew_at: renew_at(issued_at, verified.not_after, signing::jitter()),
            roots: bundle,
        };
        Ok(Issued { leaf: Arc::new(leaf), generation })
    }
}

/// The public key that belongs to a private one, without its kind. What the parsers say of a key they cannot read may quote it.
fn public_key(key: &PrivateKeyPem) -> Option<Vec<u8>> {
    let key = PrivateKeyDer::from_pem_slice(key.expose_private_key_pem().as_bytes()).ok()?;
    let key = any_supported_type(&key).ok()?;
    let info = key.public_key()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(info.as_ref()).ok()?;
    Some(info.subject_public_key.data.into_owned())
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, LeafError> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let malformed = |message| LeafError::Malformed { position: chain.len() + 1, message };
        chain.push(certificate.map_err(|error| malformed(error.to_string()))?);
    }
    Ok(chain)
}
