//! Vault: a server with Vault's API (HashiCorp Vault, OpenBao) whose PKI secrets engine signs.
//!
//! What the server needs: a mount of the PKI engine with an issuer, and a role in it with `require_cn=false`,
//! `use_csr_sans=false`, `key_type=any`, and `allowed_domains` and `allowed_uri_sans` that cover the mesh. The token's policy: `update` on `<mount>/sign/<role>`, `read` on `<mount>/roles/<role>`,
//! and Vault's policy `default`, by which a token may look itself up and renew itself. [`Issuer::probe`] says which of
//! these is missing.
//!
//! A leaf costs one request: `sign` with the request of the certificate store, which holds the key.
//!
//! Requests are those of `vaultrs`, sent by a client of ours: the crate's own reads settings from the environment, and drops
//! the header that says when to come back.

mod config;
mod explain;
mod role;
mod session;
mod transport;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use vaultrs::api::pki::requests::{ReadIssuerCertificateRequest, ReadRoleRequest, SignCertificateRequest};
use vaultrs::api::pki::responses::{ReadIssuerCertificateResponse, SignCertificateResponse};

pub use config::{VaultAuth, VaultConfig, VaultProtocol};

use crate::authority::AuthorityChain;
use crate::bundle::TrustBundle;
use crate::error::IssueError;
use crate::issuer::{CertificateRequest, IssuedCertificate, Issuer, IssuerHealth};
use crate::pem;
use explain::Call;
use role::Role;
use session::Session;
use transport::{Failure, Transport};

/// The client of one role on one server.
#[derive(Debug)]
pub struct Vault {
    config: VaultConfig,
    transport: Arc<Transport>,
    session: Arc<Session>,
    /// End of the signing chain, as last seen. The engine refuses a leaf that would outlive its issuer.
    signing_ends: Mutex<Option<OffsetDateTime>>,
}

impl Vault {
    /// Checks the configuration. Sends nothing.
    ///
    /// # Errors
    /// [`IssueError::Misconfigured`] naming the field.
    pub fn new(config: VaultConfig) -> Result<Self, IssueError> {
        let transport = Arc::new(Transport::new(&config)?);
        let session = Arc::new(Session::new(config.clone(), transport.clone()));
        Ok(Self { config, transport, session, signing_ends: Mutex::new(None) })
    }

    /// Sends a request with the token of the session. When the server does not accept a token that was obtained by logging
    /// in, the session logs in anew and the request is sent once more.
    async fn call<T, E>(&self, call: Call, endpoint: impl Fn() -> E) -> Result<T, IssueError>
    where
        T: serde::de::DeserializeOwned,
        E: rustify::Endpoint,
    {
        let token = self.session.token().await?;
        let mut outcome = self.transport.call(endpoint(), Some(&token.value)).await;
        if matches!(&outcome, Err(Failure::Status { code: 403, .. })) && self.session.give_up(&token) {
            let token = self.session.token().await?;
            outcome = self.transport.call(endpoint(), Some(&token.value)).await;
        }
        outcome
            .and_then(|answer| answer.data.ok_or_else(|| Failure::Unreadable("it has no data".to_owned())))
            .map_err(|failure| self.explain(call, failure))
    }

    async fn read_role(&self) -> Result<Role, IssueError> {
        let (mount, name) = (&self.config.mount, &self.config.role);
        self.call(Call::ReadRole, || ReadRoleRequest { mount: mount.clone(), name: name.clone() }).await
    }

