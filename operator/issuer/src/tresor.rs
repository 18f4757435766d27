//! Tresor: a certificate authority inside this process, created or loaded from PEM.

mod folder;
mod private_key;

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

pub use folder::load_or_create;

use crate::authority::{AuthorityChain, check_public_key};
use crate::authority_error::AuthorityError;
use crate::bundle::TrustBundle;
use crate::error::{Blame, IssueError};
use crate::identity::{ControlPlaneIdentity, PeerIdentity, TrustDomain};
use crate::issuer::{CertificateRequest, IssuedCertificate, Issuer, IssuerHealth};
use crate::key::{LeafKey, LeafKeyAlgorithm, WipedKeyPair, leaf_params, local};
use crate::pem;
use crate::secret::PrivateKeyPem;
use crate::serial;
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
    signer: rcgen::Issuer<'static, WipedKeyPair>,
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
        chain.check_subject_can_be_copied().map_err(unusable)?;
        let key = private_key::private_key(&material.private_key, chain.signing()).map_err(unusable)?;
        let bundle = TrustBundle::new(vec![chain.root().clone()]).map_err(|error| refused(error.to_string()))?;
        let signer =
            rcgen::Issuer::from_ca_cert_der(chain.signing(), key).map_err(|error| refused(error.to_string()))?;
        let tresor = Self { origin, chain, bundle, signer };
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
        let key = LeafKey::generate(LeafKeyAlgorithm::EcdsaP256, &identity.subject_names())?;
        let request = CertificateRequest::new(key.request().clone(), identity, LeafValidity::MIN, now);
        let issued = self.sign(&request)?;
        let expected = Expectation { request: &request, public_key: key.public_key(), bundle: &self.bundle };
        verify_leaf(&issued, &expected, now).map(|_| ()).map_err(|error| refused(error.to_string()))
    }

    fn sign(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        let now = request.now();
        self.chain.check_not_expired(now).map_err(|problem| self.unusable(problem))?;
        let csr = read_csr(request)?;
        let mut params = leaf_params(&request.subject_names(), PublicKeyData::algorithm(&csr.public_key))?;
        // Written out as CA:FALSE; also what makes the library add the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&serial::random()?));
        params.not_before = now - CLOCK_SKEW;
        params.not_after = (now + request.validity().as_duration()).min(self.chain.not_after());
        let leaf: CertificateDer<'static> = params
            .signed_by(&csr.public_key, &self.signer)
            .map_err(|error| local("sign a certificate", &error))?
            .into();
        let mut chain = vec![leaf];
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

/// Checks the proof of possession and the key. The names that the request asks for are not used: what is signed comes
/// from the caller.
fn read_csr(request: &CertificateRequest) -> Result<CertificateSigningRequestParams, IssueError> {
    let bad = |message: String| IssueError::BadRequest { message };
    let (rest, parsed) = X509CertificationRequest::from_der(request.csr()).map_err(|error| bad(error.to_string()))?;
    if !rest.is_empty() {
        return Err(bad("bytes follow the request".to_owned()));
    }
    let info = &parsed.certification_request_info;
    check_public_key(&info.subject_pki).map_err(|problem| bad(problem.to_string()))?;
    let csr = CertificateSigningRequestParams::from_der(request.csr()).map_err(|error| bad(error.to_string()))?;
    // The library takes the key's kind from the signature's; a request signed with another hash would be misread.
    let written = PublicKeyData::subject_public_key_info(&csr.public_key);
    if written == info.subject_pki.raw {
        Ok(csr)
    } else {
        Err(bad("the signature algorithm does not fit the public key".to_owned()))
    }
}
