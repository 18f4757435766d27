//! cert-manager: its controllers in the cluster sign, through CertificateRequests that name an Issuer or a ClusterIssuer.
//!
//! What the issuer needs: it returns its root in `status.ca` of the CertificateRequest. A CA issuer does when its Secret has the
//! root in `ca.crt`. Whoever approves (cert-manager itself, or a policy) must approve names of the mesh. The control plane needs
//! the right to create, get, list and delete CertificateRequests in its namespace, and to get the issuer.
//!
//! A leaf costs three kinds of requests to the API server: create, get until there is an answer, delete.

mod answer;
mod config;
mod requests;
mod state;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_crds_cert_manager::{ClusterIssuer, Issuer as NamespacedIssuer};
use kube::Api;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::time::Instant;

pub use config::{CertManagerConfig, IssuerKind, IssuerKindError};

use crate::authority::AuthorityChain;
use crate::bundle::TrustBundle;
use crate::error::{Blame, IssueError};
use crate::identity::PeerIdentity;
use crate::issuer::{CertificateRequest, IssuedCertificate, Issuer, IssuerHealth};
use crate::key::{LeafKey, LeafKeyAlgorithm};
use crate::verify::{Expectation, verify_leaf};
use answer::Answer;
use requests::{CallError, Requests, TRIAL_VALIDITY};
use state::State;

/// Time between two looks at a CertificateRequest: at first, and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// When cert-manager is asked again that did not answer, or an API server that is not there.
const RETRY: Duration = Duration::from_secs(5);

/// The client of one issuer.
#[derive(Debug)]
pub struct CertManager {
    config: CertManagerConfig,
    requests: Requests,
    /// Who signed last, proved by what was signed.
    authority: Mutex<Option<AuthorityChain>>,
}

impl CertManager {
    /// Sends nothing.
    pub fn new(config: CertManagerConfig) -> Self {
        let requests = Requests::new(&config);
        Self { config, requests, authority: Mutex::new(None) }
    }

    /// Has one request signed. The CertificateRequest is gone afterwards, also if the caller stops waiting.
    async fn sign(&self, request: &CertificateRequest) -> Result<Answer, IssueError> {
        let until = Instant::now() + self.config.timeout;
        // The name is ours: a CertificateRequest whose creation was not confirmed can still be taken away.
        let name = format!("osm-{:016x}", rand::random::<u64>());
        let spec = requests::spec(&self.config, request, self.lifetime(request))?;
        let held = self.requests.hold(&name);
        let outcome = match self.requests.create(&name, spec, until).await {
            Ok(()) => self.wait(&name, until).await,
            Err(error) => Err(self.explain_create(&error)),
        };
        held.release().await;
        let (certificate, ca) = outcome?;
        let answer =
            Answer::read(&certificate, ca.as_deref(), &self.called(&name), &self.config.origin(), request.now())?;
        *self.authority.lock() = Some(answer.authority.clone());
        Ok(answer)
    }

    /// Looks until there is an answer: `status.certificate` and `status.ca`.
    async fn wait(&self, name: &str, until: Instant) -> Result<(String, Option<String>), IssueError> {
        let mut pause = LOOK_AGAIN.0;
        let mut last = "nothing was said about it".to_owned();
        loop {
            match self.requests.get(name, until).await.map(|object| State::of(&object)) {
                Ok(State::Issued { certificate, ca }) => return Ok((certificate, ca)),
                Ok(State::Denied(words)) => {
                    return Err(self.misconfigured(&format!(
                        "{} was denied: {words}; allow the mesh's names in the approver's policy",
                        self.called(name)
                    )));
                }
                Ok(State::Failed(words)) => {
                    return Err(self.misconfigured(&format!("{} failed: {words}", self.called(name))));
                }
                Ok(State::Invalid(words)) => {
                    let message = format!("{} is invalid: {words}", self.called(name));
                    return Err(IssueError::Refused { remote: self.config.origin(), message });
                }
                Ok(State::Waiting { approved, said }) => last = waiting(approved, said),
                Err(CallError::TimedOut) => {}
                Err(error) if error.is_passing() => last = format!("the API server: {error}"),
                Err(error) if error.code() == Some(404) => {
                    return Err(
                        self.unreachable(format!("{} was deleted before it was answered", self.called(name)), RETRY)
                    );
                }
                Err(error) => return Err(self.misconfigured(&format!("read {}: {error}", self.called(name)))),
            }
            if Instant::now() + pause >= until {
                let seconds = self.config.timeout.as_secs_f32();
                let message = format!("{} was not answered within {seconds} seconds; {last}", self.called(name));
                return Err(self.unreachable(message, RETRY));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN.1);
        }
    }

    /// Asks for a certificate that is thrown away, as for one that is used.
    async fn trial(&self, now: OffsetDateTime) -> Result<AuthorityChain, IssueError> {
        let identity = PeerIdentity::ControlPlane(self.config.control_plane.clone());
        let key = Arc::new(LeafKey::generate(LeafKeyAlgorithm::EcdsaP256)?);
        let request = CertificateRequest::new(key, identity, TRIAL_VALIDITY, now);
        let answer = self.sign(&request).await?;
        let bundle = self.bundle_of(&answer.authority)?;
        let expected = Expectation::of(&request, &bundle);
        verify_leaf(&IssuedCertificate::new(answer.chain), &expected, now)
            .map_err(|problem| IssueError::BadCertificate { origin: self.config.origin(), problem })?;
        Ok(answer.authority)
    }

