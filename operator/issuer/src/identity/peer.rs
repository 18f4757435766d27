//! The kinds of identity, written to names and read back from certificates.

use std::fmt;
use std::sync::Arc;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::gateway::IngressGatewayIdentity;
use super::name::{IdentityError, IdentityField, TrustDomain, label, segment, subdomain};
use crate::der;

/// A workload: everything that runs under one ServiceAccount of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadIdentity {
    trust_domain: TrustDomain,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl WorkloadIdentity {
    /// Checks the names by the rules of Kubernetes: a namespace is one DNS label, a ServiceAccount may contain dots.
    ///
    /// # Errors
    /// [`IdentityError::InvalidName`] naming the part and the rule.
    pub fn new(trust_domain: TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        Ok(Self {
            trust_domain,
            namespace: label(IdentityField::Namespace, namespace)?,
            service_account: subdomain(IdentityField::ServiceAccount, service_account)?,
        })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The ServiceAccount.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The DNS name of the workload's certificate. What a client verifies, together with or instead of [`Self::uri`].
    pub fn dns_name(&self) -> String {
        format!("{}.{}.{}", self.service_account, self.namespace, self.trust_domain)
    }

    /// The SPIFFE id of the workload.
    pub fn uri(&self) -> String {
        format!("spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

/// A proxy that opens an ADS stream: its node id and the workload it serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyIdentity {
    workload: WorkloadIdentity,
    node: Arc<str>,
}

impl ProxyIdentity {
    /// Checks that `node` is one segment of a SPIFFE path: letters, digits, `-`, `.`, `_`; at most 300 characters.
    ///
    /// # Errors
    /// [`IdentityError::InvalidName`] for the node id.
    pub fn new(workload: WorkloadIdentity, node: &str) -> Result<Self, IdentityError> {
        Ok(Self { workload, node: segment(IdentityField::Node, node)? })
    }

    /// The workload that the proxy serves.
    pub fn workload(&self) -> &WorkloadIdentity {
        &self.workload
    }

    /// The node id, to be equal to `node.id` of the proxy's discovery requests.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The URI name of the proxy's certificate.
    pub fn uri(&self) -> String {
        format!("{}/proxy/{}", self.workload.uri(), self.node)
    }
}

/// The control plane as a server: xDS and webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ControlPlaneIdentity {
    trust_domain: TrustDomain,
    namespace: Arc<str>,
    service: Arc<str>,
}

impl ControlPlaneIdentity {
    /// Name of the control plane's Service, as in OSM.
    pub const DEFAULT_SERVICE: &'static str = "osm-controller";

    /// Checks the names by the rules of Kubernetes; both are one DNS label.
    ///
    /// # Errors
    /// [`IdentityError::InvalidName`] naming the part and the rule.
    pub fn new(trust_domain: TrustDomain, namespace: &str, service: &str) -> Result<Self, IdentityError> {
        Ok(Self {
            trust_domain,
            namespace: label(IdentityField::Namespace, namespace)?,
            service: label(IdentityField::Service, service)?,
        })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace of the control plane.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Service of the control plane.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The name by which the API server calls webhooks: `<service>.<namespace>.svc`.
    pub fn service_dns_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// The name that proxies verify on their ADS stream: `ads.<trust domain>`.
    pub fn ads_dns_name(&self) -> String {
        format!("ads.{}", self.trust_domain)
    }

    /// The URI name of the control plane's certificate.
    pub fn uri(&self) -> String {
        format!("spiffe://{}/ns/{}/control-plane/{}", self.trust_domain, self.namespace, self.service)
    }
}

/// Whom a certificate of the mesh names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerIdentity {
    /// A workload: the service certificate used between sidecars.
    Workload(WorkloadIdentity),
    /// A proxy: the client certificate of an ADS stream.
    Proxy(ProxyIdentity),
    /// The control plane: the server certificate of xDS and webhooks.
    ControlPlane(ControlPlaneIdentity),
    /// An ingress gateway: what it shows to workloads of the mesh.
    IngressGateway(IngressGatewayIdentity),
}

impl PeerIdentity {
    /// The trust domain that the identity belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Workload(workload) => workload.trust_domain(),
            Self::Proxy(proxy) => proxy.workload().trust_domain(),
            Self::ControlPlane(control_plane) => control_plane.trust_domain(),
            Self::IngressGateway(gateway) => gateway.trust_domain(),
        }
    }

    /// The URI name of the certificate.
    pub fn uri(&self) -> String {
        match self {
            Self::Workload(workload) => workload.uri(),
            Self::Proxy(proxy) => proxy.uri(),
            Self::ControlPlane(control_plane) => control_plane.uri(),
            Self::IngressGateway(gateway) => gateway.uri(),
        }
    }

    /// All subject alternative names of the certificate, in the order in which they are written.
    pub fn subject_names(&self) -> SubjectNames {
        let dns = match self {
            Self::Workload(workload) => vec![workload.dns_name()],
            Self::Proxy(_) => Vec::new(),
            Self::ControlPlane(control_plane) => vec![control_plane.service_dns_name(), control_plane.ads_dns_name()],
            Self::IngressGateway(gateway) => gateway.dns_names().map(str::to_owned).collect(),
        };
        SubjectNames { dns, uri: self.uri() }
    }

    /// Reads an identity from its URI name. That of an ingress gateway does not say all of it, and is refused.
    ///
    /// # Errors
    /// [`IdentityError::UnknownShape`] or [`IdentityError::InvalidName`]. Nothing is normalised: what this accepts,
    /// [`Self::uri`] writes back byte for byte.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let unknown = |problem| IdentityError::UnknownShape { uri: uri.to_owned(), problem };
        let rest = uri.strip_prefix("spiffe://").ok_or_else(|| unknown("it does not start with \"spiffe://\""))?;
        let mut segments = rest.split('/');
        let trust_domain = TrustDomain::new(segments.next().unwrap_or_default())?;
        let segments: Vec<&str> = segments.collect();
        match segments.as_slice() {
            ["ns", namespace, "sa", service_account] => {
                Ok(Self::Workload(WorkloadIdentity::new(trust_domain, namespace, service_account)?))
            }
            ["ns", namespace, "sa", service_account, "proxy", node] => {
                let workload = WorkloadIdentity::new(trust_domain, namespace, service_account)?;
                Ok(Self::Proxy(ProxyIdentity::new(workload, node)?))
            }
            ["ns", namespace, "control-plane", service] => {
                Ok(Self::ControlPlane(ControlPlaneIdentity::new(trust_domain, namespace, service)?))
            }
            _ => Err(unknown("its path is not of a workload, proxy or control plane")),
        }
    }

    /// Reads the identity from a peer's certificate (DER). Says nothing about who signed it: the TLS layer has verified
    /// the chain before.
    ///
    /// Strict: exactly one URI name of a known shape, exactly the DNS names that belong to it, no other names, and a
    /// trust domain out of `accepted`.
    ///
    /// # Errors
    /// [`IdentityError`] saying which of these does not hold.
    pub fn from_certificate(certificate: &[u8], accepted: &[TrustDomain]) -> Result<Self, IdentityError> {
        let certificate = der::certificate(certificate).map_err(IdentityError::Malformed)?;
        let identity = Self::from_parsed(&certificate)?;
        if accepted.contains(identity.trust_domain()) {
            return Ok(identity);
        }
        Err(IdentityError::ForeignTrustDomain {
            found: identity.trust_domain().to_string(),
            accepted: accepted.iter().map(ToString::to_string).collect(),
        })
    }

    pub(crate) fn from_parsed(certificate: &X509Certificate<'_>) -> Result<Self, IdentityError> {
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| IdentityError::Malformed(error.to_string()))?
            .ok_or(IdentityError::NoSubjectAlternativeNames)?;
        let mut uris = Vec::new();
        let mut dns = Vec::new();
        for name in &names.value.general_names {
            match name {
                GeneralName::URI(uri) => uris.push(*uri),
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                other => return Err(IdentityError::UnexpectedName(other.to_string())),
            }
        }
        let [uri] = uris.as_slice() else {
            return Err(IdentityError::UriCount { count: uris.len() });
        };
        if let Some(gateway) = IngressGatewayIdentity::of_names(uri, &dns) {
            return gateway.map(Self::IngressGateway);
        }
        let identity = Self::from_uri(uri)?;
        let expected = identity.subject_names().dns;
        // The order of names in a certificate carries no meaning, and a provider may write its own.
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        if sorted(&dns) != sorted(&expected) {
            return Err(IdentityError::DnsNames { uri: (*uri).to_owned(), expected, found: dns });
        }
        Ok(identity)
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

/// The subject alternative names of one certificate. Made from a [`PeerIdentity`] only, so never an arbitrary set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectNames {
    dns: Vec<String>,
    uri: String,
}

impl SubjectNames {
    /// DNS names, in order; empty for a proxy.
    pub fn dns(&self) -> &[String] {
        &self.dns
    }

    /// The one URI name.
    pub fn uri(&self) -> &str {
        &self.uri
    }
}
