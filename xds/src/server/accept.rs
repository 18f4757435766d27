//! Connections: accepting them, TLS, age, and clients that do not read.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::Server;
use super::service::XdsService;
use crate::policy::CloseReason;
use crate::settings::Settings;

/// The protocol name of HTTP/2 in TLS.
const ALPN_HTTP2: &[u8] = b"h2";

/// How much a stream may have waiting in the HTTP/2 layer before it is asked for no more.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How long to wait before accepting again after the system refused a connection, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the server's certificate comes from. Asked at each accept, so that a new certificate serves new connections
/// without a restart. Whether clients must present a certificate is up to the configuration.
pub trait TlsSource: Send + Sync + 'static {
    /// The configuration to accept the next connection with.
    fn current(&self) -> Arc<ServerConfig>;
}

impl<F> TlsSource for F
where
    F: Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
{
    fn current(&self) -> Arc<ServerConfig> {
        self()
    }
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The TLS handshake took too long.
    #[error("the TLS handshake took longer than {0:?}")]
    HandshakeTimeout(Duration),
    /// HTTP/2 failed.
    #[error("the connection failed: {0}")]
    Http(#[from] hyper::Error),
    /// The client stopped reading.
    #[error("the client left a response unread for longer than {0:?}")]
    NotReading(Duration),
    /// The client opened no stream.
    #[error("the client opened no stream within {0:?}")]
    Unused(Duration),
    /// Streams were still open when the time to end them gracefully was over.
    #[error("the connection did not end within {0:?} of being asked to")]
    DrainTimeout(Duration),
}

/// What the streams of a connection share.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
    pub(super) address: Option<SocketAddr>,
    started: Instant,
    streams: Mutex<Streams>,
    /// Notified when the connection shall end, so that the client makes another.
    reconnect: Notify,
}

#[derive(Debug, Default)]
struct Streams {
    open: HashMap<u64, Arc<StreamHandle>>,
    last: u64,
    /// Why the connection is ending.
    closing: Option<CloseReason>,
}

/// What a connection may do to one of its streams.
#[derive(Debug)]
pub(super) struct StreamHandle {
    number: u64,
    started: Instant,
    waker: AtomicWaker,
    closing: Mutex<Option<CloseReason>>,
    /// Since when the transport has not come back for more, in milliseconds since the connection started, plus one.
    writing_since: AtomicU64,
}

impl Connection {
    pub(super) fn new(certificates: Arc<[CertificateDer<'static>]>, address: Option<SocketAddr>) -> Self {
        let (started, streams, reconnect) = (Instant::now(), Mutex::default(), Notify::new());
        Self { certificates, address, started, streams, reconnect }
    }

    pub(super) fn open_stream(&self) -> Arc<StreamHandle> {
        let mut streams = self.streams.lock();
        streams.last += 1;
        let handle = Arc::new(StreamHandle {
            number: streams.last,
            started: self.started,
            waker: AtomicWaker::new(),
            closing: Mutex::new(streams.closing.clone()),
            writing_since: AtomicU64::new(0),
        });
        streams.open.insert(handle.number, Arc::clone(&handle));
        handle
    }

    pub(super) fn close_stream(&self, handle: &StreamHandle) {
        self.streams.lock().open.remove(&handle.number);
    }

    /// Has the connection end gracefully, as at the end of its age.
    pub(super) fn ask_to_reconnect(&self) {
        self.reconnect.notify_one();
    }

    /// Asks every stream to end.
    fn close(&self, reason: &CloseReason) {
        let mut streams = self.streams.lock();
        streams.closing = Some(reason.clone());
        for handle in streams.open.values() {
            handle.close(reason);
        }
    }

    /// Whether a stream has been waiting for its client to read for longer than the limit.
    fn is_stuck(&self, limit: Duration) -> bool {
        let streams = self.streams.lock();
        let mut stuck = false;
        for handle in streams.open.values() {
            let since = handle.writing_since.load(Ordering::Relaxed);
            if since > 0 && self.elapsed() > since + milliseconds(limit) {
                *handle.closing.lock() = Some(CloseReason::NotReading);
                stuck = true;
            }
        }
        stuck
    }

    /// Whether no stream was ever opened within the limit.
    fn is_unused(&self, limit: Duration) -> bool {
        self.streams.lock().last == 0 && self.started.elapsed() > limit
    }

    fn elapsed(&self) -> u64 {
        milliseconds(self.started.elapsed()) + 1
    }
}

impl StreamHandle {
    /// The transport asks for more.
    pub(super) fn poll_begins(&self, waker: &Waker) {
        self.waker.register(waker);
        self.writing_since.store(0, Ordering::Relaxed);
    }

