//! What an embedder decides and is told: who a client is, what unknown names mean, what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node as NodeMessage;
use futures::future::BoxFuture;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;

use crate::cache::{Epoch, SnapshotKey};
use crate::resource::Resource;
use crate::type_url::TypeUrl;
use crate::version::Version;

/// The hooks of the server. All but [`Policy::authenticate`] are called on the path of a stream: they must not block.
pub trait Policy: Send + Sync + 'static {
    /// Decides who the client of a new stream is. The node is a claim: bind it to what the peer proves, else one
    /// proxy can fetch another's secrets.
    fn authenticate<'a>(&'a self, peer: &'a Peer, node: &'a Node) -> BoxFuture<'a, Result<Admission, Refusal>>;

    /// Says what to answer a subscription to a name that the snapshot does not hold. The answer is remembered: asked
    /// again when the name is subscribed to again, when its resource goes away, and, of names answered by a resource in
    /// its stead, when the stream has something to do. Equal answers cost nothing. When the snapshot holds the name, its
    /// resource is sent at once. The default is [`UnknownName::Removed`].
    fn unknown_name(&self, admission: &Admission, type_url: &TypeUrl, name: &str) -> UnknownName {
        let _ = (admission, type_url, name);
        UnknownName::Removed
    }

    /// Is told what happened on a stream.
    fn observe(&self, client: &ClientIdentity, event: Event) {
        let _ = (client, event);
    }
}

/// What is known of the other end of a connection.
pub struct Peer {
    /// The certificates it presented and the TLS configuration verified, leaf first. Empty without TLS or without a
    /// client certificate.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Headers of the stream's request.
    pub headers: HeaderMap,
    /// Where the connection comes from; `None` for connections that have no address.
    pub address: Option<SocketAddr>,
}

impl Peer {
    /// The token of an `authorization: Bearer` header.
    #[must_use]
    pub fn bearer_token(&self) -> Option<&str> {
        let value = self.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Header values may be credentials.
        formatter
            .debug_struct("Peer")
            .field("certificates", &self.certificates.len())
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What a client says of itself in the first request of a stream (`envoy.config.core.v3.Node`).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `id`, never empty.
    pub id: Arc<str>,
    /// `cluster`, often the service the proxy belongs to.
    pub cluster: Arc<str>,
    /// The whole message without its list of extensions, which is long and of no use here.
    pub message: NodeMessage,
}

impl Node {
    /// Reads the message; `None` when the id is empty.
    #[must_use]
    pub fn parse(mut message: NodeMessage) -> Option<Self> {
        message.extensions = Vec::new();
        (!message.id.is_empty()).then(|| Self {
            id: Arc::from(message.id.as_str()),
            cluster: Arc::from(message.cluster.as_str()),
            message,
        })
    }
}

/// The name under which an embedder knows a proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyName(Arc<str>);

impl ProxyName {
    /// A proxy of this name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProxyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A client is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Which snapshot it is served.
    pub key: SnapshotKey,
    /// Which proxy it is.
    pub proxy: ProxyName,
}

/// A client is turned away; the stream ends with the status given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It did not prove who it is (`UNAUTHENTICATED`).
    #[error("{0}")]
    Unauthenticated(String),
    /// It proved who it is and may not have what it asks for (`PERMISSION_DENIED`).
    #[error("{0}")]
    PermissionDenied(String),
    /// Its request makes no sense (`INVALID_ARGUMENT`).
    #[error("{0}")]
    InvalidArgument(String),
    /// It should try again later (`UNAVAILABLE`).
    #[error("{0}")]
    Unavailable(String),
}

/// What to answer a subscription to a name the snapshot does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownName {
    /// Nothing, until it appears.
    Hold,
    /// That it does not exist. State-of-the-world clients cannot be told and get nothing.
    Removed,
    /// This in its stead, until it appears.
    Resource(Arc<Resource>),
}

