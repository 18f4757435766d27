//! A peer that talks to a sidecar directly, with whatever certificate it likes: what a rogue workload could do.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::{Authority, Leaf};

/// Who calls, and how.
#[derive(Debug)]
pub(crate) struct Peer {
    configuration: ClientConfig,
}

impl Peer {
    /// Presents `leaf`, trusts `authority`, offers the mesh's ALPN.
    pub(crate) fn new(authority: &Authority, leaf: &Leaf) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.root_pem.as_bytes()).unwrap()).unwrap();
        let chain = CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut configuration = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        configuration.alpn_protocols = vec![osm_translate::naming::MESH_ALPN.into()];
        Self { configuration }
    }

    pub(crate) fn without_alpn(mut self) -> Self {
        self.configuration.alpn_protocols.clear();
        self
    }

    /// A connection to the sidecar at `address`, whose certificate must hold `server_name`. With TLS 1.3 a server may
    /// still refuse the client after this.
    pub(crate) async fn connect(&self, address: SocketAddr, server_name: &str) -> Option<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(self.configuration.clone())).connect(name, stream).await.ok()
    }
}