    /// The transport was given something to write.
    pub(super) fn writing(&self) {
        let since = milliseconds(self.started.elapsed()) + 1;
        self.writing_since.store(since, Ordering::Relaxed);
    }

    /// Asks the stream to end.
    pub(super) fn close(&self, reason: &CloseReason) {
        *self.closing.lock() = Some(reason.clone());
        self.waker.wake();
    }

    /// Why the stream must end, if it must.
    pub(super) fn closing(&self) -> Option<CloseReason> {
        self.closing.lock().clone()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Server {
    /// Serves without TLS until [`Server::shutdown`].
    pub async fn serve_plaintext(&self, listener: TcpListener) {
        let server = self.clone();
        self.accept(listener, move |stream, address| {
            let server = server.clone();
            async move { server.serve_connection(stream, Arc::default(), Some(address)).await }
        })
        .await;
    }

    /// Serves with TLS until [`Server::shutdown`].
    pub async fn serve_tls(&self, listener: TcpListener, tls: impl TlsSource) {
        let tls = Arc::new(tls);
        let server = self.clone();
        self.accept(listener, move |stream, address| {
            let (server, tls) = (server.clone(), Arc::clone(&tls));
            async move { server.serve_tls_connection(stream, address, &*tls).await }
        })
        .await;
    }

    async fn serve_tls_connection(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        tls: &impl TlsSource,
    ) -> Result<(), ServeError> {
        let acceptor = TlsAcceptor::from(with_http2(tls.current()));
        let limit = self.inner.settings.handshake_timeout;
        // What only the handshake needs is given back when it is over.
        let stream = Box::pin(tokio::time::timeout(limit, acceptor.accept(stream)))
            .await
            .map_err(|_| ServeError::HandshakeTimeout(limit))?
            .map_err(ServeError::Handshake)?;
        let certificates = stream
            .get_ref()
            .1
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        self.serve_connection(stream, certificates, Some(address)).await
    }

    async fn accept<F>(&self, listener: TcpListener, serve: impl Fn(TcpStream, SocketAddr) -> F)
    where
        F: Future<Output = Result<(), ServeError>> + Send + 'static,
    {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.inner.shutdown.cancelled() => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, %address, "cannot set TCP_NODELAY");
            }
            let connection = serve(stream, address);
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, %address, "a connection ended with an error");
                }
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// Serves one connection, of any kind, until it ends.
    ///
    /// # Errors
    ///
    /// The connection did not end in an orderly way.
    pub fn serve_connection<I>(
        &self,
        stream: I,
        certificates: Arc<[CertificateDer<'static>]>,
        address: Option<SocketAddr>,
    ) -> impl Future<Output = Result<(), ServeError>> + Send + use<'_, I>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Arc::new(Connection::new(certificates, address));
        let service = XdsService::new(self.clone(), Arc::clone(&connection));
        // An asynchronous function would keep a place for each form that the stream takes on its way into the connection, for as
        // long as the connection lasts.
        let http = builder(&self.inner.settings);
        let http = Box::pin(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
        self.drive(http, connection)
    }

    /// Serves until the connection ends, or has to.
    async fn drive<I>(&self, mut http: Pin<Box<Http<I>>>, connection: Arc<Connection>) -> Result<(), ServeError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = &self.inner.settings;
        let age = settings.connection_age.map(jittered);
        let mut age = std::pin::pin!(async {
            match age {
                Some(age) => tokio::time::sleep(age).await,
                None => std::future::pending().await,
            }
        });
        let mut shutdown = std::pin::pin!(async {
            self.inner.shutdown.cancelled().await;
            tokio::time::sleep(settings.shutdown_spread.mul_f64(random_share())).await;
        });
        let mut watch = tokio::time::interval(watch_period(settings.read_limit));
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let reason = loop {
            tokio::select! {
                ended = http.as_mut() => return Ok(ended?),
                () = age.as_mut() => break CloseReason::Age,
                () = connection.reconnect.notified() => break CloseReason::Reconnect,
                () = shutdown.as_mut() => break CloseReason::Shutdown,
                _ = watch.tick() => {
                    if connection.is_stuck(settings.read_limit) {
                        return Err(ServeError::NotReading(settings.read_limit));
                    }
                    if connection.is_unused(settings.read_limit) {
                        return Err(ServeError::Unused(settings.read_limit));
                    }
                }
            }
        };
        http.as_mut().graceful_shutdown();
        connection.close(&reason);
        match tokio::time::timeout(settings.drain_timeout, http).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(ServeError::DrainTimeout(settings.drain_timeout)),
        }
    }
}

