use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::apps::counters::Counters;
use crate::process::eventually;

const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A port of loopback that is free now.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn serving(options: HealthOptions) -> Checks {
    let checks = Checks::new(Counters::default());
    tokio::spawn(listen(options, checks.clone()).await.unwrap());
    checks
}

/// The first line of the answer to a GET.
async fn status_line(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A peer may end TLS without saying so.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_path_is_answered_as_its_check_is() {
    let address = free().await;
    let checks = serving(HealthOptions { http: Some(address), ..HealthOptions::default() }).await;
    let look = async |path| status_line(TcpStream::connect(address).await.unwrap(), path).await;
    assert_eq!(look("/readiness?delay-milliseconds=1").await, "HTTP/1.1 200 OK");
    checks.set("readiness", Health::Failing);
    assert_eq!(look("/readiness").await, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(look("/liveness").await, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn the_same_by_https_with_a_certificate_that_nobody_knows() {
    let address = free().await;
    let checks = serving(HealthOptions { https: Some(address), ..HealthOptions::default() }).await;
    let roots = Arc::new(rustls::RootCertStore::empty());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = async |config: rustls::ClientConfig| {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let refused = connect(config.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let mut lenient = config;
    lenient.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(provider)));
    checks.set("readiness", Health::Failing);
    let answer = status_line(connect(lenient.clone()).await.unwrap(), "/readiness").await;
    assert_eq!(answer, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(status_line(connect(lenient).await.unwrap(), "/liveness").await, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_service_is_serving_as_its_check_passes() {
    let address = free().await;
    let checks = serving(HealthOptions { grpc: Some(address), ..HealthOptions::default() }).await;
    checks.set("readiness", Health::Failing);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    for (service, expected) in [("readiness", grpc::NOT_SERVING), ("liveness", grpc::SERVING)] {
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(grpc::CHECK);
        let codec = tonic_prost::ProstCodec::<grpc::HealthCheckRequest, grpc::HealthCheckResponse>::default();
        let request = tonic::Request::new(grpc::HealthCheckRequest { service: service.to_owned() });
        assert_eq!(client.unary(request, path, codec).await.unwrap().get_ref().status, expected, "{service}");
    }
}

#[tokio::test]
async fn a_port_is_open_while_its_check_passes() {
    let address = free().await;
    let tcp = vec![format!("readiness={address}").parse().unwrap()];
    let checks = serving(HealthOptions { tcp, ..HealthOptions::default() }).await;
    let open = || async { Ok(TcpStream::connect(address).await.map(drop)?) };
    eventually("the port is open", LIMIT, open).await.unwrap();
    checks.set("readiness", Health::Failing);
    eventually("the port is closed", LIMIT, || async {
        match TcpStream::connect(address).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => anyhow::bail!("{other:?}"),
        }
    })
    .await
    .unwrap();
    checks.set("readiness", Health::Passing);
    eventually("the port is open again", LIMIT, open).await.unwrap();
    assert!("readiness".parse::<TcpCheck>().is_err() && "readiness=9000".parse::<TcpCheck>().is_err());
}

/// As a probe has it.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
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
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
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
