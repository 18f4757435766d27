//! HTTP over TLS, with a certificate that can be replaced while connections are open.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use osm_issuer::{ClientCertificates, LeafCertificate, TrustBundle};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::handlers::Webhooks;

/// Protocols, the preferred one first. The API server speaks HTTP/2.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// How long a client has for the TLS handshake, and for the head of a request.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Most connections at a time; API servers need one each.
const MAX_CONNECTIONS: usize = 1024;
/// How long requests under way may take at the end.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted, as when there are no more file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The TLS configuration that new connections are accepted with; replaced when the certificate changes. Clients show no
/// certificate: the API server has none of the mesh.
#[derive(Debug, Clone)]
pub struct WebhookTls {
    current: Arc<ArcSwap<ServerConfig>>,
}

impl WebhookTls {
    /// Serves with `leaf`.
    ///
    /// # Errors
    /// The TLS library refuses the key.
    pub fn new(leaf: &LeafCertificate, bundle: &TrustBundle) -> anyhow::Result<Self> {
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(server_config(leaf, bundle)?)) })
    }

    /// Takes a new certificate into use for connections to come. The API server must trust its root by then.
    ///
    /// # Errors
    /// The TLS library refuses the key; the former certificate stays.
    pub fn replace(&self, leaf: &LeafCertificate, bundle: &TrustBundle) -> anyhow::Result<()> {
        self.current.store(Arc::new(server_config(leaf, bundle)?));
        Ok(())
    }
}

fn server_config(leaf: &LeafCertificate, bundle: &TrustBundle) -> anyhow::Result<ServerConfig> {
    let mut config = osm_issuer::server_config(leaf, bundle, ClientCertificates::NotAsked)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// Serves the webhooks until `stop` is ready, then lets requests under way end.
///
/// # Errors
/// None at present: a connection that fails is its own affair.
pub async fn serve(
    listener: TcpListener,
    tls: WebhookTls,
    webhooks: Webhooks,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let router = webhooks.router();
    let (end, ended) = watch::channel(());
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    let accept = async {
        loop {
            let permit = Arc::clone(&connections).acquire_owned().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the webhooks");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            };
            let (router, ended, config) = (router.clone(), ended.clone(), tls.current.load_full());
            tasks.spawn(async move {
                let _permit = permit;
                connection(stream, config, router, ended).await;
            });
            while tasks.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = stop => {}
        () = accept => {}
    }
    drop(end);
    if timeout(END_WITHIN, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("requests to the webhooks did not end in time");
    }
    Ok(())
}

/// Serves one connection until its client leaves, or the end comes.
async fn connection(stream: TcpStream, config: Arc<ServerConfig>, router: Router, ended: watch::Receiver<()>) {
    let stream = match timeout(HANDSHAKE_WITHIN, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            // Among others an API server that does not trust the certificate.
            tracing::warn!(%error, "TLS handshake with a client of the webhooks failed");
            return;
        }
        Err(_) => return,
    };
    if let Err(error) = requests(stream, router, ended).await {
        tracing::debug!(%error, "connection to the webhooks ended");
    }
}

async fn requests(
    stream: TlsStream<TcpStream>,
    router: Router,
    mut ended: watch::Receiver<()>,
) -> Result<(), hyper::Error> {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0]);
    let service = TowerToHyperService::new(router);
    let io = TokioIo::new(stream);
    // The channel closes when the end comes.
    let end = async move { while ended.changed().await.is_ok() {} };
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            result = connection.as_mut() => return result,
            () = end => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_WITHIN);
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            result = connection.as_mut() => return result,
            () = end => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}
