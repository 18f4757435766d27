//! The server behind a world.

use std::{net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use osm_xds::{
    Admission, Cache, ClientIdentity, Event, Node, Peer, Policy, Refusal, Server, Settings, TypeUrl, UnknownName,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{Authenticate, Events, Unknown};
use crate::Identity;

/// Decides by the test's functions and writes down what it is told.
pub(super) struct TestPolicy {
    pub(super) authenticate: Authenticate,
    pub(super) unknown: Unknown,
    pub(super) events: watch::Sender<Events>,
}

impl Policy for TestPolicy {
    fn authenticate<'a>(&'a self, peer: &'a Peer, node: &'a Node) -> BoxFuture<'a, Result<Admission, Refusal>> {
        Box::pin(std::future::ready((self.authenticate)(peer, node)))
    }

    fn unknown_name(&self, _: &Admission, type_url: &TypeUrl, name: &str) -> UnknownName {
        (self.unknown)(type_url, name)
    }

    fn observe(&self, client: &ClientIdentity, event: Event) {
        self.events.send_modify(|events| events.push((client.clone(), event)));
    }
}

/// A server and the task that runs it.
#[derive(Debug)]
pub struct Running {
    server: Server,
    task: JoinHandle<()>,
}

impl Running {
    /// How many streams are open.
    pub fn clients(&self) -> usize {
        self.server.clients().len()
    }

    /// The server itself.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Ends every stream and waits until the server is gone.
    pub(super) async fn stop(self) {
        self.server.shutdown();
        self.task.await.expect("the server does not panic");
    }
}

/// Starts a server; with `tls` it presents that identity and wants client certificates of that authority.
pub(super) async fn serve(
    cache: Cache,
    policy: TestPolicy,
    settings: Settings,
    tls: Option<(Identity, String)>,
) -> (SocketAddr, Running) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on loopback");
    let address = listener.local_addr().expect("a bound socket has an address");
    let server = Server::new(cache, Arc::new(policy), settings);
    let task = {
        let server = server.clone();
        match tls {
            None => tokio::spawn(async move { server.serve_plaintext(listener).await }),
            Some((identity, authority)) => {
                let config = tls_config(&identity, &authority);
                tokio::spawn(async move { server.serve_tls(listener, move || Arc::clone(&config)).await })
            }
        }
    };
    (address, Running { server, task })
}

fn tls_config(identity: &Identity, authority: &str) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM of an authority");
    roots.add(authority).expect("a certificate authority");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .expect("one root is enough");
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("PEM of a certificate")];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM of a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .expect("the key belongs to the certificate");
    Arc::new(config)
}
