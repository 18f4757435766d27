//! Tresor: a certificate authority inside this process, created or loaded from PEM.

mod folder;
mod private_key;

use std::sync::Arc;

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SerialNumber, SigningKey,
};
use time::OffsetDateTime;

pub use folder::load_or_create;

use crate::authority::{self, AuthorityChain};
use crate::authority_error::AuthorityError;
use crate::bundle::TrustBundle;
use crate::error::{Blame, IssueError};
use crate::identity::{ControlPlaneIdentity, PeerIdentity, TrustDomain};
use crate::issuer::{CertificateRequest, IssuedCertificate, Issuer, IssuerHealth};
use crate::key::{LeafKey, LeafKeyAlgorithm, WipedKeyPair, local};
use crate::pem;
use crate::secret::PrivateKeyPem;
use crate::serial;
use crate::to_sign::Template;
use crate::validity::{CLOCK_SKEW, LeafValidity};
use crate::verify::{Expectation, verify_leaf};

/// Common name of an authority that is created, as in OSM.
pub const AUTHORITY_COMMON_NAME: &str = "osm-ca.openservicemesh.io";
/// Organization of an authority that is created, as in OSM.
pub const AUTHORITY_ORGANIZATION: &str = "Open Service Mesh";
/// Validity of an authority that is created: 10 years, as in OSM.
const AUTHORITY_VALIDITY: time::Duration = time::Duration::hours(87_600);

/// The certificate chain and key of an authority, as a Secret or folder holds them (`ca.crt`, `private.key`). Unchecked:
/// [`Tresor::new`] checks them.
#[derive(Debug, Clone)]
pub struct AuthorityMaterial {
    certificate_pem: String,
    private_key: PrivateKeyPem,
}

/// Key of an authority that is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthorityKey {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// RSA of 2048 bits, OSM's choice.
    Rsa2048,
}

impl AuthorityMaterial {
    /// `certificate_pem` is the signing certificate, followed by its issuers up to the root (`ca.crt`); `private_key` is
    /// the key of the first (`private.key`).
    pub fn new(certificate_pem: String, private_key: PrivateKeyPem) -> Self {
        Self { certificate_pem, private_key }
    }

    /// Creates a self-signed authority that is valid from five minutes before `now` for ten years and may sign leaves
    /// only. An RSA key takes tens of milliseconds.
    ///
    /// # Errors
    /// [`IssueError::Local`] when the process has no randomness.
    pub fn generate(key: AuthorityKey, now: OffsetDateTime) -> Result<Self, IssueError> {
        let key = match key {
            AuthorityKey::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            AuthorityKey::Rsa2048 => KeyPair::generate_for(&PKCS_RSA_SHA256),
        };
        let key = WipedKeyPair(key.map_err(|error| local("generate a private key", &error))?);
        Self::self_signed(&key, now)
    }

    fn self_signed(key: &WipedKeyPair, now: OffsetDateTime) -> Result<Self, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, AUTHORITY_COMMON_NAME);
        params.distinguished_name.push(DnType::OrganizationName, AUTHORITY_ORGANIZATION);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + AUTHORITY_VALIDITY;
        params.serial_number = Some(SerialNumber::from_slice(&serial::random()?));
        let certificate = params.self_signed(key).map_err(|error| local("sign a certificate authority", &error))?;
        Ok(Self {
            certificate_pem: pem::certificate(certificate.der()),
            private_key: PrivateKeyPem::from_pkcs8(key.0.serialized_der()),
        })
    }

    /// The chain as PEM. Public.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key.
    pub fn private_key(&self) -> &PrivateKeyPem {
        &self.private_key
    }
}

/// What Tresor is made from.
#[derive(Debug, Clone)]
pub struct TresorConfig {
    /// The authority.
    pub material: AuthorityMaterial,
    /// Where the material came from, to be blamed when it is no good.
    pub origin: Blame,
}

/// The local certificate authority.
#[derive(Debug)]
pub struct Tresor {
    origin: Blame,
    chain: AuthorityChain,
    bundle: TrustBundle,
    key: WipedKeyPair,
    template: Template,
}

impl Tresor {
    /// Checks the material: well formed, a chain from the signing certificate to a self-signed root, all of them
    /// authorities with a sufficient path length, valid at `now`, strong keys and signatures, and the key belonging to
    /// the first. Ends with a leaf signed and verified on trial, so that an authority no peer would accept (for example
    /// one with name constraints) is refused here and not at the first request.
    ///
    /// # Errors
    /// [`IssueError::UnusableAuthority`] naming the origin, the field and what is wrong.
    pub fn new(config: TresorConfig, now: OffsetDateTime) -> Result<Self, IssueError> {
        let TresorConfig { material, origin } = config;
        let unusable = |problem| IssueError::UnusableAuthority { origin: origin.clone(), problem };
        let refused = |message: String| unusable(AuthorityError::TrialRefused { message });
        let chain = AuthorityChain::from_pem(&material.certificate_pem, now).map_err(unusable)?;
        let key = private_key::private_key(&material.private_key, chain.signing()).map_err(unusable)?;
        let algorithm = private_key::algorithm(&key).ok_or_else(|| unusable(AuthorityError::UnsupportedPrivateKey))?;
        let bundle = TrustBundle::new(vec![chain.root().clone()]).map_err(|error| refused(error.to_string()))?;
        let signing = authority::parse(1, chain.signing()).map_err(unusable)?;
        let template = Template::new(&signing, algorithm, chain.not_after());
        let tresor = Self { origin, chain, bundle, key, template };
        tresor.try_signing(now)?;
        Ok(tresor)
    }

    fn try_signing(&self, now: OffsetDateTime) -> Result<(), IssueError> {
        let refused = |message: String| self.unusable(AuthorityError::TrialRefused { message });
        let identity = TrustDomain::new("trial.invalid")
            .and_then(|domain| {
                let service = ControlPlaneIdentity::DEFAULT_SERVICE;
                ControlPlaneIdentity::new(domain, "trial", service)
            })
            .map(PeerIdentity::ControlPlane)
            .map_err(|error| refused(error.to_string()))?;
        let key = Arc::new(LeafKey::generate(LeafKeyAlgorithm::EcdsaP256)?);
        let request = CertificateRequest::new(key, identity, LeafValidity::MIN, now);
        let issued = self.sign(&request)?;
        let expected = Expectation::of(&request, &self.bundle);
        verify_leaf(&issued, &expected, now).map(|_| ()).map_err(|error| refused(error.to_string()))
    }

    fn sign(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        self.chain.check_not_expired(request.now()).map_err(|problem| self.unusable(problem))?;
        let to_sign = self.template.to_sign(request)?;
        let signature = self.key.sign(&to_sign).map_err(|error| local("sign a certificate", &error))?;
        let mut chain = vec![self.template.signed(&to_sign, &signature)];
        chain.extend(self.chain.intermediates().iter().cloned());
        Ok(IssuedCertificate::new(chain))
    }

    fn unusable(&self, problem: AuthorityError) -> IssueError {
        IssueError::UnusableAuthority { origin: self.origin.clone(), problem }
    }
}

#[async_trait]
impl Issuer for Tresor {
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        self.sign(request)
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        Ok(self.bundle.clone())
    }

    async fn probe(&self, now: OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        self.chain.check_not_expired(now).map_err(|problem| self.unusable(problem))?;
        Ok(IssuerHealth::new(self.chain.subject().to_owned(), self.chain.not_after()))
    }
}
