//! The certificate authority of a process that has no cluster: a Tresor in a folder, the control plane's own certificate,
//! and the trust bundle as Envoy and TLS need it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use osm_api::MeshConfigSpec;
use osm_issuer::{
    Blame, CertificateStore, ClientCertificates, Clock, ControlPlaneIdentity, IssuerConfig, Issuers, LeafCertificate,
    LeafKeyAlgorithm, LeafPolicy, LeafValidity, RsaKeySize, StoreConfig, TrustBundle, TrustDomain, WorkloadIdentity,
    tresor,
};
use osm_model::Identity;
use rustls::ServerConfig;

/// Name of the Service that proxies reach the control plane by (OSM's).
pub const CONTROL_PLANE_SERVICE: &str = "osm-controller";

/// Opens the authority in `folder`, creating it if there is none, and a store that signs with it.
///
/// # Errors
/// The folder cannot be used, or holds an authority that cannot sign; the message names file and reason.
pub fn open_store(folder: &Path, clock: Clock) -> anyhow::Result<CertificateStore> {
    let now = clock.now();
    let material = tresor::load_or_create(folder, now)
        .with_context(|| format!("open the certificate authority in {}", folder.display()))?;
    let origin = Blame::Folder { path: folder.to_owned() };
    let config = IssuerConfig::Tresor(tresor::TresorConfig { material, origin });
    let signing = config.build(now).with_context(|| format!("use the authority in {}", folder.display()))?;
    Ok(CertificateStore::new(Issuers { signing, validating: Vec::new() }, StoreConfig::default(), clock))
}

/// The certificate identity of a workload.
///
/// # Errors
/// A name is too long for a certificate.
pub fn workload_identity(trust_domain: &TrustDomain, identity: &Identity) -> anyhow::Result<WorkloadIdentity> {
    WorkloadIdentity::new(trust_domain.clone(), identity.namespace.as_str(), &identity.service_account)
        .with_context(|| format!("name {identity} in a certificate"))
}

/// The certificate identity of the control plane in `namespace`.
///
/// # Errors
/// The namespace cannot be named in a certificate.
pub fn control_plane_identity(trust_domain: &TrustDomain, namespace: &str) -> anyhow::Result<ControlPlaneIdentity> {
    ControlPlaneIdentity::new(trust_domain.clone(), namespace, CONTROL_PLANE_SERVICE)
        .with_context(|| format!("name a control plane in {namespace:?} in a certificate"))
}

/// Key and validity that the MeshConfig asks for. Without a MeshConfig, and without `certKeyBitSize`, keys are ECDSA P-256.
pub fn leaf_policy(config: Option<&MeshConfigSpec>) -> LeafPolicy {
    let mut policy = LeafPolicy::default();
    let Some(config) = config else { return policy };
    let validity = config.service_certificate_validity().value;
    policy.workload_validity = LeafValidity::new(validity).unwrap_or_default();
    let gateway = config.certificate.as_ref().and_then(|certificate| certificate.ingress_gateway.as_ref());
    if let Some(gateway) = gateway {
        policy.gateway_validity = LeafValidity::new(gateway.validity().value).unwrap_or_default();
    }
    if let Some(bits) = config.rsa_key_bits().value {
        let size = RsaKeySize::at_least(u32::from(bits));
        policy.key = size.map_or_else(|_| LeafKeyAlgorithm::default(), LeafKeyAlgorithm::Rsa);
    }
    policy
}

/// The TLS configuration that new connections are accepted with; replaced when certificate or roots change.
#[derive(Debug, Clone)]
pub struct ServerTls {
    current: Arc<ArcSwap<ServerConfig>>,
}

impl ServerTls {
    /// Serves with `leaf`, and verifies clients against `bundle`.
    ///
    /// # Errors
    /// The TLS library refuses the key.
    pub fn new(leaf: &LeafCertificate, bundle: &TrustBundle) -> anyhow::Result<Self> {
        let config = osm_issuer::server_config(leaf, bundle, ClientCertificates::Required)?;
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(config)) })
    }

    /// Takes a new certificate or new roots into use for connections to come.
    ///
    /// # Errors
    /// The TLS library refuses the key; the former configuration stays.
    pub fn replace(&self, leaf: &LeafCertificate, bundle: &TrustBundle) -> anyhow::Result<()> {
        let config = osm_issuer::server_config(leaf, bundle, ClientCertificates::Required)?;
        self.current.store(Arc::new(config));
        Ok(())
    }

    /// The configuration for the next connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}
