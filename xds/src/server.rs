//! The server: gRPC over HTTP/2 around the state machine of each stream.

mod accept;
mod clients;
mod codec;
mod limit;
mod routes;
mod service;
mod session;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

pub use self::accept::{ServeError, TlsSource};
pub use self::clients::{ClientStatus, StreamProgress};
pub use self::service::{ServiceBody, XdsService};

use self::clients::Clients;
use self::limit::{RateLimit, StreamLimit};
use crate::cache::{Cache, Epoch, SnapshotKey};
use crate::policy::{ClientIdentity, Policy, ProxyName, StreamId};
use crate::settings::{Settings, StreamSettings};
use crate::type_url::TypeUrl;
use crate::version::Version;

/// An xDS server. A handle: clones are the same server.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    cache: Cache,
    policy: Arc<dyn Policy>,
    settings: Settings,
    stream_settings: Arc<StreamSettings>,
    clients: Clients,
    new_streams: Option<Mutex<RateLimit>>,
    open_streams: Arc<StreamLimit>,
    last_stream: AtomicU64,
    shutdown: CancellationToken,
}

impl Server {
    /// A server of these snapshots.
    #[must_use]
    pub fn new(cache: Cache, policy: Arc<dyn Policy>, settings: Settings) -> Self {
        Self {
            inner: Arc::new(Inner {
                cache,
                policy,
                stream_settings: Arc::new(settings.stream.clone()),
                new_streams: settings.new_streams_per_second.map(|rate| Mutex::new(RateLimit::new(rate))),
                open_streams: Arc::default(),
                settings,
                clients: Clients::default(),
                last_stream: AtomicU64::new(0),
                shutdown: CancellationToken::new(),
            }),
        }
    }

    /// The server as a tower service for one connection, to be used behind an HTTP/2 server of the embedder's own.
    /// Its streams end with the connection; ending old connections and shutting down are then the embedder's part.
    #[must_use]
    pub fn service(&self, certificates: Arc<[CertificateDer<'static>]>, address: Option<SocketAddr>) -> XdsService {
        XdsService::new(self.clone(), Arc::new(accept::Connection::new(certificates, address)))
    }

    /// The snapshots it serves.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// From now on no stream is opened beyond so many at a time: one more is refused with `RESOURCE_EXHAUSTED`, and its client
    /// may try again, here or elsewhere. Streams that are open stay. `None`, as at the start, is no limit.
    pub fn limit_streams(&self, most: Option<u64>) {
        self.inner.open_streams.set(most);
    }

    /// How many streams were refused for the limit of [`Server::limit_streams`] so far.
    #[must_use]
    pub fn streams_over_limit(&self) -> u64 {
        self.inner.open_streams.refused()
    }

    /// Ends every stream and connection gracefully and makes the `serve_*` calls return.
    pub fn shutdown(&self) {
        self.inner.shutdown.cancel();
    }

    /// Ends every open stream of a proxy with `PERMISSION_DENIED`, and says how many there were. Whether it may come back is
    /// up to [`Policy::authenticate`](crate::Policy::authenticate).
    pub fn dismiss(&self, proxy: &ProxyName) -> usize {
        self.inner.clients.dismiss(proxy)
    }

    /// Ends the connections of a proxy gracefully, so that it comes back at once with the client certificate that it has by
    /// now, and is verified anew. It loses nothing of its configuration. Gives how many streams that ends.
    pub fn reconnect(&self, proxy: &ProxyName) -> usize {
        self.inner.clients.reconnect(proxy)
    }

    /// The streams that are open, by number, as far as one type goes.
    #[must_use]
    pub fn progress_of(&self, type_url: &TypeUrl) -> Vec<StreamProgress> {
        self.inner.clients.progress_of(type_url)
    }

    /// The streams that are open, by number.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientStatus> {
        self.inner.clients.status()
    }

    /// The streams that are open, each with the epoch up to which it has acknowledged everything. Much cheaper than
    /// [`Server::clients`].
    #[must_use]
    pub fn synced(&self) -> Vec<(Arc<ClientIdentity>, Option<Epoch>)> {
        self.inner.clients.synced()
    }

    /// How many streams of a key are open, and how many of them have acknowledged everything up to an epoch.
    #[must_use]
    pub fn progress(&self, key: &SnapshotKey, epoch: Epoch) -> Progress {
        self.inner.clients.progress(key, epoch)
    }

    /// The versions of a resource that a proxy's streams have acknowledged; `None` for a stream that holds none. Empty
    /// when the proxy has no stream that subscribes to the type.
    #[must_use]
    pub fn acknowledged(&self, proxy: &ProxyName, type_url: &TypeUrl, name: &str) -> Vec<(StreamId, Option<Version>)> {
        self.inner.clients.acknowledged(proxy, type_url, name)
    }
}

impl Inner {
    fn next_stream(&self) -> StreamId {
        StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Server")
            .field("cache", &self.inner.cache)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

/// How far the streams of a key have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// Open streams.
    pub streams: usize,
    /// Those that have acknowledged everything up to the epoch asked about.
    pub synced: usize,
}
