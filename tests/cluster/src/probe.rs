//! Asks an API server a question over HTTPS, without a client library.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::certificates::Pair;

/// For one answer. An API server that starts accepts connections before it answers on them.
const LIMIT: Duration = Duration::from_secs(5);

/// What to ask, and as whom.
#[derive(Clone)]
pub(crate) struct Probe {
    address: SocketAddr,
    configuration: Arc<ClientConfig>,
}

impl Probe {
    pub(crate) fn new(address: SocketAddr, authority: &str, client: &Pair) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
        let configuration = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(client.certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(client.key.as_bytes())?,
            )?;
        Ok(Self { address, configuration: Arc::new(configuration) })
    }

    /// The body of the answer to `GET path`. Blocks, for some seconds at most.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let mut connection = ClientConnection::new(Arc::clone(&self.configuration), name)?;
        connection.complete_io(&mut stream)?;
        let mut stream = StreamOwned::new(connection, stream);
        // HTTP/1.0, so that the answer ends where the connection does.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: */*\r\n\r\n", self.address)?;
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            // Go closes without TLS's goodbye at times.
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error.into()),
            _ => {}
        }
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "GET {path}: {status}: {}", body.trim());
        Ok(body.to_owned())
    }
}
