//! One attempt to reach something, by whichever protocol.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

use super::report::{Answer, AttemptFailure, FailureKind, Recorder, Report};
use super::{grpc, tcp, websocket};

/// What to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An HTTP request.
    Http {
        /// Such as GET.
        method: String,
        /// Such as `http://bookstore.bookstore:14001/books-bought`.
        url: String,
        /// Headers; `host` replaces the URL's.
        headers: BTreeMap<String, String>,
        /// The body.
        body: String,
        /// HTTP/2 with prior knowledge instead of HTTP/1.1.
        http2: bool,
    },
    /// A call of the echo service.
    Grpc {
        /// Such as `http://echo.grpc:9000`.
        url: String,
        /// Which call.
        mode: GrpcMode,
    },
    /// A WebSocket that expects every message back.
    WebSocket {
        /// Such as `ws://echo.web:8080/socket`.
        url: String,
        /// How many messages.
        messages: u32,
    },
    /// A TCP connection.
    Tcp {
        /// Name or address and port.
        address: String,
        /// The peer speaks first: wait for its line before sending.
        greeting: bool,
        /// The line to send.
        send: String,
    },
}

impl Target {
    /// A GET without headers.
    pub fn get(url: impl Into<String>) -> Self {
        Self::Http {
            method: "GET".to_owned(),
            url: url.into(),
            headers: BTreeMap::new(),
            body: String::new(),
            http2: false,
        }
    }
}

/// Which call of the echo service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrpcMode {
    /// One message, one answer.
    Unary,
    /// So many messages on one stream, each answered before the next is sent.
    Streaming {
        /// How many.
        messages: u32,
    },
}

/// Whether attempts share connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionUse {
    /// A connection per attempt, so that each sees what a new client would.
    #[default]
    New,
    /// HTTP attempts reuse idle connections, as most clients do. The other protocols always open new ones.
    Reuse,
}

/// A series of attempts, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryRequest {
    /// What to reach.
    pub target: Target,
    /// How often.
    pub count: u32,
    /// Time limit of each attempt, in milliseconds.
    pub timeout_milliseconds: u64,
    /// Whether attempts share connections.
    #[serde(default)]
    pub connections: ConnectionUse,
}

impl TryRequest {
    /// `count` attempts on new connections, with 5 seconds each.
    pub fn new(target: Target, count: u32) -> Self {
        Self { target, count, timeout_milliseconds: 5000, connections: ConnectionUse::New }
    }
}

/// Makes attempts with an application's usual headers.
#[derive(Debug, Clone)]
pub(crate) struct Attempter {
    headers: BTreeMap<String, String>,
    http1: Client<HttpConnector, Full<Bytes>>,
    http2: Client<HttpConnector, Full<Bytes>>,
}

const BODY_LIMIT: usize = 1 << 20;
const BODY_SHOWN: usize = 4096;

impl Attempter {
    pub(crate) fn new(headers: BTreeMap<String, String>, connections: ConnectionUse) -> Self {
        let client = |http2: bool| {
            let mut builder = Client::builder(TokioExecutor::new());
            // A kept connection may close before anything was sent on it; every client opens another then. On a new one it is a failure.
            builder.http2_only(http2).retry_canceled_requests(connections == ConnectionUse::Reuse);
            if connections == ConnectionUse::New {
                builder.pool_max_idle_per_host(0);
            }
            builder.build(HttpConnector::new())
        };
        Self { headers, http1: client(false), http2: client(true) }
    }

    /// A series, one after the other.
    pub(crate) async fn series(&self, request: &TryRequest) -> Report {
        let mut recorder = Recorder::default();
        let limit = Duration::from_millis(request.timeout_milliseconds);
        for _ in 0..request.count {
            let started = Instant::now();
            // A pooled HTTP/2 connection would be kept whatever the pool's size, so "new" means a new client.
            let outcome = match request.connections {
                ConnectionUse::New => {
                    Self::new(self.headers.clone(), ConnectionUse::New).once(&request.target, limit).await
                }
                ConnectionUse::Reuse => self.once(&request.target, limit).await,
            };
            recorder.record(&outcome, started.elapsed());
        }
        recorder.report()
    }

    /// One attempt.
    pub(crate) async fn once(&self, target: &Target, limit: Duration) -> Result<Answer, AttemptFailure> {
        let attempt = async {
            match target {
                Target::Http { method, url, headers, body, http2 } => {
                    self.http(method, url, headers, body, *http2).await
                }
                Target::Grpc { url, mode } => grpc::call(url, *mode).await,
                Target::WebSocket { url, messages } => websocket::exchange(url, *messages).await,
                Target::Tcp { address, greeting, send } => tcp::exchange(address, *greeting, send).await,
            }
        };
        tokio::time::timeout(limit, attempt)
            .await
            .unwrap_or_else(|_| Err(AttemptFailure::new(FailureKind::Timeout, format!("no answer within {limit:?}"))))
    }

    async fn http(
        &self,
        method: &str,
        url: &str,
        headers: &BTreeMap<String, String>,
        body: &str,
        http2: bool,
    ) -> Result<Answer, AttemptFailure> {
        let request = self.request(method, url, headers, body).map_err(|message| {
            AttemptFailure::new(FailureKind::Protocol, format!("{method} {url} cannot be sent: {message}"))
        })?;
        let client = if http2 { &self.http2 } else { &self.http1 };
        let response = client.request(request).await.map_err(|error| {
            let mut failure = AttemptFailure::from_error(&error);
            if failure.kind == FailureKind::Other && failure.message.contains("dns error") {
                failure.kind = FailureKind::Resolve;
            }
            failure
        })?;
        let status = response.status().as_u16();
        let identity = response.headers().get("identity").and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let bytes = body.map_err(|error| AttemptFailure::from_error(error.as_ref()))?.to_bytes();
        let body = String::from_utf8_lossy(&bytes[..bytes.len().min(BODY_SHOWN)]).into_owned();
        Ok(Answer { status, identity, body })
    }

    fn request(
        &self,
        method: &str,
        url: &str,
        headers: &BTreeMap<String, String>,
        body: &str,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *request.method_mut() = method.parse::<Method>().map_err(|error| error.to_string())?;
        *request.uri_mut() = url.parse::<Uri>().map_err(|error| error.to_string())?;
        for (name, value) in self.headers.iter().chain(headers) {
            let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header name"))?;
            let value: HeaderValue = value.parse().map_err(|_| format!("{value:?} is no header value"))?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}
