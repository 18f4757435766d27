//! The sockets of a fleet: HTTP/2 connections, and one delta ADS stream a proxy.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};

use super::wire::PREFIX;

/// Flow-control window of a stream and of a connection, large enough that a first answer never waits for it.
const WINDOW: u32 = 4 << 20;

/// Whether a connection's socket is being read.
#[derive(Debug, Default)]
pub(super) struct Stall {
    stalled: AtomicBool,
    resumed: tokio::sync::Notify,
}

impl Stall {
    pub(super) fn stop(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    pub(super) fn resume(&self) {
        self.stalled.store(false, Ordering::Relaxed);
        self.resumed.notify_one();
    }
}

/// Opens one HTTP/2 connection; the future drives it until it ends and stands still while `stall` says so.
pub(super) async fn connect(
    address: SocketAddr,
    stall: Arc<Stall>,
) -> anyhow::Result<(SendRequest<Bytes>, impl Future<Output = Result<(), h2::Error>> + Send)> {
    let socket = tokio::net::TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    socket.set_nodelay(true)?;
    let (requests, mut connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .enable_push(false)
        .handshake(socket)
        .await
        .context("HTTP/2 handshake")?;
    let driver = async move {
        loop {
            let resumed = stall.resumed.notified();
            tokio::pin!(resumed);
            let ended = poll_fn(|context| {
                if stall.stalled.load(Ordering::Relaxed) {
                    return resumed.as_mut().poll(context).map(|()| None);
                }
                Pin::new(&mut connection).poll(context).map(Some)
            });
            if let Some(result) = ended.await {
                return result;
            }
        }
    };
    Ok((requests, driver))
}

/// One open delta ADS stream.
pub(super) struct AdsStream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    buffer: BytesMut,
}

impl AdsStream {
    /// Opens the stream and sends the first requests with it.
    pub(super) async fn open(requests: SendRequest<Bytes>, first: Vec<Bytes>) -> anyhow::Result<Self> {
        let mut requests = requests.ready().await.context("connection not ready for a stream")?;
        let head = http::Request::post(
            "http://bench/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        )
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
        let (response, mut send) = requests.send_request(head, false).context("open the stream")?;
        for request in first {
            send.send_data(request, false).context("send the first request")?;
        }
        let response = response.await.context("no response headers")?;
        if response.status() != http::StatusCode::OK {
            bail!("the stream was refused: HTTP {}", response.status());
        }
        if let Some(status) = response.headers().get("grpc-status") {
            bail!("the stream was refused: grpc-status {status:?} {:?}", response.headers().get("grpc-message"));
        }
        Ok(Self { send, receive: response.into_body(), buffer: BytesMut::new() })
    }

    pub(super) fn send(&mut self, request: Bytes) -> anyhow::Result<()> {
        self.send.send_data(request, false).context("send a request")
    }

    /// A whole message already received, without waiting.
    fn buffered(&mut self) -> anyhow::Result<Option<Bytes>> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        if flag != 0 {
            bail!("a compressed message, which was not asked for");
        }
        let length = u32::from_be_bytes(length) as usize;
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// The next response message.
    ///
    /// # Errors
    /// When the stream ends, for whatever reason: the server has none to end it.
    pub(super) async fn message(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            let Some(data) = self.receive.data().await else {
                let trailers = self.receive.trailers().await.context("read trailers")?.unwrap_or_default();
                bail!(
                    "the server ended the stream: grpc-status {:?} {:?}",
                    trailers.get("grpc-status"),
                    trailers.get("grpc-message")
                );
            };
            let data = data.context("receive")?;
            self.receive.flow_control().release_capacity(data.len()).context("release window")?;
            self.buffer.extend_from_slice(&data);
        }
    }
}