/// A connection as hyper serves it.
type Http<I> = http2::Connection<TokioIo<I>, TowerToHyperService<XdsService>, TokioExecutor>;

fn builder(settings: &Settings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.concurrent_streams)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout);
    builder
}

/// HTTP/2 must be negotiated; adds it where the embedder did not.
fn with_http2(config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if config.alpn_protocols.iter().any(|protocol| protocol == ALPN_HTTP2) {
        return config;
    }
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols.push(ALPN_HTTP2.to_vec());
    Arc::new(config)
}

/// A limit that differs from connection to connection by up to 10 %, so that they do not all end at once.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * random_share())
}

/// A number from 0 to 1. Each hasher of the standard library's default has keys of its own: random enough to spread
/// connections.
fn random_share() -> f64 {
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// How often to look for clients that do not read.
fn watch_period(limit: Duration) -> Duration {
    (limit / 4).clamp(Duration::from_millis(10), Duration::from_secs(15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_spread_around_the_one_asked_for() {
        let ages: Vec<f64> = (0..200).map(|_| jittered(Duration::from_secs(100)).as_secs_f64()).collect();
        assert!(ages.iter().all(|age| (90.0..=110.0).contains(age)));
        let (low, high) =
            (ages.iter().copied().fold(f64::MAX, f64::min), ages.iter().copied().fold(f64::MIN, f64::max));
        assert!(high - low > 10.0, "{low} to {high}");
    }

    struct Nobody;

    impl crate::policy::Policy for Nobody {
        fn authenticate<'a>(
            &'a self,
            _: &'a crate::policy::Peer,
            _: &'a crate::policy::Node,
        ) -> futures::future::BoxFuture<'a, Result<crate::policy::Admission, crate::policy::Refusal>> {
            Box::pin(std::future::ready(Err(crate::policy::Refusal::Unauthenticated("nobody".to_owned()))))
        }
    }

    #[tokio::test]
    async fn what_serves_a_connection_is_small() {
        let server = Server::new(crate::Cache::new(), Arc::new(Nobody), Settings::default());
        let (stream, _) = tokio::io::duplex(64);
        let serving = server.serve_connection(stream, Arc::default(), None);
        assert!(size_of_val(&serving) <= 1024, "{} bytes", size_of_val(&serving));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let tls = || -> Arc<ServerConfig> { unreachable!("nothing is accepted") };
        let serving = server.serve_tls_connection(stream, address, &tls);
        assert!(size_of_val(&serving) <= 2048, "{} bytes", size_of_val(&serving));
    }
}
