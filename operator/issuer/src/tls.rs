//! TLS configurations made from leaves and trust bundles, with the crypto provider named explicitly.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::PrivateKeyDer;

use crate::bundle::TrustBundle;
use crate::leaf::LeafCertificate;

/// Application protocol of gRPC.
const ALPN_HTTP2: &[u8] = b"h2";

/// The one crypto provider; no process-wide default is needed or installed.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    &PROVIDER
}

/// Why a TLS configuration could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("make a TLS configuration for {identity}: {message}")]
pub struct TlsError {
    /// URI of the identity that the configuration is for.
    pub identity: String,
    /// The TLS library's words.
    pub message: String,
}

/// What a server does with a client that shows no certificate. One that is shown is always verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// The handshake fails without one.
    Required,
    /// A client may come without one, and prove who it is by other means (a bearer token).
    Optional,
    /// No client is asked for one.
    NotAsked,
}

/// A server that shows `leaf` and verifies clients against `bundle`. HTTP/2, TLS 1.2 or later, no session resumption, so
/// that every connection is verified anew after a change of `bundle`.
///
/// # Errors
/// [`TlsError`] when the TLS library refuses the key.
pub fn server_config(
    leaf: &LeafCertificate,
    bundle: &TrustBundle,
    clients: ClientCertificates,
) -> Result<ServerConfig, TlsError> {
    let failed = failure(leaf);
    let verifier = || WebPkiClientVerifier::builder_with_provider(bundle.root_store(), provider().clone());
    let verifier = match clients {
        ClientCertificates::Required => verifier().build(),
        ClientCertificates::Optional => verifier().allow_unauthenticated().build(),
        ClientCertificates::NotAsked => Ok(WebPkiClientVerifier::no_client_auth()),
    };
    let verifier = verifier.map_err(|error| failed(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(leaf), private_key(leaf)?)
        .map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client that shows `leaf` and verifies the server's chain against `bundle` and its name against the name it dials
/// (for the control plane [`ControlPlaneIdentity::ads_dns_name`](crate::ControlPlaneIdentity::ads_dns_name)). HTTP/2, TLS
/// 1.2 or later.
///
/// # Errors
/// [`TlsError`] when the TLS library refuses the key.
pub fn client_config(leaf: &LeafCertificate, bundle: &TrustBundle) -> Result<ClientConfig, TlsError> {
    let failed = failure(leaf);
    let mut config = ClientConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(bundle.root_store())
        .with_client_auth_cert(chain(leaf), private_key(leaf)?)
        .map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok(config)
}

/// A client without a certificate, for the stream on which a proxy asks for one by bearer token; verifies the server's
/// chain and name as [`client_config`] does.
///
/// # Errors
/// [`TlsError`] when the TLS library refuses its own defaults.
pub fn anonymous_client_config(bundle: &TrustBundle) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError { identity: "a client without certificate".to_owned(), message: error.to_string() })?
        .with_root_certificates(bundle.root_store())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok(config)
}

fn chain(leaf: &LeafCertificate) -> Vec<rustls_pki_types::CertificateDer<'static>> {
    leaf.material().certificate_chain().to_vec()
}

fn private_key(leaf: &LeafCertificate) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = leaf.material().expose_private_key_pem();
    // The parser's error may quote the text, and the text is a key.
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| failure(leaf)("the private key is malformed".to_owned()))
}

fn failure(leaf: &LeafCertificate) -> impl Fn(String) -> TlsError + use<> {
    let identity = leaf.identity().uri();
    move |message| TlsError { identity: identity.clone(), message }
}
