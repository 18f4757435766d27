//! The seam between the certificate store and whoever signs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;

use crate::bundle::TrustBundle;
use crate::error::{Blame, IssueError};
use crate::identity::{PeerIdentity, SubjectNames};
use crate::key::{LeafKey, LeafKeyAlgorithm};
use crate::validity::LeafValidity;
use crate::verify::{Expectation, verify_leaf};

/// What a provider is asked to sign. It holds the leaf's private key and never gives it: a provider that must send a signing
/// request has one [made](Self::csr) with it, and one that writes the certificate itself needs the public key alone.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    key: Arc<LeafKey>,
    identity: PeerIdentity,
    names: SubjectNames,
    validity: LeafValidity,
    now: OffsetDateTime,
}

impl CertificateRequest {
    /// A request for `identity` and `key`, made at `now`.
    pub(crate) fn new(key: Arc<LeafKey>, identity: PeerIdentity, validity: LeafValidity, now: OffsetDateTime) -> Self {
        let names = identity.subject_names();
        Self { key, identity, names, validity, now }
    }

    /// A certificate signing request (PKCS#10 DER), made anew: the public key, the names, and a signature that proves
    /// possession of the private key.
    ///
    /// # Errors
    /// [`IssueError::Local`] when the process cannot sign.
    pub fn csr(&self) -> Result<CertificateSigningRequestDer<'static>, IssueError> {
        self.key.request(&self.names)
    }

    /// The public key, without its kind: a point of ECDSA, or modulus and exponent of RSA.
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }

    /// The public key as it stands in certificates (`SubjectPublicKeyInfo`, DER).
    pub fn public_key_info(&self) -> &[u8] {
        self.key.public_key_info()
    }

    /// Whether the key is RSA, which may encipher; else it is ECDSA.
    pub fn is_rsa(&self) -> bool {
        self.key.is_rsa()
    }

    /// Whom the certificate shall name.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// The names the certificate shall carry, no more and no less. A provider signs these whatever the CSR says.
    pub fn subject_names(&self) -> &SubjectNames {
        &self.names
    }

    /// How long the certificate shall be valid from [`Self::now`] on. A provider may give less, never more.
    pub fn validity(&self) -> LeafValidity {
        self.validity
    }

    /// The time of the request, by the requester's clock. A provider with a clock of its own uses that.
    pub fn now(&self) -> OffsetDateTime {
        self.now
    }
}

/// What a provider returned: unverified.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    chain: Vec<CertificateDer<'static>>,
}

impl IssuedCertificate {
    /// A chain: the leaf first, then intermediates in signing order. A root at the end is harmless.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain }
    }

    /// The chain as the provider gave it.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

/// Health of a provider, apart from any request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerHealth {
    /// Subject of the certificate that signs.
    pub subject: String,
    /// End of validity of the chain that signs: the earliest in it.
    pub not_after: OffsetDateTime,
    /// What is not wrong yet, in sentences for whoever owns the provider.
    pub remarks: Vec<String>,
}

impl IssuerHealth {
    /// A provider about which there is nothing to remark.
    pub fn new(subject: String, not_after: OffsetDateTime) -> Self {
        Self { subject, not_after, remarks: Vec::new() }
    }

    /// How long the signing chain is still valid; `None` when it is not.
    pub fn remaining(&self, now: OffsetDateTime) -> Option<Duration> {
        Duration::try_from(self.not_after - now).ok().filter(|left| !left.is_zero())
    }
}

/// Somebody who signs certificates: a local authority or a remote service.
#[async_trait]
pub trait Issuer: fmt::Debug + Send + Sync {
    /// Signs one request. The answer is verified by the caller, in one place for all providers.
    ///
    /// # Errors
    /// [`IssueError`], which says whether to try again and who is to blame.
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError>;

    /// The roots that verify what this issuer signs.
    ///
    /// # Errors
    /// As for [`Issuer::issue`].
    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError>;

    /// Whether the issuer could sign at `now`: reachable, allowed, not expired.
    ///
    /// # Errors
    /// As for [`Issuer::issue`].
    async fn probe(&self, now: OffsetDateTime) -> Result<IssuerHealth, IssueError>;
}

