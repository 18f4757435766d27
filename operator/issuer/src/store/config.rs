//! What a store is told from outside.

use std::num::NonZeroUsize;

use crate::identity::PeerIdentity;
use crate::issuer::NamedIssuer;
use crate::key::LeafKeyAlgorithm;
use crate::validity::LeafValidity;

/// Who signs and who else is trusted (the MeshRootCertificates in use).
#[derive(Debug, Clone)]
pub struct Issuers {
    /// Signs leaves; its roots are trusted.
    pub signing: NamedIssuer,
    /// Others whose roots are trusted too, as while one root replaces another.
    pub validating: Vec<NamedIssuer>,
}

/// Key and validity of leaves (MeshConfig `spec.certificate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeafPolicy {
    /// Key of every leaf (`certKeyBitSize`).
    pub key: LeafKeyAlgorithm,
    /// Validity of workloads' certificates (`serviceCertValidityDuration`).
    pub workload_validity: LeafValidity,
    /// Validity of ingress gateways' certificates (`ingressGateway.validityDuration`).
    pub gateway_validity: LeafValidity,
    /// Validity of proxies' and the control plane's certificates. OSM gives these ten years and does not renew them; here
    /// they are renewed like all others.
    pub internal_validity: LeafValidity,
}

impl LeafPolicy {
    pub(super) fn validity_for(&self, identity: &PeerIdentity) -> LeafValidity {
        match identity {
            PeerIdentity::Workload(_) => self.workload_validity,
            PeerIdentity::IngressGateway(_) => self.gateway_validity,
            PeerIdentity::Proxy(_) | PeerIdentity::ControlPlane(_) => self.internal_validity,
        }
    }
}

/// Limits and policy of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// Key and validity of leaves.
    pub policy: LeafPolicy,
    /// How many requests may be with the issuer at a time. Renewals use half of them.
    pub max_issuing: NonZeroUsize,
    /// How many RSA keys are made at a time, each on a thread of the blocking pool.
    pub max_rsa_generating: NonZeroUsize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            policy: LeafPolicy::default(),
            max_issuing: const { NonZeroUsize::new(16).expect("16 is not zero") },
            max_rsa_generating: const { NonZeroUsize::new(2).expect("2 is not zero") },
        }
    }
}
