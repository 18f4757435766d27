//! Applications: an HTTP server that tells what it saw, a TCP server that speaks first.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the TCP server says before it is spoken to.
pub(crate) const GREETING: &str = "hello, who is there?\n";

/// A server that ends with this value.
#[derive(Debug)]
pub(crate) struct Application(JoinHandle<()>);

impl Drop for Application {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Application {
    /// Answers any request, HTTP/1.1 or HTTP/2, with one line per thing it saw: `name`, the version, the request line's
    /// parts and the headers. A request to upgrade to a WebSocket is accepted and what follows is echoed.
    pub(crate) async fn http(name: &'static str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper::service::service_fn(move |request| answer(name, request));
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A connection that breaks is the other side's business.
                    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        }))
    }

    /// Sends [`GREETING`] at once, then echoes.
    pub(crate) async fn greeting_tcp(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.write_all(GREETING.as_bytes()).await?;
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        }))
    }
}

async fn answer(name: &str, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().contains_key("upgrade") {
        tokio::spawn(echo(request));
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let response = response.header("connection", "upgrade").header("upgrade", "websocket");
        return Ok(response.body(Full::default()).unwrap());
    }
    let mut seen = format!(
        "name {name}\nversion {:?}\nmethod {}\npath {}\n",
        request.version(),
        request.method(),
        request.uri().path()
    );
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = request.headers().get("host").map(|value| value.to_str().unwrap());
    seen.push_str(&format!("host {}\n", host.or(authority).unwrap_or_default()));
    for (header, value) in request.headers() {
        seen.push_str(&format!("header {header}: {}\n", value.to_str().unwrap_or("?")));
    }
    Ok(Response::new(Full::new(seen.into())))
}

async fn echo(request: Request<Incoming>) {
    let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
    let mut stream = TokioIo::new(upgraded);
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
