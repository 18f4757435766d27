//! One HTTP/2 connection to the server under test.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{Identity, Stream, Variant};

/// Client side of mutual TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Who the client claims to be; `None` to offer no certificate.
    pub identity: Option<Identity>,
    /// PEM of the authority that must have signed the server's certificate.
    pub authority: String,
    /// Name the server's certificate must carry.
    pub server_name: String,
}

/// One HTTP/2 connection on which any number of streams can be opened.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
}

impl Connection {
    /// Connects without TLS.
    ///
    /// # Panics
    ///
    /// When the server does not accept.
    pub async fn plaintext(server: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{server}")).expect("an address makes a URI");
        Self { channel: endpoint.connect().await.expect("connect to the server under test") }
    }

    /// Connects without TLS and with small HTTP/2 windows, so that a client that stops reading makes the server feel
    /// it after `window` bytes.
    ///
    /// # Panics
    ///
    /// When the server does not accept.
    pub async fn with_window(server: SocketAddr, window: u32) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{server}"))
            .expect("an address makes a URI")
            .initial_stream_window_size(window)
            .initial_connection_window_size(window);
        Self { channel: endpoint.connect().await.expect("connect to the server under test") }
    }

    /// Connects with TLS.
    ///
    /// # Errors
    ///
    /// When the handshake fails, as it must for a client the server does not trust. Under TLS 1.3 a refused client
    /// may learn it only with the first stream.
    pub async fn tls(server: SocketAddr, tls: &Tls) -> Result<Self, tonic::transport::Error> {
        let mut config =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authority)).domain_name(&tls.server_name);
        if let Some(identity) = &tls.identity {
            config = config.identity(tonic::transport::Identity::from_pem(&identity.certificate, &identity.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{server}"))?.tls_config(config)?;
        Ok(Self { channel: endpoint.connect().await? })
    }

    /// Opens a stream for `type_url` in the given variant; the node of its first request has the id `node`.
    pub fn open(&self, variant: Variant, type_url: &str, node: &str) -> Stream {
        self.open_with_metadata(variant, type_url, node, &[])
    }

    /// Like [`open`](Self::open), with gRPC metadata such as `authorization`.
    ///
    /// # Panics
    ///
    /// When the metadata is not plain ASCII.
    pub fn open_with_metadata(
        &self,
        variant: Variant,
        type_url: &str,
        node: &str,
        metadata: &[(&'static str, &str)],
    ) -> Stream {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let path = variant.grpc_path(type_url);
        let mut request = tonic::Request::new(tokio_stream::wrappers::UnboundedReceiverStream::new(receiver));
        for (key, value) in metadata {
            request.metadata_mut().insert(*key, value.parse().expect("metadata is plain ASCII"));
        }
        let opening = tokio::spawn(async move {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            Ok(grpc.streaming(request, path, BytesCodec).await?.into_inner())
        });
        Stream::new(variant, type_url, node, sender, opening)
    }
}

/// Leaves messages as bytes, so that tests can count them and send broken ones.
#[derive(Debug, Clone, Copy)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
