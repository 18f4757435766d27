//! What can go wrong between a request and a certificate, how the caller should behave, and who is to blame.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::authority_error::AuthorityError;
use crate::verify::LeafError;

/// Whether trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try again after this time; nobody needs to act.
    RetryAfter(Duration),
    /// Nothing changes until somebody changes the object to blame.
    WaitForOperator,
    /// The same request will be refused for ever.
    GiveUp,
}

/// The object or remote to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blame {
    /// A Kubernetes Secret.
    Secret {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
    },
    /// A folder of files (standalone mode).
    Folder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A provider reached over the network.
    Remote {
        /// Its address, without credentials.
        address: String,
    },
    /// An object of another system's in the cluster, through which a provider is used.
    Object {
        /// Its kind with the API group, for example `Issuer.cert-manager.io`.
        kind: Box<str>,
        /// Its name, after the namespace if it has one: `osm-system/osm-ca`.
        name: Box<str>,
    },
    /// This process.
    Process,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { namespace, name } => write!(f, "Secret {namespace}/{name}"),
            Self::Folder { path } => write!(f, "folder {}", path.display()),
            Self::Remote { address } => write!(f, "issuer at {address}"),
            Self::Object { kind, name } => write!(f, "{kind} {name}"),
            Self::Process => f.write_str("this process"),
        }
    }
}

/// Why there is no certificate. Cloneable, because all who wait for one issuance are told the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The certificate authority's certificate or key cannot be used.
    #[error("use the certificate authority in {origin}: {problem}")]
    UnusableAuthority {
        /// Where the material came from.
        origin: Blame,
        /// What is wrong, naming the field.
        problem: AuthorityError,
    },
    /// The provider did not answer.
    #[error("reach {remote}: {message}")]
    Unreachable {
        /// Which provider.
        remote: Blame,
        /// What happened, without credentials.
        message: String,
        /// When to try again at the earliest.
        retry_after: Duration,
    },
    /// The provider answered something that is not an answer.
    #[error("read the answer of {remote}: {message}")]
    BadAnswer {
        /// Which provider.
        remote: Blame,
        /// What is wrong with it, without its text.
        message: String,
    },
    /// The provider answered that it will not sign this.
    #[error("sign the request: {remote} refused: {message}")]
    Refused {
        /// Which provider.
        remote: Blame,
        /// The provider's words.
        message: String,
    },
    /// The provider answered that it is not allowed or configured to sign; its owner has to act.
    #[error("sign the request: {remote} is not set up for it: {message}")]
    Misconfigured {
        /// Which provider.
        remote: Blame,
        /// The provider's words and the remedy.
        message: String,
    },
    /// The provider returned a certificate that is not the one asked for.
    #[error("use the certificate from {origin}: {problem}")]
    BadCertificate {
        /// Which provider.
        origin: Blame,
        /// What is wrong with the certificate.
        problem: LeafError,
    },
    /// The process could not make a key or a signature.
    #[error("{attempt}: {message}")]
    Local {
        /// What was attempted.
        attempt: &'static str,
        /// What happened.
        message: String,
    },
}

/// How soon a wrong answer or a local failure is tried again.
const RETRY_SOON: Duration = Duration::from_secs(10);

impl IssueError {
    /// How the caller should behave.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Unreachable { retry_after, .. } => Advice::RetryAfter(*retry_after),
            Self::BadAnswer { .. } | Self::BadCertificate { .. } | Self::Local { .. } => Advice::RetryAfter(RETRY_SOON),
            Self::UnusableAuthority { .. } | Self::Misconfigured { .. } => Advice::WaitForOperator,
            Self::Refused { .. } => Advice::GiveUp,
        }
    }

    /// The object or remote to blame.
    pub fn blame(&self) -> &Blame {
        match self {
            Self::UnusableAuthority { origin, .. } | Self::BadCertificate { origin, .. } => origin,
            Self::Unreachable { remote, .. }
            | Self::BadAnswer { remote, .. }
            | Self::Refused { remote, .. }
            | Self::Misconfigured { remote, .. } => remote,
            Self::Local { .. } => &Blame::Process,
        }
    }

    /// The stable category, for condition reasons and metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnusableAuthority { .. } => "UnusableAuthority",
            Self::Unreachable { .. } => "IssuerUnreachable",
            Self::BadAnswer { .. } => "BadAnswer",
            Self::Refused { .. } => "RequestRefused",
            Self::Misconfigured { .. } => "IssuerMisconfigured",
            Self::BadCertificate { .. } => "BadCertificate",
            Self::Local { .. } => "LocalFailure",
        }
    }
}
