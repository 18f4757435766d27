//! Names: namespaces, identities, services, trust domains.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// A text that is not a legal name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a legal {kind}: {reason}")]
pub struct InvalidName {
    /// What was to be named, for example "namespace".
    pub kind: &'static str,
    /// The text that was refused.
    pub value: String,
    /// Which rule it breaks.
    pub reason: &'static str,
}

/// Checks an RFC 1123 subdomain: the rule for ServiceAccount names (dots are legal) and most object names.
fn subdomain(kind: &'static str, value: &str) -> Result<Arc<str>, InvalidName> {
    let refuse = |reason| Err(InvalidName { kind, value: value.to_owned(), reason });
    if value.is_empty() || value.len() > 253 {
        return refuse("it must have 1 to 253 characters");
    }
    let legal = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !value.split('.').all(legal) {
        return refuse(
            "it must consist of lower-case letters, digits, '-' and '.', and start and end with a letter or digit",
        );
    }
    Ok(value.into())
}

/// Checks an RFC 1123 label: the rule for namespaces and Services.
fn label(kind: &'static str, value: &str) -> Result<Arc<str>, InvalidName> {
    if value.len() > 63 || value.contains('.') {
        let reason = "it must have at most 63 characters and no '.'";
        return Err(InvalidName { kind, value: value.to_owned(), reason });
    }
    subdomain(kind, value)
}

/// The name of a Kubernetes namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NamespaceName(Arc<str>);

impl NamespaceName {
    /// Validates an RFC 1123 label.
    ///
    /// # Errors
    /// Names the value and the rule it breaks.
    pub fn new(value: &str) -> Result<Self, InvalidName> {
        label("namespace", value).map(Self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A workload identity: a ServiceAccount in a namespace. All pods that run as it share one certificate and one
/// configuration. Prints as `namespace/service-account`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Identity {
    /// The namespace of the ServiceAccount.
    pub namespace: NamespaceName,
    /// The name of the ServiceAccount; it may contain dots, so an identity is never recovered by splitting on them.
    pub service_account: Arc<str>,
}

impl Identity {
    /// Validates both parts.
    ///
    /// # Errors
    /// Names the part that is not legal.
    pub fn new(namespace: &str, service_account: &str) -> Result<Self, InvalidName> {
        Ok(Self {
            namespace: NamespaceName::new(namespace)?,
            service_account: subdomain("ServiceAccount name", service_account)?,
        })
    }

    /// The DNS name in this identity's certificate: `sa.ns.<trust domain>` (OSM's form).
    pub fn dns_name(&self, trust_domain: &TrustDomain) -> String {
        format!("{}.{}.{trust_domain}", self.service_account, self.namespace)
    }

    /// The SPIFFE ID in this identity's certificate: `spiffe://<trust domain>/ns/<ns>/sa/<sa>`.
    pub fn spiffe_id(&self, trust_domain: &TrustDomain) -> String {
        format!("spiffe://{trust_domain}/ns/{}/sa/{}", self.namespace, self.service_account)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A Kubernetes Service. Prints as `namespace/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServiceId {
    /// The Service's namespace.
    pub namespace: NamespaceName,
    /// The Service's name.
    pub name: Arc<str>,
}

impl ServiceId {
    /// Validates both parts.
    ///
    /// # Errors
    /// Names the part that is not legal.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidName> {
        Ok(Self { namespace: NamespaceName::new(namespace)?, name: label("Service name", name)? })
    }

    /// The fully qualified name within the cluster, which is also the SNI between sidecars:
    /// `svc.ns.svc.<cluster domain>`.
    pub fn fqdn(&self, cluster_domain: &str) -> String {
        format!("{}.{}.svc.{cluster_domain}", self.name, self.namespace)
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The trust domain of the mesh's certificates, for example `cluster.local` (MeshRootCertificate `spec.trustDomain`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Validates an RFC 1123 subdomain.
    ///
    /// # Errors
    /// Names the value and the rule it breaks.
    pub fn new(value: &str) -> Result<Self, InvalidName> {
        subdomain("trust domain", value).map(Self)
    }

    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_account_names_may_contain_dots_and_stay_one_name() {
        let identity = Identity::new("shop", "api.v1").unwrap();
        let trust_domain = TrustDomain::new("cluster.local").unwrap();
        assert_eq!(identity.dns_name(&trust_domain), "api.v1.shop.cluster.local");
        assert_eq!(identity.spiffe_id(&trust_domain), "spiffe://cluster.local/ns/shop/sa/api.v1");
    }

    #[test]
    fn illegal_names_say_what_and_why() {
        for (namespace, account) in [("", "a"), ("a.b", "a"), ("a", "A"), ("a", "-a"), ("a", "a..b"), ("a", "a/b")] {
            assert!(Identity::new(namespace, account).is_err(), "{namespace:?} {account:?}");
        }
        let refused = NamespaceName::new("Shop").unwrap_err().to_string();
        assert!(refused.contains("\"Shop\"") && refused.contains("lower-case"), "{refused}");
    }
}
