//! An ingress gateway: somebody outside of the mesh with a certificate of it, under names that people choose.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::name::{IdentityError, IdentityField, TrustDomain, label, subdomain};

/// An ingress gateway, by the Secret that its certificate is kept in (MeshConfig `spec.certificate.ingressGateway`), with the
/// DNS names that it is to have.
///
/// Its URI is not below `/ns/`, where workloads are: nobody who accepts workloads accepts a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IngressGatewayIdentity {
    trust_domain: TrustDomain,
    namespace: Arc<str>,
    secret: Arc<str>,
    dns_names: BTreeSet<Arc<str>>,
}

impl IngressGatewayIdentity {
    /// Checks the names: a namespace is one DNS label, a Secret's name and each DNS name are lower-case labels joined by dots, and
    /// there is at least one DNS name.
    ///
    /// # Errors
    /// [`IdentityError::InvalidName`] naming the part and the rule.
    pub fn new<'a>(
        trust_domain: TrustDomain,
        namespace: &str,
        secret: &str,
        dns_names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, IdentityError> {
        let names = dns_names.into_iter().map(Self::dns_name);
        let identity = Self {
            trust_domain,
            namespace: label(IdentityField::Namespace, namespace)?,
            secret: subdomain(IdentityField::Secret, secret)?,
            dns_names: names.collect::<Result<_, _>>()?,
        };
        match identity.dns_names.is_empty() {
            // The rule that an empty name breaks.
            true => Self::dns_name("").map(|_| identity),
            false => Ok(identity),
        }
    }

    /// Checks one DNS name.
    ///
    /// # Errors
    /// [`IdentityError::InvalidName`] naming the rule.
    pub fn dns_name(name: &str) -> Result<Arc<str>, IdentityError> {
        subdomain(IdentityField::DnsName, name)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace of the Secret.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the Secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The DNS names, ordered.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.dns_names.iter().map(|name| &**name)
    }

    /// The URI name of the gateway's certificate.
    pub fn uri(&self) -> String {
        format!("spiffe://{}/ingress-gateway/{}/{}", self.trust_domain, self.namespace, self.secret)
    }

    /// The gateway that names of a certificate say; `None` if its URI is of another shape.
    pub(super) fn of_names(uri: &str, dns_names: &[String]) -> Option<Result<Self, IdentityError>> {
        let mut segments = uri.strip_prefix("spiffe://")?.split('/');
        let (trust_domain, kind) = (segments.next()?, segments.next()?);
        let (namespace, secret) = (segments.next()?, segments.next()?);
        if kind != "ingress-gateway" || segments.next().is_some() {
            return None;
        }
        let names = dns_names.iter().map(String::as_str);
        Some(TrustDomain::new(trust_domain).and_then(|domain| Self::new(domain, namespace, secret, names)))
    }
}
