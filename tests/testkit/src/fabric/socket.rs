//! Sockets of the runner in a pod's network namespace. A socket stays in the namespace it was made in, whoever uses it.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Connects from within the namespace.
pub(super) async fn connect(
    namespace: PathBuf,
    address: SocketAddr,
    limit: Duration,
) -> io::Result<tokio::net::TcpStream> {
    let stream = within(namespace, move || TcpStream::connect_timeout(&address, limit)).await?;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}

/// Listens within the namespace.
pub(super) async fn listen(namespace: PathBuf, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = within(namespace, move || TcpListener::bind(address)).await?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Runs `make` on a thread of its own that is in the namespace, and ends the thread: threads of a pool must not change theirs.
async fn within<T: Send + 'static>(
    namespace: PathBuf,
    make: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("in-pod".to_owned()).spawn(move || {
        let made = File::open(&namespace).and_then(|file| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            make()
        });
        // Nobody listens when the caller gave up.
        let _ = sender.send(made);
    })?;
    receiver.await.map_err(|_| io::Error::other("the thread in the pod's network namespace ended early"))?
}

/// One HTTP/1.1 request over a connection made in the namespace.
pub(super) async fn request(
    namespace: PathBuf,
    address: SocketAddr,
    method: &str,
    path: &str,
    limit: Duration,
) -> Result<(u16, String)> {
    use http_body_util::{BodyExt as _, Empty};
    let exchange = async {
        let stream = connect(namespace, address, limit).await?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", address.to_string())
            .body(Empty::<bytes::Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let answered = tokio::time::timeout(limit, exchange).await;
    let answered = answered.with_context(|| format!("{method} {path} on {address}: no answer within {limit:?}"))?;
    answered.with_context(|| format!("{method} {path} on {address}"))
}
