//! Private keys and what travels with them.

use std::fmt;

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::pem;

/// A private key as PEM. Wiped when dropped; printed as `[redacted]`.
#[derive(Clone)]
pub struct PrivateKeyPem(Zeroizing<String>);

impl PrivateKeyPem {
    /// Takes ownership of PEM text. Nothing is checked here; whoever uses the key parses it.
    pub fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Self {
        Self(pem::private_key(der))
    }

    /// The key itself. The name is long so that every use is easy to find and to question: it belongs into an SDS
    /// secret, a file of mode 0600 or a TLS library, and nowhere else.
    pub fn expose_private_key_pem(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a provider is shown to prove who asks: a token, or a client's secret. Wiped when dropped; printed as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Zeroizing<String>);

impl Credential {
    /// Takes ownership of the text. White space around it is dropped: files and Secrets often end with a line break.
    pub fn new(text: String) -> Self {
        let text = Zeroizing::new(text);
        match text.trim() {
            trimmed if trimmed.len() == text.len() => Self(text),
            trimmed => Self(Zeroizing::new(trimmed.to_owned())),
        }
    }

    /// The text itself. The name is long so that every use is easy to find and to question: it belongs into a request to
    /// the provider, and nowhere else.
    pub fn expose_credential(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A private key with its certificate chain, as an Envoy `TlsCertificate` wants it.
#[derive(Clone)]
pub struct SecretMaterial {
    private_key: PrivateKeyPem,
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
}

impl SecretMaterial {
    pub(crate) fn new(private_key: PrivateKeyPem, chain: Vec<CertificateDer<'static>>) -> Self {
        let chain_pem = chain.iter().map(|der| pem::certificate(der)).collect();
        Self { private_key, chain, chain_pem }
    }

    /// The private key as PKCS#8 PEM; see [`PrivateKeyPem::expose_private_key_pem`].
    pub fn expose_private_key_pem(&self) -> &str {
        self.private_key.expose_private_key_pem()
    }

    /// The chain as PEM: the leaf, then intermediates in signing order; roots are left out. Public.
    pub fn certificate_chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The chain as DER, in the same order. Public.
    pub fn certificate_chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

impl fmt::Debug for SecretMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretMaterial")
            .field("private_key", &self.private_key)
            .field("certificates", &self.chain.len())
            .finish()
    }
}