    /// The issuer's own word. `Ok` holds what could not be looked at.
    async fn look_at_issuer(&self, until: Instant) -> Result<Option<String>, IssueError> {
        let CertManagerConfig { client, namespace, issuer_name, issuer_kind, issuer_group, .. } = &self.config;
        if issuer_group != CertManagerConfig::GROUP {
            // Of another's issuers, the CertificateRequest alone is defined.
            return Ok(None);
        }
        let issuers: Api<DynamicObject> = match issuer_kind {
            IssuerKind::Issuer => {
                Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<NamespacedIssuer>(&()))
            }
            IssuerKind::ClusterIssuer => Api::all_with(client.clone(), &ApiResource::erase::<ClusterIssuer>(&())),
        };
        match requests::within(until, issuers.get(issuer_name)).await {
            Ok(issuer) => state::readiness(&issuer.data)
                .map(|()| None)
                .map_err(|words| self.misconfigured(&format!("the issuer is not ready: {words}"))),
            // The CertificateRequest on trial says whether it signs; only the words are less exact.
            Err(error) if error.code() == Some(403) => {
                Ok(Some(format!("whether {} is ready cannot be looked at: {error}", self.config.origin())))
            }
            Err(error) if error.is_passing() => Err(self.passing(&error)),
            Err(error) if error.code() == Some(404) => {
                Err(self
                    .misconfigured(&format!("there is no such issuer: {error}; create it, or install cert-manager")))
            }
            Err(error) => Err(self.misconfigured(&format!("read the issuer: {error}"))),
        }
    }

    /// No leaf outlives who signs it.
    fn lifetime(&self, request: &CertificateRequest) -> Duration {
        let asked = request.validity().as_duration();
        let left = self.authority.lock().as_ref().map(|authority| authority.not_after() - request.now());
        match left.and_then(|left| Duration::try_from(left).ok()) {
            Some(left) if left.as_secs() > 0 => asked.min(left),
            _ => asked,
        }
    }

    fn bundle_of(&self, authority: &AuthorityChain) -> Result<TrustBundle, IssueError> {
        Answer::bundle(authority, &self.config.origin())
    }

    fn called(&self, name: &str) -> String {
        format!("CertificateRequest {}/{name}", self.config.namespace)
    }

    fn explain_create(&self, error: &CallError) -> IssueError {
        let namespace = &self.config.namespace;
        match error.code() {
            _ if error.is_passing() => self.passing(error),
            Some(403) => self.misconfigured(&format!("create a CertificateRequest in namespace {namespace}: {error}")),
            Some(404) => self.misconfigured(&format!(
                "create a CertificateRequest in namespace {namespace}: {error}; install cert-manager and its CRDs"
            )),
            _ => IssueError::Refused {
                remote: self.config.origin(),
                message: format!("create a CertificateRequest in namespace {namespace}: {error}"),
            },
        }
    }

    fn passing(&self, error: &CallError) -> IssueError {
        self.unreachable(format!("the API server: {error}"), error.retry_after().unwrap_or(RETRY))
    }

    fn unreachable(&self, message: String, retry_after: Duration) -> IssueError {
        IssueError::Unreachable { remote: self.config.origin(), message, retry_after }
    }

    fn misconfigured(&self, message: &str) -> IssueError {
        IssueError::Misconfigured { remote: self.config.origin(), message: message.to_owned() }
    }

    /// Who is to blame for answers.
    pub fn origin(&self) -> Blame {
        self.config.origin()
    }
}

fn waiting(approved: bool, said: Option<String>) -> String {
    match (approved, said) {
        (_, Some(words)) => format!("its condition Ready says {words}"),
        (true, None) => "it is approved; does the issuer's controller run?".to_owned(),
        (false, None) => {
            "it is neither approved nor denied; does cert-manager run, and may its approver approve for this issuer?"
                .to_owned()
        }
    }
}

#[async_trait]
impl Issuer for CertManager {
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        let answer = self.sign(request).await?;
        Ok(IssuedCertificate::new(answer.chain))
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        let known = self.authority.lock().clone();
        let authority = match known {
            Some(authority) => authority,
            None => self.trial(OffsetDateTime::now_utc()).await?,
        };
        self.bundle_of(&authority)
    }

    async fn probe(&self, now: OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        let until = Instant::now() + self.config.timeout;
        let mut remarks: Vec<_> = self.look_at_issuer(until).await?.into_iter().collect();
        if let Err(error) = self.requests.remove_left_over(now, until).await {
            remarks.push(format!("CertificateRequests that were left over cannot be taken away: {error}"));
        }
        let known = self.authority.lock().clone();
        let authority = match known {
            Some(authority) => authority,
            None => self.trial(now).await?,
        };
        authority
            .check_not_expired(now)
            .map_err(|problem| IssueError::UnusableAuthority { origin: self.config.origin(), problem })?;
        Ok(IssuerHealth { subject: authority.subject().to_owned(), not_after: authority.not_after(), remarks })
    }
}
