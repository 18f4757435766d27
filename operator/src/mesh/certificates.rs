//! The loop's dealings with the certificate store.

use std::sync::Arc;

use osm_api::MeshConfigSpec;
use osm_issuer::{CertificateStore, LeafCertificate, PeerIdentity, Renewed, TrustBundle, TrustDomain};
use osm_model::Identity;

use crate::identity::{self, ServerTls};
use crate::roots::Deliveries;

/// The store, and the server certificate that comes from it.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// Where certificates come from.
    pub(crate) store: Arc<CertificateStore>,
    /// Trust domain of the mesh.
    pub(crate) trust_domain: TrustDomain,
    /// Whom the server certificate names.
    pub(crate) control_plane: PeerIdentity,
    /// What new connections are accepted with.
    pub(crate) tls: ServerTls,
    /// What proxies were given, and with which publication.
    pub(crate) deliveries: Arc<Deliveries>,
}

impl Certificates {
    /// Certificates issued from now on follow these settings; `None` when there are none.
    pub(crate) fn follow(&self, spec: Option<&MeshConfigSpec>) {
        self.store.set_policy(identity::leaf_policy(spec));
    }

    /// The certificate of a workload if it is at hand. Else it is issued in the background, and comes as a change of the store.
    pub(crate) fn obtain(&self, workload: &Identity) -> Option<Arc<LeafCertificate>> {
        let identity = match identity::workload_identity(&self.trust_domain, workload) {
            Ok(identity) => PeerIdentity::Workload(identity),
            Err(error) => {
                tracing::error!(%workload, %error, "the workload gets no certificate");
                return None;
            }
        };
        if let Some(leaf) = self.store.cached(&identity) {
            return Some(leaf);
        }
        let (store, workload) = (Arc::clone(&self.store), workload.clone());
        tokio::spawn(async move {
            if let Err(error) = store.certificate(&identity).await {
                tracing::error!(%workload, %error, reason = error.reason(), "cannot issue a certificate");
            }
        });
        None
    }

    /// The roots changed: the server uses them from now on, and proxies are to be given them.
    pub(crate) async fn trust_bundle(&self) -> Option<Arc<TrustBundle>> {
        self.renew_server_certificate().await;
        self.store.trust_bundle().await.ok()
    }

    /// There is a new certificate of `identity`; gives it if it is for proxies.
    pub(crate) async fn issued(&self, identity: &PeerIdentity) -> Option<Arc<LeafCertificate>> {
        if *identity == self.control_plane {
            self.renew_server_certificate().await;
            return None;
        }
        self.store.cached(identity)
    }

    async fn renew_server_certificate(&self) {
        let (Ok(bundle), Some(leaf)) = (self.store.trust_bundle().await, self.store.cached(&self.control_plane)) else {
            return;
        };
        match self.tls.replace(&leaf, &bundle) {
            Ok(()) => self.deliveries.serve(&leaf, &bundle),
            Err(error) => tracing::error!(%error, "the former server certificate stays in use"),
        }
    }
}

/// Renews the certificate of every workload the store knows. The new ones reach proxies as changes of the store.
pub(crate) async fn rotate_workloads(store: Arc<CertificateStore>) -> Renewed {
    let mut sum = Renewed::default();
    for status in store.status() {
        let PeerIdentity::Workload(_) = status.identity else { continue };
        match store.rotate_now(&status.identity).await {
            Ok(_) => sum.renewed += 1,
            Err(error) => {
                tracing::warn!(identity = %status.identity, %error, reason = error.reason(), "cannot renew a certificate");
                sum.failed += 1;
            }
        }
    }
    tracing::info!(renewed = sum.renewed, failed = sum.failed, "certificates are renewed on demand");
    sum
}