/// Which provider, with everything it needs (MeshRootCertificate `spec.provider`).
#[derive(Debug)]
pub enum IssuerConfig {
    /// A certificate authority in this process (`spec.provider.tresor`).
    #[cfg(feature = "tresor")]
    Tresor(crate::tresor::TresorConfig),
    /// A Vault server, or one with its API (`spec.provider.vault`).
    #[cfg(feature = "vault")]
    Vault(crate::vault::VaultConfig),
    /// A key in Azure Key Vault (`spec.provider.azureKeyVault`).
    #[cfg(feature = "key-vault")]
    KeyVault(crate::key_vault::KeyVaultConfig),
    /// cert-manager's controllers, through an Issuer or ClusterIssuer (`spec.provider.certManager`).
    #[cfg(feature = "cert-manager")]
    CertManager(crate::cert_manager::CertManagerConfig),
}

/// An issuer, and whom to blame for its answers.
#[derive(Debug, Clone)]
pub struct NamedIssuer {
    /// The object or remote behind the issuer.
    pub origin: Blame,
    /// The issuer.
    pub issuer: Arc<dyn Issuer>,
}

impl NamedIssuer {
    /// An issuer whose roots are trusted and which signs nothing.
    pub fn validating(origin: Blame, bundle: TrustBundle) -> Self {
        let issuer = crate::validating::Validating { origin: origin.clone(), bundle };
        Self { origin, issuer: Arc::new(issuer) }
    }

    /// The same issuer, trusted by `bundle` whatever it says of its roots later: a provider never changes on its own what a mesh
    /// trusts, and what it signs with another root is refused.
    #[must_use]
    pub fn pinned(&self, bundle: TrustBundle) -> Self {
        let issuer = crate::validating::Pinned { inner: Arc::clone(&self.issuer), bundle };
        Self { origin: self.origin.clone(), issuer: Arc::new(issuer) }
    }

    /// Has a certificate of `identity` issued that is thrown away, and verifies it like one that is used: whether a provider
    /// gives what it is asked for shows only then.
    ///
    /// # Errors
    /// As for [`Issuer::issue`], and [`IssueError::BadCertificate`] when the certificate cannot be used.
    pub async fn try_out(&self, identity: PeerIdentity, now: OffsetDateTime) -> Result<(), IssueError> {
        let key = Arc::new(LeafKey::generate(LeafKeyAlgorithm::default())?);
        let request = CertificateRequest::new(key, identity, LeafValidity::MIN, now);
        let issued = self.issuer.issue(&request).await?;
        let bundle = self.issuer.trust_bundle().await?;
        verify_leaf(&issued, &Expectation::of(&request, &bundle), now)
            .map(drop)
            .map_err(|problem| IssueError::BadCertificate { origin: self.origin.clone(), problem })
    }
}

impl IssuerConfig {
    /// Makes the issuer. `now` is what the validity of the authority's certificates is checked against.
    ///
    /// # Errors
    /// [`IssueError`] when the configuration cannot be used.
    pub fn build(self, now: OffsetDateTime) -> Result<NamedIssuer, IssueError> {
        // Without any provider compiled in, there is no value of this type and nothing uses `now`.
        let _ = now;
        match self {
            #[cfg(feature = "tresor")]
            Self::Tresor(config) => Ok(NamedIssuer {
                origin: config.origin.clone(),
                issuer: Arc::new(crate::tresor::Tresor::new(config, now)?),
            }),
            #[cfg(feature = "vault")]
            Self::Vault(config) => {
                Ok(NamedIssuer { origin: config.remote(), issuer: Arc::new(crate::vault::Vault::new(config)?) })
            }
            #[cfg(feature = "key-vault")]
            Self::KeyVault(config) => {
                Ok(NamedIssuer { origin: config.remote(), issuer: Arc::new(crate::key_vault::KeyVault::new(config)?) })
            }
            #[cfg(feature = "cert-manager")]
            Self::CertManager(config) => Ok(NamedIssuer {
                origin: config.origin(),
                issuer: Arc::new(crate::cert_manager::CertManager::new(config)),
            }),
        }
    }
}