    /// The chain of the issuer that the role signs with.
    async fn read_chain(&self, role: &Role) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        let mount = &self.config.mount;
        let issuer = role.issuer();
        let answer: ReadIssuerCertificateResponse = self
            .call(Call::ReadIssuer, || ReadIssuerCertificateRequest { mount: mount.clone(), issuer: issuer.to_owned() })
            .await?;
        std::iter::once(&answer.certificate).chain(&answer.ca_chain).map(|text| self.certificate(text)).collect()
    }

    /// The chain of the issuer, checked like one of ours.
    async fn authority(&self, role: &Role, now: OffsetDateTime) -> Result<AuthorityChain, IssueError> {
        let certificates = self.read_chain(role).await?;
        let (signing, others) = certificates
            .split_first()
            .ok_or_else(|| self.explain(Call::ReadIssuer, Failure::Unreadable("it has no certificate".to_owned())))?;
        let chain = AuthorityChain::ordered(signing.clone(), others, now)
            .map_err(|problem| IssueError::UnusableAuthority { origin: self.config.remote(), problem })?;
        *self.signing_ends.lock() = Some(chain.not_after());
        Ok(chain)
    }

    fn certificate(&self, text: &str) -> Result<CertificateDer<'static>, IssueError> {
        CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| IssueError::BadAnswer {
            remote: self.config.remote(),
            message: format!("a certificate in it is not PEM: {error}"),
        })
    }

    fn sign_request(&self, request: &CertificateRequest, csr: &str) -> SignCertificateRequest {
        let names = request.subject_names();
        SignCertificateRequest {
            mount: self.config.mount.clone(),
            role: self.config.role.clone(),
            csr: Some(csr.to_owned()),
            format: Some("pem".to_owned()),
            alt_names: (!names.dns().is_empty()).then(|| names.dns().join(",")),
            uri_sans: Some(names.uri().to_owned()),
            exclude_cn_from_sans: Some(true),
            ttl: Some(format!("{}s", self.lifetime(request))),
            ..SignCertificateRequest::default()
        }
    }

    /// In whole seconds; a bare number of hours would round the shortest validity down to nothing.
    fn lifetime(&self, request: &CertificateRequest) -> u64 {
        let asked = request.validity().as_duration().as_secs();
        let left = self.signing_ends.lock().map(|ends| (ends - request.now()).whole_seconds());
        match left.and_then(|left| u64::try_from(left).ok()) {
            Some(left) if left > 0 => asked.min(left),
            _ => asked,
        }
    }

    fn explain(&self, call: Call, failure: Failure) -> IssueError {
        explain::explain(call, failure, &self.config)
    }

    fn misconfigured(&self, problems: &[String]) -> IssueError {
        let VaultConfig { mount, role, .. } = &self.config;
        IssueError::Misconfigured {
            remote: self.config.remote(),
            message: format!("role {mount}/roles/{role}: {}", problems.join("; ")),
        }
    }
}

#[async_trait]
impl Issuer for Vault {
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        let csr = pem::certificate_request(&request.csr()?);
        let answer: SignCertificateResponse = self.call(Call::Sign, || self.sign_request(request, &csr)).await?;
        let above = match answer.ca_chain {
            Some(chain) if !chain.is_empty() => chain,
            _ => vec![answer.issuing_ca],
        };
        let chain: Result<Vec<_>, _> =
            std::iter::once(&answer.certificate).chain(&above).map(|text| self.certificate(text)).collect();
        Ok(IssuedCertificate::new(chain?))
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        let role = self.read_role().await?;
        // Verifying is the store's business; whether the roots are good enough is asked here, by the system's clock.
        let chain = self.authority(&role, OffsetDateTime::now_utc()).await?;
        TrustBundle::new(vec![chain.root().clone()])
            .map_err(|error| IssueError::BadAnswer { remote: self.config.remote(), message: error.to_string() })
    }

    async fn probe(&self, now: OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        let mut remarks = self.session.inspect().await?;
        let role = self.read_role().await?;
        let problems = role.problems(&self.config);
        if !problems.is_empty() {
            return Err(self.misconfigured(&problems));
        }
        let chain = self.authority(&role, now).await?;
        remarks.extend(role.remarks());
        Ok(IssuerHealth { subject: chain.subject().to_owned(), not_after: chain.not_after(), remarks })
    }
}
