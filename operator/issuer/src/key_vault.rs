//! Azure Key Vault: the authority's key stays in the vault, which signs digests of certificates that are built here.
//!
//! What the vault needs: a key (RSA of at least 2048 bits, or EC on P-256 or P-384) and a certificate for it that is a
//! certificate authority. The identity needs the permissions `keys/get` and `keys/sign`; with a certificate object also
//! `certificates/get`, and `secrets/get` if the certificate is not a root.
//!
//! One version of the key is pinned when the vault is first asked. A newer one is reported by [`Issuer::probe`] and never used
//! by itself: another key is another root, and roots are replaced by a rotation.
//!
//! A leaf costs one call of `sign`. Nothing is tried again here; errors say when the store should.

mod clients;
mod config;
mod explain;
mod signing_key;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::RequestContent;
use azure_security_keyvault_certificates::models::CertificateClientGetCertificateOptions;
use azure_security_keyvault_keys::ResourceId;
use azure_security_keyvault_keys::models::{Key, KeyClientGetKeyOptions, KeyClientSignOptions, SignParameters};
use azure_security_keyvault_secrets::models::{ContentType, SecretClientGetSecretOptions};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use zeroize::Zeroizing;

pub use config::{KeyVaultAuth, KeyVaultAuthority, KeyVaultConfig, KeyVaultNetwork};

use crate::authority::{self, AuthorityChain};
use crate::authority_error::AuthorityError;
use crate::bundle::TrustBundle;
use crate::error::IssueError;
use crate::issuer::{CertificateRequest, IssuedCertificate, Issuer, IssuerHealth};
use crate::to_sign::Template;
use clients::Clients;
use explain::{Call, explain};
use signing_key::Algorithm;

/// The client of one key in one vault.
pub struct KeyVault {
    config: KeyVaultConfig,
    clients: Clients,
    pinned: Mutex<Option<Arc<Pinned>>>,
    /// Held while the key is pinned, so that many callers do not ask together.
    pinning: tokio::sync::Mutex<()>,
}

/// The version of the key that signs, and its certificate.
struct Pinned {
    version: String,
    algorithm: Algorithm,
    template: Template,
    chain: AuthorityChain,
    bundle: TrustBundle,
}

impl KeyVault {
    /// Checks the configuration. Sends nothing.
    ///
    /// # Errors
    /// [`IssueError::Misconfigured`] naming the field.
    pub fn new(config: KeyVaultConfig) -> Result<Self, IssueError> {
        let clients = Clients::new(&config)?;
        Ok(Self { config, clients, pinned: Mutex::new(None), pinning: tokio::sync::Mutex::new(()) })
    }

    async fn pinned(&self, now: OffsetDateTime) -> Result<Arc<Pinned>, IssueError> {
        let pinned = || self.pinned.lock().clone();
        if let Some(pinned) = pinned() {
            return Ok(pinned);
        }
        let _turn = self.pinning.lock().await;
        if let Some(pinned) = pinned() {
            return Ok(pinned);
        }
        let found = Arc::new(self.pin(now).await?);
        tracing::info!(remote = %self.config.remote(), key = self.config.key_name, version = found.version, "pinned a key of Key Vault");
        *self.pinned.lock() = Some(found.clone());
        Ok(found)
    }

    async fn pin(&self, now: OffsetDateTime) -> Result<Pinned, IssueError> {
        let (certificates, version) = self.read_authority().await?;
        let key = self.read_key(version.as_deref()).await?;
        let version = self.version(&key)?;
        self.check_key(&key, &version, now)?;
        let unusable = |problem| IssueError::UnusableAuthority { origin: self.config.remote(), problem };
        let (signing, others) = certificates.split_first().ok_or_else(|| unusable(AuthorityError::NoCertificate))?;
        let parsed = authority::parse(1, signing).map_err(unusable)?;
        let jwk = key.key.as_ref().ok_or_else(|| self.bad_answer("the key has no public part"))?;
        if !signing_key::belongs(jwk, &parsed) {
            return Err(self.config.misconfigured(format!(
                "version {version} of keys/{} is not the key of the certificate ({}); name the version that it was made for",
                self.config.key_name,
                parsed.subject()
            )));
        }
        let algorithm = Algorithm::of(jwk, &parsed)
            .map_err(|problem| self.config.misconfigured(format!("keys/{}: {problem}", self.config.key_name)))?;
        let chain = AuthorityChain::ordered(signing.clone(), others, now).map_err(unusable)?;
        let template = Template::new(&parsed, algorithm.identifier(), chain.not_after());
        let bundle =
            TrustBundle::new(vec![chain.root().clone()]).map_err(|error| self.bad_answer(&error.to_string()))?;
        Ok(Pinned { version, algorithm, template, chain, bundle })
    }

