//! HTTP on both sides of an Envoy: an upstream, single requests, and steady load.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, Response, StatusCode, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use crate::DEADLINE;

/// An answer, or why there is none.
pub type Answer = Result<(StatusCode, String), String>;

/// Starts an HTTP/1.1 server on loopback that answers everything with 200 and `body`. It ends with the runtime of the
/// test.
///
/// # Panics
///
/// When it cannot listen.
pub async fn upstream(body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on loopback");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let service = service_fn(move |_| async move {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(body.as_bytes()))))
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service),
            );
        }
    });
    address
}

/// One HTTP/1.1 request on a connection of its own.
///
/// # Errors
///
/// When the connection or the exchange fails, or takes longer than [`DEADLINE`].
pub async fn http_get(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let exchange = async {
        let connection = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
        http_get_on(connection, path, headers).await
    };
    timeout(DEADLINE, exchange).await.map_err(|_| format!("no answer from {server} within {DEADLINE:?}"))?
}

/// One HTTP/1.1 request on a given connection.
///
/// # Errors
///
/// When the exchange fails.
///
/// # Panics
///
/// When path or headers cannot be part of a request.
pub async fn http_get_on(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(path).header("host", "test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).expect("path and headers are plain");
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    drop(sender);
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Requests one after the other until it is stopped.
#[derive(Debug)]
pub struct Load {
    stopping: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    /// Starts to call `request` again and again; everything but a 200 is a failure.
    pub fn start<F>(request: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send,
    {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let task = tokio::spawn(async move {
            let mut requests = 0;
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                requests += 1;
                match request().await {
                    Ok((StatusCode::OK, _)) => {}
                    other => failures.push(format!("request {requests}: {other:?}")),
                }
            }
            (requests, failures)
        });
        Self { stopping, task }
    }

    /// Stops, and says how many requests were made and which failed.
    ///
    /// # Panics
    ///
    /// When the load itself panicked.
    pub async fn stop(self) -> (usize, Vec<String>) {
        self.stopping.store(true, Ordering::Relaxed);
        self.task.await.expect("the load does not panic")
    }
}
