//! Writing PEM, with private keys only in memory that is wiped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Line length of PEM (RFC 7468).
const LINE: usize = 64;

pub(crate) fn certificate(der: &[u8]) -> String {
    let mut out = String::new();
    write_section(&mut out, "CERTIFICATE", der);
    out
}

/// PKCS#10 DER to PEM.
#[cfg(any(feature = "vault", feature = "cert-manager"))]
pub(crate) fn certificate_request(der: &[u8]) -> String {
    let mut out = String::new();
    write_section(&mut out, "CERTIFICATE REQUEST", der);
    out
}

/// PKCS#8 DER to PEM. The buffer is allocated once, so no copy of the key is left behind by growing it.
pub(crate) fn private_key(pkcs8: &[u8]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(pkcs8.len() * 2 + 128));
    write_section(&mut out, "PRIVATE KEY", pkcs8);
    out
}

fn write_section(out: &mut String, label: &str, der: &[u8]) {
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    // 48 bytes make 64 characters.
    for chunk in der.chunks(LINE / 4 * 3) {
        STANDARD.encode_string(chunk, out);
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
}
