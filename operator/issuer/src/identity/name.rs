//! Validated text: the trust domain and the segments of a SPIFFE path.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest name of a Kubernetes object, and longest DNS name in text form.
pub(crate) const NAME_MAX: usize = 253;
/// Longest node id: that of a pod's proxy is the pod's name, a dot and its uid of 36 characters.
pub(crate) const NODE_MAX: usize = 300;
/// Longest DNS label, and longest name of a namespace or Service.
pub(crate) const LABEL_MAX: usize = 63;

/// Why text is not an identity, or a certificate does not carry one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A part of an identity breaks the rules for names.
    #[error("use {value:?} as {field}: {problem}")]
    InvalidName {
        /// The part at fault.
        field: IdentityField,
        /// What was given.
        value: String,
        /// Which rule it breaks.
        problem: &'static str,
    },
    /// The bytes are not an X.509 certificate.
    #[error("parse the certificate: {0}")]
    Malformed(String),
    /// The certificate has no subject alternative names at all.
    #[error("read the identity: the certificate has no subject alternative name extension")]
    NoSubjectAlternativeNames,
    /// A certificate of the mesh has exactly one URI name.
    #[error("read the identity: {count} URI names where exactly one is required")]
    UriCount {
        /// How many there were.
        count: usize,
    },
    /// The certificate has a name of a type that no certificate of the mesh has.
    #[error("read the identity: unexpected name {0}")]
    UnexpectedName(String),
    /// The URI is not of one of the known shapes.
    #[error("read the identity from URI {uri:?}: {problem}")]
    UnknownShape {
        /// The URI of the certificate.
        uri: String,
        /// Which rule it breaks.
        problem: &'static str,
    },
    /// The DNS names are not those that belong to the URI.
    #[error("read the identity: URI {uri:?} requires the DNS names {expected:?}, the certificate has {found:?}")]
    DnsNames {
        /// The URI of the certificate.
        uri: String,
        /// What the URI requires, in order.
        expected: Vec<String>,
        /// What the certificate has, in its order.
        found: Vec<String>,
    },
    /// The identity belongs to a trust domain that is not accepted here.
    #[error("accept trust domain {found:?}: only {accepted:?} are accepted")]
    ForeignTrustDomain {
        /// The trust domain in the certificate.
        found: String,
        /// The trust domains accepted.
        accepted: Vec<String>,
    },
}

/// A part of an identity, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityField {
    /// MeshRootCertificate `spec.trustDomain`.
    TrustDomain,
    /// A Kubernetes namespace.
    Namespace,
    /// A Kubernetes ServiceAccount name.
    ServiceAccount,
    /// A proxy's node id.
    Node,
    /// A Kubernetes Service name.
    Service,
    /// A Kubernetes Secret name.
    Secret,
    /// A DNS name of an ingress gateway.
    DnsName,
}

impl fmt::Display for IdentityField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrustDomain => "trust domain",
            Self::Namespace => "namespace",
            Self::ServiceAccount => "service account",
            Self::Node => "node id",
            Self::Service => "service",
            Self::Secret => "name of a Secret",
            Self::DnsName => "DNS name",
        })
    }
}

/// The name of a domain of trust, for example `cluster.local` (MeshRootCertificate `spec.trustDomain`).
///
/// Lower-case DNS labels. It must not look like an IP address, because the names made from it are DNS names; and it must
/// not be `svc`, because a workload called `osm-controller` would then bear the control plane's own DNS name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Checks `value`.
    ///
    /// # Errors
    /// [`IdentityError::InvalidName`] naming the rule that is broken.
    pub fn new(value: &str) -> Result<Self, IdentityError> {
        let problem = subdomain_problem(value)
            .or_else(|| ends_like_an_address(value).then_some("it reads as an IP address"))
            .or_else(|| (value == "svc").then_some("names of workloads would collide with names of Services"));
        match problem {
            None => Ok(Self(value.into())),
            Some(problem) => Err(invalid(IdentityField::TrustDomain, value, problem)),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A namespace or Service: one lower-case DNS label.
pub(super) fn label(field: IdentityField, value: &str) -> Result<Arc<str>, IdentityError> {
    match label_problem(value) {
        None => Ok(value.into()),
        Some(problem) => Err(invalid(field, value, problem)),
    }
}

/// A ServiceAccount, a Secret, a DNS name: lower-case DNS labels joined by dots.
pub(super) fn subdomain(field: IdentityField, value: &str) -> Result<Arc<str>, IdentityError> {
    match subdomain_problem(value) {
        None => Ok(value.into()),
        Some(problem) => Err(invalid(field, value, problem)),
    }
}

/// A node id: one segment of a SPIFFE path.
pub(super) fn segment(field: IdentityField, value: &str) -> Result<Arc<str>, IdentityError> {
    let problem = if value.is_empty() {
        Some("it is empty")
    } else if value.len() > NODE_MAX {
        Some("it is longer than 300 characters")
    } else if value == "." || value == ".." {
        Some("a path segment must not be a relative step")
    } else if !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        Some("only letters, digits, '-', '.' and '_' are allowed")
    } else {
        None
    };
    match problem {
        None => Ok(value.into()),
        Some(problem) => Err(invalid(field, value, problem)),
    }
}

fn invalid(field: IdentityField, value: &str, problem: &'static str) -> IdentityError {
    IdentityError::InvalidName { field, value: value.to_owned(), problem }
}

fn subdomain_problem(value: &str) -> Option<&'static str> {
    if value.len() > NAME_MAX {
        return Some("it is longer than 253 characters");
    }
    if value.parse::<IpAddr>().is_ok() {
        return Some("it is an IP address");
    }
    value.split('.').find_map(label_problem)
}

fn label_problem(value: &str) -> Option<&'static str> {
    if value.is_empty() {
        return Some("it is empty or has an empty label");
    }
    if value.len() > LABEL_MAX {
        return Some("a label is longer than 63 characters");
    }
    if value.starts_with('-') || value.ends_with('-') {
        return Some("a label starts or ends with '-'");
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (!value.bytes().all(allowed)).then_some("only lower-case letters, digits and '-' are allowed")
}

/// A DNS name whose last label is a number is taken for an IPv4 address by common resolvers.
fn ends_like_an_address(value: &str) -> bool {
    value.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}
