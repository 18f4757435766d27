//! Collectors of traces: one that speaks OTLP over gRPC, and some that only look like one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use osm_xds_test_support::Identity;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// A span as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) trace: Vec<u8>,
    pub(crate) id: Vec<u8>,
    pub(crate) parent: Vec<u8>,
    pub(crate) name: String,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) scope: String,
    /// `service.name` and `service.version` of the resource.
    pub(crate) service: String,
    pub(crate) version: String,
    attributes: Vec<KeyValue>,
}

impl Received {
    /// An attribute that is a number.
    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        match value(&self.attributes, key)? {
            Value::IntValue(number) => Some(number),
            _ => None,
        }
    }

    /// An attribute that is a text; empty if there is none.
    pub(crate) fn text(&self, key: &str) -> String {
        text(&self.attributes, key)
    }
}

fn value(attributes: &[KeyValue], key: &str) -> Option<Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    match value(attributes, key) {
        Some(Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

/// As spans have it.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// What a collector answers.
#[derive(Debug, Clone)]
pub(crate) enum Answers {
    Takes,
    Refuses(Status),
}

#[derive(Debug)]
struct State {
    answers: Answers,
    requests: usize,
    spans: Vec<Received>,
}

/// A collector that keeps what it is sent.
#[derive(Debug)]
pub(crate) struct Collector {
    state: Arc<Mutex<State>>,
    url: String,
    server: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    /// Listens on loopback; with TLS as `identity` if there is one.
    pub(crate) async fn start(answers: Answers, identity: Option<&Identity>) -> Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let scheme = if identity.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State { answers, requests: 0, spans: Vec::new() }));
        let mut server = Server::builder();
        if let Some(identity) = identity {
            let identity = tonic::transport::Identity::from_pem(&identity.certificate, &identity.key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let router = server.add_service(TraceServiceServer::new(Service(Arc::clone(&state))));
        let server = tokio::spawn(async move {
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Ok(Self { state, url, server })
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn spans(&self) -> Vec<Received> {
        self.state.lock().unwrap().spans.clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    pub(crate) fn answer(&self, answers: Answers) {
        self.state.lock().unwrap().answers = answers;
    }
}

struct Service(Arc<Mutex<State>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.requests += 1;
        if let Answers::Refuses(status) = &state.answers {
            return Err(status.clone());
        }
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default().attributes;
            for of_scope in of_resource.scope_spans {
                let scope = of_scope.scope.unwrap_or_default().name;
                state.spans.extend(of_scope.spans.into_iter().map(|span| Received {
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                    name: span.name,
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    scope: scope.clone(),
                    service: text(&resource, "service.name"),
                    version: text(&resource, "service.version"),
                    attributes: span.attributes,
                }));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// What accepts connections and says nothing on them.
#[derive(Debug)]
pub(crate) struct Deaf {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Deaf {
    /// Closes every connection at once.
    pub(crate) async fn closing() -> Result<Self> {
        Self::start(false).await
    }

    /// Keeps every connection open.
    pub(crate) async fn silent() -> Result<Self> {
        Self::start(true).await
    }

    async fn start(keep: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let listening = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                if keep {
                    kept.push(connection);
                }
            }
        });
        Ok(Self { address, connections, listening })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
