//! What a cert-manager issuer is told (MeshRootCertificate `spec.provider.certManager`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kube::Client;

use crate::error::Blame;
use crate::identity::ControlPlaneIdentity;

/// Everything a cert-manager issuer needs.
#[derive(Clone)]
pub struct CertManagerConfig {
    /// The API server of the cluster in which cert-manager runs.
    pub client: Client,
    /// Namespace of the CertificateRequests, and of the issuer if it is an [`IssuerKind::Issuer`]: the control plane's.
    pub namespace: String,
    /// Name of the issuer (`issuerName`).
    pub issuer_name: String,
    /// Kind of the issuer (`issuerKind`).
    pub issuer_kind: IssuerKind,
    /// API group of the issuer (`issuerGroup`); that of an external issuer may be any.
    pub issuer_group: String,
    /// Labels of every CertificateRequest, by which the mesh's are known.
    pub labels: BTreeMap<String, String>,
    /// How long one CertificateRequest may take from its creation to its answer, approval included.
    pub timeout: Duration,
    /// Whose certificate is asked for on trial, to learn who signs.
    pub control_plane: ControlPlaneIdentity,
}

/// Kind of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerKind {
    /// Of the namespace of the CertificateRequest.
    Issuer,
    /// Of the cluster.
    ClusterIssuer,
}

/// A kind of issuer that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use {given:?} as kind of a cert-manager issuer: it must be Issuer or ClusterIssuer")]
pub struct IssuerKindError {
    /// What was given.
    pub given: String,
}

impl IssuerKind {
    /// Reads the kind (`issuerKind`).
    ///
    /// # Errors
    /// It is neither `Issuer` nor `ClusterIssuer`.
    pub fn parse(text: &str) -> Result<Self, IssuerKindError> {
        match text {
            "Issuer" => Ok(Self::Issuer),
            "ClusterIssuer" => Ok(Self::ClusterIssuer),
            given => Err(IssuerKindError { given: given.to_owned() }),
        }
    }

    /// As it is written in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "Issuer",
            Self::ClusterIssuer => "ClusterIssuer",
        }
    }
}

impl CertManagerConfig {
    /// The API group of cert-manager's own issuers.
    pub const GROUP: &'static str = "cert-manager.io";
    /// How long a request may take if nobody says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

    /// The issuer, for errors.
    pub(crate) fn origin(&self) -> Blame {
        let name = match self.issuer_kind {
            IssuerKind::Issuer => format!("{}/{}", self.namespace, self.issuer_name),
            IssuerKind::ClusterIssuer => self.issuer_name.clone(),
        };
        Blame::Object { kind: format!("{}.{}", self.issuer_kind.as_str(), self.issuer_group).into(), name: name.into() }
    }
}

impl fmt::Debug for CertManagerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertManagerConfig")
            .field("namespace", &self.namespace)
            .field("issuer_name", &self.issuer_name)
            .field("issuer_kind", &self.issuer_kind)
            .field("issuer_group", &self.issuer_group)
            .field("labels", &self.labels)
            .field("timeout", &self.timeout)
            .field("control_plane", &self.control_plane)
            .finish_non_exhaustive()
    }
}
