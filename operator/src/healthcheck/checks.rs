//! Asking the application. Each gives the status that the kubelet judges by, and words for its event.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a check may take. The kubelet gives up earlier, by the probe's own limit.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// The answer when the application is not healthy, by words of the check.
fn unhealthy(words: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, words.to_string())
}

/// Whether connections are accepted.
pub(super) async fn tcp(target: SocketAddr) -> (StatusCode, String) {
    match TcpStream::connect(target).await {
        Ok(_) => (StatusCode::OK, String::new()),
        Err(error) => (StatusCode::NOT_FOUND, format!("cannot connect to {target}: {error}")),
    }
}

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`
pub(super) const SERVING: i32 = 1;

/// Whether the standard health service says that `service` is serving, over plain HTTP/2 as the kubelet asks.
pub(super) async fn grpc(target: SocketAddr, service: &str) -> (StatusCode, String) {
    let endpoint = match tonic::transport::Endpoint::from_shared(format!("http://{target}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return unhealthy(error),
    };
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => return unhealthy(format!("cannot connect to {target}: {error}")),
    };
    let mut client = tonic::client::Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return unhealthy(format!("{target} takes no request: {error}"));
    }
    let path = axum::http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    match client.unary(request, path, codec).await {
        Ok(answer) if answer.get_ref().status == SERVING => (StatusCode::OK, String::new()),
        Ok(answer) => unhealthy(format!("{target} says status {} of {service:?}", answer.get_ref().status)),
        Err(status) => unhealthy(format!("{target} says {:?} of {service:?}: {}", status.code(), status.message())),
    }
}

/// The status of a page by HTTPS. As for the kubelet, any certificate is good.
pub(super) async fn https(target: SocketAddr, path: &str) -> (StatusCode, String) {
    match page(target, path).await {
        Ok(status) => (status, format!("{target} answers {status}")),
        Err(error) => unhealthy(format!("{target}: {error:#}")),
    }
}

async fn page(target: SocketAddr, path: &str) -> anyhow::Result<StatusCode> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::new(aws_lc_rs::default_provider()))))
        .with_no_client_auth();
    let stream = TcpStream::connect(target).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(target.ip()), stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", target.to_string())
        .header("user-agent", "osm-healthcheck")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await;
    // Its body is of no interest.
    connection.abort();
    Ok(answer?.status())
}

/// Accepts every certificate: a probe asks whether the application answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
