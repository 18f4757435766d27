//! An HTTP client that can say who it wants to be.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How to reach a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    address: SocketAddr,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn http1(address: SocketAddr) -> Self {
        Self { address, version: Version::Http1 }
    }

    /// HTTP/2 without asking first.
    pub(crate) fn http2(address: SocketAddr) -> Self {
        Self { address, version: Version::Http2 }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("an answer")
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<Answer> {
        self.try_send("GET", path, &[]).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_send(method, path, headers).await.expect("an answer")
    }

    /// Sends a request on a connection of its own; `None` when that breaks.
    pub(crate) async fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        let stream = TcpStream::connect(self.address).await.ok()?;
        exchange(stream, self.version, method, path, headers).await
    }
}

/// Sends one HTTP/1.1 request over `stream`; `None` when that breaks.
pub(crate) async fn http1_over<S>(stream: S, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Answer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    exchange(stream, Version::Http1, method, path, headers).await
}

async fn exchange<S>(stream: S, version: Version, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Answer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let host = headers.iter().find(|(name, _)| *name == "host").map_or("anything.example", |(_, value)| value);
    let mut request = Request::builder().method(method);
    request = match version {
        Version::Http1 => request.uri(path).header("host", host),
        Version::Http2 => request.uri(format!("http://{host}{path}")),
    };
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let response = tokio::time::timeout(crate::envoy::LIMIT, answered(stream, version, request)).await;
    let response = response.expect("no hang")?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    Some(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

async fn answered<S>(stream: S, version: Version, request: Request<Full<Bytes>>) -> Option<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = TokioIo::new(stream);
    match version {
        Version::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.ok()?;
            tokio::spawn(connection);
            sender.send_request(request).await.ok()
        }
        Version::Http2 => {
            let executor = TokioExecutor::new();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.ok()?;
            tokio::spawn(connection);
            sender.send_request(request).await.ok()
        }
    }
}
