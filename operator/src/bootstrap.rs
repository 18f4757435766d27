//! `osm-operator bootstrap`: the bootstrap of an Envoy outside a cluster, with its certificate as files.

use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use osm_bootstrap::names::CERTIFICATE_SECRET;
use osm_bootstrap::{ROOTS_SECRET, STANDALONE_CERTIFICATE_FILE, STANDALONE_ROOTS_FILE, StandaloneBootstrap};
use osm_issuer::{CertificateStore, LeafCertificate, PeerIdentity, ProxyIdentity, TrustBundle, TrustDomain};
use osm_model::Identity;
use serde_json::{Value, json};

use crate::identity;

/// What a bootstrap is made from.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The workload the proxy belongs to.
    pub workload: Identity,
    /// Name of the proxy among those of its workload.
    pub node: String,
    /// Where the control plane serves xDS.
    pub control_plane: SocketAddr,
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// Folder of the proxy's own certificate.
    pub certificates: PathBuf,
    /// Port of Envoy's admin interface, on loopback.
    pub admin_port: u16,
}

impl Bootstrap {
    /// The certificate identity of the proxy.
    ///
    /// # Errors
    /// A name cannot be written into a certificate.
    pub fn proxy(&self) -> anyhow::Result<ProxyIdentity> {
        let workload = identity::workload_identity(&self.trust_domain, &self.workload)?;
        ProxyIdentity::new(workload, &self.node).with_context(|| format!("name the proxy {:?}", self.node))
    }

    /// The bootstrap, as Envoy's configuration in JSON.
    ///
    /// # Errors
    /// A name cannot be written into a certificate, or the folder's path into JSON.
    pub fn envoy(&self) -> anyhow::Result<Value> {
        let certificates = self.certificates.to_str();
        let certificates = certificates.with_context(|| {
            format!("the folder {} is not named in UTF-8; name another", self.certificates.display())
        })?;
        let bootstrap = StandaloneBootstrap {
            workload: self.workload.clone(),
            node: self.proxy()?.node().to_owned(),
            control_plane: self.control_plane,
            trust_domain: osm_model::TrustDomain::new(self.trust_domain.as_str())?,
            certificates: certificates.to_owned(),
            admin_port: self.admin_port,
        };
        Ok(bootstrap.envoy())
    }
}

/// Issues the proxy's own certificate and writes it with the roots into the certificate folder, atomically, readable by
/// `owner` alone.
///
/// # Errors
/// No certificate can be issued, or the folder cannot be written to.
pub async fn write_certificates(
    bootstrap: &Bootstrap,
    store: &CertificateStore,
    owner: Option<u32>,
) -> anyhow::Result<()> {
    let proxy = PeerIdentity::Proxy(bootstrap.proxy()?);
    let leaf = store.certificate(&proxy).await.context("issue the proxy's certificate")?;
    let roots = store.trust_bundle().await.context("read the roots of the mesh")?;
    write_files(&bootstrap.certificates, &leaf, &roots, owner)
}

fn write_files(folder: &Path, leaf: &LeafCertificate, roots: &TrustBundle, owner: Option<u32>) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    own(folder, owner)?;
    let material = leaf.material();
    let certificate = sds(&json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": CERTIFICATE_SECRET,
        "tls_certificate": {
            "certificate_chain": { "inline_string": material.certificate_chain_pem() },
            "private_key": { "inline_string": material.expose_private_key_pem() },
        },
    }))?;
    let validation = sds(&json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": ROOTS_SECRET,
        "validation_context": { "trusted_ca": { "inline_string": roots.pem() } },
    }))?;
    replace(folder, STANDALONE_CERTIFICATE_FILE, &certificate, owner)?;
    replace(folder, STANDALONE_ROOTS_FILE, &validation, owner)
}

fn sds(secret: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(&json!({ "resources": [secret] })).context("write YAML")
}

/// Envoy takes a file up when it is moved into place.
fn replace(folder: &Path, name: &str, content: &str, owner: Option<u32>) -> anyhow::Result<()> {
    use std::io::Write;
    let (file, unfinished) = (folder.join(name), folder.join(format!(".{name}.new")));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut target = options.open(&unfinished).with_context(|| format!("write {}", unfinished.display()))?;
    target.write_all(content.as_bytes()).with_context(|| format!("write {}", unfinished.display()))?;
    own(&unfinished, owner)?;
    std::fs::rename(&unfinished, &file).with_context(|| format!("replace {}", file.display()))
}

fn own(path: &Path, owner: Option<u32>) -> anyhow::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    chown(path, Some(owner), Some(owner))
        .with_context(|| format!("give {} to uid {owner}; run as root or without --proxy-uid", path.display()))
}

/// Keeps the proxy's certificate fresh on disk, for ever.
///
/// # Errors
/// The certificate folder cannot be written to. An issuer that fails is asked again.
pub async fn renew(
    bootstrap: &Bootstrap,
    store: &CertificateStore,
    owner: Option<u32>,
) -> anyhow::Result<std::convert::Infallible> {
    let mut changes = store.subscribe();
    let keep = async {
        loop {
            changes.next().await;
            write_certificates(bootstrap, store, owner).await?;
            tracing::info!(proxy = %bootstrap.node, "wrote a renewed certificate");
        }
    };
    tokio::select! {
        ended = keep => ended,
        never = store.run() => match never {},
    }
}
