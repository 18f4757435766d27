//! The floor: the least that a delta ADS server on tonic can do for the same traffic, the denominator of the ratios.
//!
//! It encodes a change once, hands the same bytes to every stream and ignores what proxies say: no subscriptions, no
//! versions per proxy, no NACK handling, clusters only. It is no xDS server; it only shows what the transport costs.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use futures::{FutureExt, Stream, StreamExt, stream};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status, Streaming};

use crate::control::{Command, ResourceKind, Steered, serve_commands};
use crate::world::{self, CLUSTER_TYPE, Revision};

/// Messages go out as they are and come in unread.
#[derive(Clone, Copy, Default)]
struct SharedBytes;

impl Codec for SharedBytes {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for SharedBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for SharedBytes {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}

/// Clusters in one message of the first answer.
const CLUSTERS_PER_MESSAGE: usize = 50;

struct Shared {
    /// Every message of a first answer, as the mesh was when its services were loaded.
    first: Mutex<Vec<Bytes>>,
    changes: broadcast::Sender<Bytes>,
}

/// One stream's responses: the first answer, then every change.
type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

#[derive(Clone)]
struct Floor(Arc<Shared>);

impl tonic::server::StreamingService<()> for Floor {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = std::future::Ready<Result<Response<Responses>, Status>>;

    fn call(&mut self, request: Request<Streaming<()>>) -> Self::Future {
        // Subscribed before the first answer is taken, so that no change falls between.
        let changes = BroadcastStream::new(self.0.changes.subscribe());
        let first = stream::iter(self.0.first.lock().clone().into_iter().map(Ok));
        let changes = changes.map(|change| change.map_err(|error| Status::resource_exhausted(error.to_string())));
        let acknowledgements = request.into_inner().filter_map(async |request| request.err().map(Err)).boxed();
        std::future::ready(Ok(Response::new(Box::pin(first.chain(stream::select(changes, acknowledgements))))))
    }
}

impl tonic::server::NamedService for Floor {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower_service::Service<http::Request<tonic::body::Body>> for Floor {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        async move { Ok(tonic::server::Grpc::new(SharedBytes).streaming(service, request).await) }.boxed()
    }
}

/// The side of the floor server that takes commands.
struct Publisher {
    shared: Arc<Shared>,
    revisions: Vec<Revision>,
    /// Makes each message's nonce unique.
    messages: u64,
}

impl Publisher {
    fn message(&mut self, services: std::ops::Range<usize>) -> Bytes {
        self.messages += 1;
        let resources = services.map(|index| {
            let revision = self.revisions[index];
            let index = u32::try_from(index).expect("services are numbered by 32 bits");
            let value = world::cluster(index, revision).encode_to_vec();
            Resource {
                name: world::service_name(index),
                version: format!("{revision}"),
                resource: Some(Any { type_url: CLUSTER_TYPE.to_owned(), value }),
                ..Default::default()
            }
        });
        let response = DeltaDiscoveryResponse {
            resources: resources.collect(),
            type_url: CLUSTER_TYPE.to_owned(),
            nonce: self.messages.to_string(),
            ..Default::default()
        };
        response.encode_to_vec().into()
    }
}

impl Steered for Publisher {
    fn carry_out(&mut self, command: &Command) -> Result<Option<serde_json::Value>, String> {
        match command {
            Command::Services(count) => {
                self.revisions.resize(*count as usize, 0);
                let starts = (0..self.revisions.len()).step_by(CLUSTERS_PER_MESSAGE);
                let end = self.revisions.len();
                let first = starts.map(|start| self.message(start..end.min(start + CLUSTERS_PER_MESSAGE))).collect();
                *self.shared.first.lock() = first;
                Ok(None)
            }
            Command::Change { kind: ResourceKind::Cluster, first, count, revision } => {
                let services = *first as usize..(first + count) as usize;
                if services.end > self.revisions.len() {
                    return Err(format!("{command}: only {} services are loaded", self.revisions.len()));
                }
                self.revisions[services.clone()].fill(*revision);
                let message = self.message(services);
                // No stream is no error: nobody is connected yet.
                let _streams = self.shared.changes.send(message);
                Ok(None)
            }
            Command::Change { kind: ResourceKind::Endpoints, .. } | Command::Rebuild | Command::Counters => {
                Err(format!("{command}: the floor server serves clusters only"))
            }
        }
    }
}

/// Runs the floor server until standard input ends.
///
/// # Errors
/// When it cannot listen, or standard input or output fails.
pub fn run(runtime: &tokio::runtime::Runtime, address: SocketAddr) -> anyhow::Result<()> {
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared { first: Mutex::default(), changes: broadcast::channel(256).0 });
    let mut server = tonic::transport::Server::builder().max_concurrent_streams(100_000);
    let incoming = TcpListenerStream::new(listener).inspect(|connection| {
        if let Ok(connection) = connection {
            // Only latency suffers when this fails, and the run shows it.
            let _result = connection.set_nodelay(true);
        }
    });
    runtime.spawn(server.add_service(Floor(shared.clone())).serve_with_incoming(incoming));
    serve_commands(address, &mut Publisher { shared, revisions: Vec::new(), messages: 0 })?;
    Ok(())
}