    /// The certificates, the signing one first, and which version of the key they are for.
    async fn read_authority(&self) -> Result<(Vec<CertificateDer<'static>>, Option<String>), IssueError> {
        let wanted = self.config.key_version.clone();
        let name = match &self.config.authority {
            KeyVaultAuthority::CertificateObject { name } => name,
            KeyVaultAuthority::Pem { chain } => return Ok((self.certificates(chain.as_bytes())?, wanted)),
        };
        let options = CertificateClientGetCertificateOptions { certificate_version: wanted, ..Default::default() };
        let answer = self.clients.certificates.get_certificate(name, Some(options)).await;
        let object = answer
            .and_then(azure_core::http::Response::into_model)
            .map_err(|error| explain(Call::GetCertificate, &error, &self.config))?;
        let der = object.cer.ok_or_else(|| self.bad_answer("the certificate has no content"))?;
        let key: ResourceId = object
            .kid
            .as_deref()
            .and_then(|kid| kid.parse().ok())
            .ok_or_else(|| self.bad_answer("the certificate names no key"))?;
        if key.name != self.config.key_name {
            return Err(self.config.misconfigured(format!(
                "certificates/{name} is for keys/{}, not for keys/{}; correct certificateName or keyName",
                key.name, self.config.key_name
            )));
        }
        let signing = CertificateDer::from(der);
        let mut certificates = vec![signing];
        certificates.extend(self.read_chain(name, &certificates[0], key.version.clone()).await?);
        Ok((certificates, key.version))
    }

    /// What is above a certificate that is not a root: the secret of the object has it.
    async fn read_chain(
        &self,
        name: &str,
        signing: &CertificateDer<'static>,
        version: Option<String>,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        let unusable = |problem| IssueError::UnusableAuthority { origin: self.config.remote(), problem };
        let parsed = authority::parse(1, signing).map_err(unusable)?;
        if parsed.issuer().as_raw() == parsed.subject().as_raw() {
            return Ok(Vec::new());
        }
        let options = SecretClientGetSecretOptions {
            secret_version: version,
            out_content_type: Some(ContentType::Pem),
            ..Default::default()
        };
        let answer = self.clients.secrets.get_secret(name, Some(options)).await;
        let secret = answer
            .and_then(azure_core::http::Response::into_model)
            .map_err(|error| explain(Call::GetSecret, &error, &self.config))?;
        // May hold the private key, if that was created as exportable. It is passed over and wiped.
        let text = Zeroizing::new(secret.value.unwrap_or_default());
        self.certificates(text.as_bytes())
    }

    fn certificates(&self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        let mut certificates = Vec::new();
        for section in CertificateDer::pem_slice_iter(pem) {
            certificates.push(section.map_err(|_| IssueError::UnusableAuthority {
                origin: self.config.remote(),
                problem: AuthorityError::MalformedCertificate {
                    position: certificates.len() + 1,
                    message: "it is not PEM".to_owned(),
                },
            })?);
        }
        Ok(certificates)
    }

    async fn read_key(&self, version: Option<&str>) -> Result<Key, IssueError> {
        let options = KeyClientGetKeyOptions { key_version: version.map(str::to_owned), ..Default::default() };
        let answer = self.clients.keys.get_key(&self.config.key_name, Some(options)).await;
        answer
            .and_then(azure_core::http::Response::into_model)
            .map_err(|error| explain(Call::GetKey, &error, &self.config))
    }

