//! SDS resources: the one place where a private key passes through. Nothing here prints one.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};
use prost::Message;
use zeroize::Zeroizing;

use crate::naming::{PROXY_CERTIFICATE_SECRET, SERVICE_CERTIFICATE_SECRET, TRUST_BUNDLE_SECRET};

/// A private key in PEM. Prints as `[redacted]` and is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(Zeroizing<Vec<u8>>);

impl PrivateKeyPem {
    /// Takes the key over.
    pub fn new(pem: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(pem.into()))
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem([redacted])")
    }
}

/// An encoded `envoy.extensions.transport_sockets.tls.v3.Secret`. Its body may hold a private key, so it is a type of its
/// own that prints no content and is not mixed up with [`Resource`](crate::Resource)s, which are dumped freely.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretResource {
    name: Arc<str>,
    body: Bytes,
}

impl SecretResource {
    /// The type URL under which xDS transports secrets.
    pub const TYPE_URL: &'static str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

    fn new(name: &str, content: Type) -> Self {
        let secret = Secret { name: name.to_owned(), r#type: Some(content) };
        Self { name: name.into(), body: secret.encode_to_vec().into() }
    }

    /// The SDS name, the same for every proxy.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The encoded message, for the stream of the proxy it belongs to and nowhere else.
    pub fn expose_body(&self) -> &Bytes {
        &self.body
    }
}

impl fmt::Debug for SecretResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretResource {:?} ([redacted])", self.name)
    }
}

/// The certificate a workload presents to its peers: `chain_pem` leaf first.
pub fn secret_service_certificate(chain_pem: &str, private_key: &PrivateKeyPem) -> SecretResource {
    certificate(SERVICE_CERTIFICATE_SECRET, chain_pem, private_key)
}

/// The certificate with which one proxy opens its stream: `chain_pem` leaf first.
pub fn secret_proxy_certificate(chain_pem: &str, private_key: &PrivateKeyPem) -> SecretResource {
    certificate(PROXY_CERTIFICATE_SECRET, chain_pem, private_key)
}

fn certificate(name: &str, chain_pem: &str, private_key: &PrivateKeyPem) -> SecretResource {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(chain_pem.as_bytes())),
        private_key: Some(inline(&private_key.0)),
        ..Default::default()
    };
    SecretResource::new(name, Type::TlsCertificate(certificate))
}

/// The roots against which a workload verifies its peers: all certificates in `bundle_pem`.
pub fn secret_trust_bundle(bundle_pem: &str) -> SecretResource {
    let context =
        CertificateValidationContext { trusted_ca: Some(inline(bundle_pem.as_bytes())), ..Default::default() };
    SecretResource::new(TRUST_BUNDLE_SECRET, Type::ValidationContext(context))
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use prost::Name;

    use super::*;

    #[test]
    fn no_debug_output_shows_key_material() {
        let key = PrivateKeyPem::new("top-secret");
        let secret = secret_service_certificate("public", &key);
        let printed = format!("{key:?} {secret:?} {:#?} {:#?}", key, secret);
        assert!(!printed.contains("top-secret") && !printed.contains("116, 111, 112"), "{printed}");
        assert!(printed.contains("redacted"));
    }

    #[test]
    fn secrets_decode_to_what_they_were_made_of() {
        let secret = secret_service_certificate("chain", &PrivateKeyPem::new("key"));
        let decoded = Secret::decode(secret.expose_body().clone()).unwrap();
        assert_eq!((decoded.name.as_str(), &**secret.name()), (SERVICE_CERTIFICATE_SECRET, SERVICE_CERTIFICATE_SECRET));
        let Some(Type::TlsCertificate(certificate)) = decoded.r#type else { panic!("not a certificate") };
        assert_eq!(certificate.private_key, Some(inline(b"key")));
        assert_eq!(certificate.certificate_chain, Some(inline(b"chain")));
        assert_eq!(SecretResource::TYPE_URL, Secret::type_url());
    }
}
