//! Reading DER, whole or not at all.

use x509_parser::prelude::{FromDer, X509Certificate};

/// One certificate and nothing after it. The error is the parser's words.
pub(crate) fn certificate(bytes: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(bytes) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow the certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