/// Number of a stream, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Which form of the protocol a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// `DiscoveryRequest` and `DiscoveryResponse`: lists of names, and complete states for some types.
    StateOfTheWorld,
    /// `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`: only what changes.
    Delta,
}

/// Which service a stream was opened on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// `AggregatedDiscoveryService`: all types on one stream, in make-before-break order.
    Aggregated,
    /// The service of one type.
    Single(TypeUrl),
}

/// Which stream an event or a dump is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The stream.
    pub stream: StreamId,
    /// Who it is and what it is served.
    pub admission: Admission,
    /// The node id it gave.
    pub node: Arc<str>,
    /// The service it called.
    pub service: Service,
    /// The form of the protocol it speaks.
    pub variant: Variant,
}

/// Something that happened on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client was let in.
    Connected,
    /// The stream ended.
    Disconnected(CloseReason),
    /// A response was handed to the transport.
    Sent {
        /// Its type.
        type_url: TypeUrl,
        /// How many resources it holds.
        resources: usize,
        /// How many removals it holds.
        removed: usize,
        /// Its size on the wire, in bytes, without transport framing.
        bytes: usize,
    },
    /// The client acknowledged everything that was sent for a type from the snapshot of this epoch.
    Acknowledged {
        /// The type.
        type_url: TypeUrl,
        /// The epoch of the snapshot the responses were made from.
        epoch: Epoch,
    },
    /// The client refused a response.
    Rejected(Rejection),
    /// The client has acknowledged everything of the snapshot of this epoch, removals included. A publication that
    /// does not affect a stream advances its epoch silently (see the server's client dump).
    Synced {
        /// The epoch.
        epoch: Epoch,
    },
    /// A step of make-before-break has waited longer than the limit. Raised once, until it moves again.
    Stalled {
        /// The type whose update waits.
        waiting: TypeUrl,
        /// The type whose acknowledgement it waits for.
        waits_for: TypeUrl,
        /// For how long so far.
        waited: Duration,
    },
}

/// A response that a client refused (NACK).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The type of the response.
    pub type_url: TypeUrl,
    /// The epoch of the snapshot it was made from.
    pub epoch: Epoch,
    /// The resources that changed with it, by name. In a state-of-the-world response of complete state those that
    /// differ from what was acknowledged before.
    pub resources: BTreeMap<Arc<str>, Version>,
    /// The names it removed.
    pub removed: Vec<Arc<str>>,
    /// Those of the names above that the client's text mentions.
    pub mentioned: Vec<Arc<str>>,
    /// The client's own words.
    pub message: String,
    /// The gRPC status code it gave.
    pub code: i32,
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client ended it, or its connection broke.
    Client,
    /// The client broke the protocol; the text says how.
    Protocol(String),
    /// The client did not acknowledge a response of this type within the limit.
    NotAcknowledged(TypeUrl),
    /// The client stopped reading for longer than the limit.
    NotReading,
    /// The snapshot of its key was withdrawn.
    Withdrawn,
    /// The connection reached its maximum age.
    Age,
    /// The embedder wants the proxy to come back with its current certificate.
    Reconnect,
    /// The server is shutting down.
    Shutdown,
    /// The embedder has it closed: the proxy is not to be served any more.
    Dismissed,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => formatter.write_str("the client ended the stream"),
            Self::Protocol(text) => write!(formatter, "the client broke the protocol: {text}"),
            Self::NotAcknowledged(type_url) => {
                write!(formatter, "the client did not acknowledge a {} response in time", type_url.short_name())
            }
            Self::NotReading => formatter.write_str("the client stopped reading"),
            Self::Withdrawn => formatter.write_str("the snapshot of its key was withdrawn"),
            Self::Age => formatter.write_str("the connection reached its maximum age"),
            Self::Reconnect => formatter.write_str("the proxy is to connect again with its current certificate"),
            Self::Shutdown => formatter.write_str("the server is shutting down"),
            Self::Dismissed => formatter.write_str("the proxy is not served any more"),
        }
    }
}
