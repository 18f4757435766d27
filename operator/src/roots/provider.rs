//! From `spec.provider` to an issuer.

mod material;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use osm_api::{MeshRootCertificateProvider, MeshRootCertificateReason as Reason};
use osm_issuer::{Advice, ControlPlaneIdentity, IssueError, NamedIssuer, TrustBundle};
use time::OffsetDateTime;

pub(super) use self::material::Material;

use super::mark::Mark;
use super::secrets::{Missing, Secrets};

/// How soon what failed is tried again when nothing says otherwise.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(10);
/// How long a provider may take to say who it is.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a root cannot be used, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootProblem {
    pub(super) reason: &'static str,
    /// The field of the MeshRootCertificate.
    pub(super) field: String,
    pub(super) message: String,
    pub(super) remedy: String,
    /// After how long to look again, if something says so.
    pub(super) retry: Option<Duration>,
}

impl std::fmt::Display for RootProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.message, self.remedy)
    }
}

impl RootProblem {
    pub(super) fn new(reason: Reason, field: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { reason: reason.as_str(), field: field.to_owned(), message, remedy, retry: None }
    }

    /// Something outside the object's author's reach.
    pub(super) fn local(field: &str, message: &str) -> Self {
        Self::new(Reason::ProviderUnavailable, field, message, "it is tried again; see the control plane's log")
    }

    pub(super) fn of_issuer(field: &str, error: &IssueError) -> Self {
        let (reason, remedy) = match error {
            IssueError::UnusableAuthority { .. } => (Reason::InvalidSecret, "replace the certificate and key"),
            IssueError::Unreachable { .. } => {
                (Reason::ProviderUnavailable, "make the provider reachable; it is tried again")
            }
            IssueError::Refused { .. } | IssueError::Misconfigured { .. } => {
                (Reason::ProviderRefused, "set the provider up as the message says; it is tried again")
            }
            IssueError::BadAnswer { .. } | IssueError::BadCertificate { .. } => {
                (Reason::InvalidAnswer, "see what answers there, and how it signs; it is tried again")
            }
            IssueError::Local { .. } => (Reason::ProviderUnavailable, "it is tried again; see the control plane's log"),
        };
        let retry = match error.advice() {
            Advice::RetryAfter(wait) => Some(wait.clamp(Duration::from_secs(1), Duration::from_secs(300))),
            Advice::WaitForOperator | Advice::GiveUp => None,
        };
        Self { retry, ..Self::new(reason, field, error.to_string(), remedy) }
    }
}

/// An issuer that can be used.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(super) issuer: NamedIssuer,
    /// The field of the MeshRootCertificate that it is made from.
    pub(super) field: &'static str,
    /// What it was made from; `None` when only its certificates are known, so that it cannot sign.
    pub(super) mark: Option<Mark>,
    /// Its own roots.
    pub(super) bundle: TrustBundle,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

impl Built {
    /// One of which only the certificates are known.
    pub(super) fn validating(issuer: NamedIssuer, bundle: TrustBundle) -> Option<Self> {
        let (not_before, not_after) = bundle.validity()?;
        Some(Self { issuer, field: "spec.provider", mark: None, bundle, not_before, not_after })
    }

    /// Whether it can sign.
    pub(super) fn signs(&self) -> bool {
        self.mark.is_some()
    }

    /// Whether both are the same, not only made of the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.issuer.issuer, &other.issuer.issuer)
    }

    /// The issuer of what was read now, seen to be able to sign: `current` if it is made of the same, else another.
    pub(super) async fn renewed(
        material: Material,
        current: Option<&Self>,
        now: OffsetDateTime,
    ) -> Result<Self, RootProblem> {
        let Material { field, config, mark, trial } = material;
        let problem = |error: &IssueError| RootProblem::of_issuer(field, error);
        let (issuer, trial) = match current.filter(|current| current.mark == Some(mark)) {
            Some(current) => (current.issuer.clone(), None),
            None => (config.build(now).map_err(|error| problem(&error))?, trial),
        };
        let looked = async {
            let health = issuer.issuer.probe(now).await?;
            let bundle = issuer.issuer.trust_bundle().await?;
            if let Some(identity) = trial {
                issuer.try_out(identity, now).await?;
            }
            Ok::<_, IssueError>((bundle, health))
        };
        let (bundle, health) = tokio::time::timeout(PROVIDER_TIMEOUT, looked)
            .await
            .map_err(|_| RootProblem::local(field, "the provider did not answer in time"))?
            .map_err(|error| problem(&error))?;
        let (not_before, not_after) = bundle
            .validity()
            .ok_or_else(|| RootProblem::local(field, "the provider's root certificate cannot be read"))?;
        let not_after = not_after.min(health.not_after);
        Ok(Self { issuer, field, mark: Some(mark), bundle, not_before, not_after })
    }
}

/// Makes issuers.
#[derive(Debug, Clone)]
pub(crate) struct Factory {
    /// Where the Secrets are.
    pub(crate) secrets: Secrets,
    /// Whom remote providers are asked about on trial.
    pub(crate) control_plane: ControlPlaneIdentity,
}

impl Factory {
    /// Finds Secrets in the state folder of a control plane without a cluster.
    pub(crate) fn in_folder(state: &Path, control_plane: ControlPlaneIdentity) -> Self {
        Self { secrets: Secrets::Folder(state.join("secrets")), control_plane }
    }

    /// The issuer of a provider, seen to be able to sign: `current` if neither the provider nor a Secret that it names was
    /// changed. `missing` says what is done about an authority in a Secret that is not there.
    pub(super) async fn renew(
        &self,
        provider: &MeshRootCertificateProvider,
        current: Option<&Built>,
        missing: Missing,
        now: OffsetDateTime,
    ) -> Result<Built, RootProblem> {
        let material = Material::read(provider, &self.secrets, &self.control_plane, missing, now).await?;
        Built::renewed(material, current, now).await
    }
}
