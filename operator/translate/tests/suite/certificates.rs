//! A certificate authority for tests.

use osm_model::{Identity, TrustDomain};
use osm_translate::{PrivateKeyPem, SecretResource, secret_service_certificate, secret_trust_bundle};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// A root that vouches for whomever it is asked to.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Different from what leaves are called, or they would look self-signed.
        parameters.distinguished_name.push(DnType::CommonName, "root");
        let root = parameters.self_signed(&key).unwrap();
        Self { root_pem: root.pem(), issuer: Issuer::new(parameters, key) }
    }

    /// A certificate with these names.
    pub(crate) fn leaf(&self, uri: Option<&str>, dns: &[&str]) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(dns.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        parameters.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// The certificate of a workload, with both of its names.
    pub(crate) fn workload(&self, identity: &Identity, trust_domain: &TrustDomain) -> Leaf {
        self.leaf(Some(&identity.spiffe_id(trust_domain)), &[&identity.dns_name(trust_domain)])
    }

    /// What a proxy of `leaf` is given.
    pub(crate) fn secrets(&self, leaf: &Leaf) -> [SecretResource; 2] {
        let key = PrivateKeyPem::new(leaf.key_pem.clone());
        [secret_service_certificate(&leaf.chain_pem, &key), secret_trust_bundle(&self.root_pem)]
    }
}