    fn version(&self, key: &Key) -> Result<String, IssueError> {
        let id = key.key.as_ref().and_then(|key| key.kid.as_deref());
        let id: Option<ResourceId> = id.and_then(|id| id.parse().ok());
        id.and_then(|id| id.version).ok_or_else(|| self.bad_answer("the key has no version"))
    }

    fn check_key(&self, key: &Key, version: &str, now: OffsetDateTime) -> Result<(), IssueError> {
        let jwk = key.key.as_ref().ok_or_else(|| self.bad_answer("the key has no public part"))?;
        signing_key::check_usable(key.attributes.as_ref(), jwk, now).map_err(|problem| {
            self.config.misconfigured(format!("version {version} of keys/{}: {problem}", self.config.key_name))
        })
    }

    /// Has the vault sign, once.
    async fn sign(&self, pinned: &Pinned, message: &[u8]) -> Result<Vec<u8>, IssueError> {
        let parameters =
            SignParameters { algorithm: Some(pinned.algorithm.name()), value: Some(pinned.algorithm.digest(message)) };
        let parameters: RequestContent<SignParameters> =
            parameters.try_into().map_err(|error: azure_core::Error| IssueError::Local {
                attempt: "write a request to sign",
                message: error.to_string(),
            })?;
        let options = KeyClientSignOptions { key_version: Some(pinned.version.clone()), ..Default::default() };
        let answer = self.clients.keys.sign(&self.config.key_name, parameters, Some(options)).await;
        let result = answer
            .and_then(azure_core::http::Response::into_model)
            .map_err(|error| explain(Call::Sign, &error, &self.config))?;
        let signed_by: Option<ResourceId> = result.kid.as_deref().and_then(|kid| kid.parse().ok());
        if signed_by.and_then(|id| id.version).as_deref() != Some(&pinned.version) {
            return Err(self.bad_answer("another version of the key signed than was asked for"));
        }
        let raw = result.result.ok_or_else(|| self.bad_answer("there is no signature"))?;
        pinned.algorithm.signature(&raw).map_err(|problem| self.bad_answer(&problem))
    }

    fn bad_answer(&self, message: &str) -> IssueError {
        IssueError::BadAnswer { remote: self.config.remote(), message: message.to_owned() }
    }

    /// That there is a newer version than the one pinned.
    async fn rotation_remark(&self, pinned: &Pinned) -> Result<Option<String>, IssueError> {
        let newest = self.version(&self.read_key(None).await?)?;
        Ok((newest != pinned.version).then(|| {
            format!(
                "keys/{} has version {newest}, which is newer than {} that signs; to use it, rotate to a MeshRootCertificate \
                 with keyVersion {newest}",
                self.config.key_name, pinned.version
            )
        }))
    }
}

#[async_trait]
impl Issuer for KeyVault {
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        let now = request.now();
        let pinned = self.pinned(now).await?;
        let expired = |problem| IssueError::UnusableAuthority { origin: self.config.remote(), problem };
        pinned.chain.check_not_expired(now).map_err(expired)?;
        let to_sign = pinned.template.to_sign(request)?;
        let signature = self.sign(&pinned, &to_sign).await?;
        let mut chain = vec![pinned.template.signed(&to_sign, &signature)];
        chain.extend(pinned.chain.intermediates().iter().cloned());
        Ok(IssuedCertificate::new(chain))
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        // Whether the authority is good enough is asked here by the system's clock.
        Ok(self.pinned(OffsetDateTime::now_utc()).await?.bundle.clone())
    }

    async fn probe(&self, now: OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        let pinned = self.pinned(now).await?;
        let key = self.read_key(Some(&pinned.version)).await?;
        self.check_key(&key, &pinned.version, now)?;
        pinned
            .chain
            .check_not_expired(now)
            .map_err(|problem| IssueError::UnusableAuthority { origin: self.config.remote(), problem })?;
        let remarks = self.rotation_remark(&pinned).await?.into_iter().collect();
        Ok(IssuerHealth { subject: pinned.chain.subject().to_owned(), not_after: pinned.chain.not_after(), remarks })
    }
}

impl fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.pinned.lock().as_ref().map(|pinned| pinned.version.clone());
        f.debug_struct("KeyVault").field("config", &self.config).field("version", &version).finish_non_exhaustive()
    }
}
