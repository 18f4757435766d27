//! The leaf certificate that is written here, for whoever signs bytes: a key in this process, a key in a vault.

use aws_lc_rs::digest;
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer};
use time::{OffsetDateTime, UtcOffset};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::X509Certificate;

use crate::der::{self, BIT_STRING, OCTET_STRING, SEQUENCE};
use crate::error::IssueError;
use crate::issuer::CertificateRequest;
use crate::serial;
use crate::validity::CLOCK_SKEW;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT` around the version, `[3] EXPLICIT` around the extensions.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// Names in a subject alternative name: `dNSName` and `uniformResourceIdentifier`.
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
/// `keyIdentifier` of an authority key identifier.
const KEY_IDENTIFIER: u8 = 0x80;

/// Object identifiers of extensions (RFC 5280, 4.2.1), with tag and length.
const SUBJECT_KEY_IDENTIFIER: [u8; 5] = [6, 3, 0x55, 0x1d, 14];
const SUBJECT_ALTERNATIVE_NAME: [u8; 5] = [6, 3, 0x55, 0x1d, 17];
const AUTHORITY_KEY_IDENTIFIER: [u8; 5] = [6, 3, 0x55, 0x1d, 35];

/// Extensions that all leaves have, whole.
/// Basic constraints, critical, CA:FALSE, which is the default and therefore not written.
const NO_AUTHORITY: [u8; 14] = [SEQUENCE, 12, 6, 3, 0x55, 0x1d, 19, 1, 1, 0xff, OCTET_STRING, 2, SEQUENCE, 0];
/// Extended key usage: servers (1.3.6.1.5.5.7.3.1) and clients (1.3.6.1.5.5.7.3.2).
const BOTH_SIDES: [u8; 31] = [
    SEQUENCE,
    29,
    6,
    3,
    0x55,
    0x1d,
    37,
    OCTET_STRING,
    22,
    SEQUENCE,
    20,
    6,
    8,
    0x2b,
    6,
    1,
    5,
    5,
    7,
    3,
    1,
    6,
    8,
    0x2b,
    6,
    1,
    5,
    5,
    7,
    3,
    2,
];
/// Key usage, critical: digitalSignature; with keyEncipherment for an RSA key, which alone can encipher (RFC 8813).
const SIGNS: [u8; 16] = [SEQUENCE, 14, 6, 3, 0x55, 0x1d, 15, 1, 1, 0xff, OCTET_STRING, 4, BIT_STRING, 2, 7, 0x80];
const SIGNS_AND_ENCIPHERS: [u8; 16] =
    [SEQUENCE, 14, 6, 3, 0x55, 0x1d, 15, 1, 1, 0xff, OCTET_STRING, 4, BIT_STRING, 2, 5, 0xa0];

/// What every leaf of an authority has, written once.
#[derive(Debug)]
pub(crate) struct Template {
    /// The signature's algorithm.
    algorithm: Vec<u8>,
    /// The authority's subject, byte for byte.
    issuer: Vec<u8>,
    /// The extension that names the authority's key.
    authority_key: Vec<u8>,
    /// End of the authority.
    not_after: OffsetDateTime,
}

impl Template {
    /// For leaves that `authority` signs with `algorithm`, none of which outlives `not_after`.
    pub(crate) fn new(
        authority: &X509Certificate<'_>,
        algorithm: AlgorithmIdentifier,
        not_after: OffsetDateTime,
    ) -> Self {
        let named = authority.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0.to_vec()),
            _ => None,
        });
        let key = named.unwrap_or_else(|| key_identifier(&authority.public_key().subject_public_key.data));
        let mut authority_key = Vec::new();
        write_extension(&mut authority_key, &AUTHORITY_KEY_IDENTIFIER, false, |out| {
            der::write(out, SEQUENCE, |out| der::write_bytes(out, KEY_IDENTIFIER, &key));
        });
        Self {
            algorithm: der::value(SEQUENCE, algorithm.as_ref()),
            issuer: authority.subject().as_raw().to_vec(),
            authority_key,
            not_after,
        }
    }

    /// The part of the certificate that is signed.
    pub(crate) fn to_sign(&self, request: &CertificateRequest) -> Result<Vec<u8>, IssueError> {
        let serial = serial::random()?;
        let not_before = request.now() - CLOCK_SKEW;
        let not_after = (request.now() + request.validity().as_duration()).min(self.not_after);
        let mut out = Vec::with_capacity(768);
        der::write(&mut out, SEQUENCE, |out| {
            // Version 3.
            out.extend_from_slice(&[VERSION, 3, der::INTEGER, 1, 2]);
            der::write_bytes(out, der::INTEGER, &serial);
            out.extend_from_slice(&self.algorithm);
            out.extend_from_slice(&self.issuer);
            der::write(out, SEQUENCE, |out| {
                write_time(out, not_before);
                write_time(out, not_after);
            });
            // No subject: names are in the extension.
            out.extend_from_slice(&[SEQUENCE, 0]);
            out.extend_from_slice(request.public_key_info());
            der::write(out, EXTENSIONS, |out| der::write(out, SEQUENCE, |out| self.write_extensions(out, request)));
        });
        Ok(out)
    }

    fn write_extensions(&self, out: &mut Vec<u8>, request: &CertificateRequest) {
        out.extend_from_slice(&self.authority_key);
        // Critical, because there is no subject.
        write_extension(out, &SUBJECT_ALTERNATIVE_NAME, true, |out| {
            der::write(out, SEQUENCE, |out| {
                let names = request.subject_names();
                for name in names.dns() {
                    der::write_bytes(out, DNS_NAME, name.as_bytes());
                }
                der::write_bytes(out, URI, names.uri().as_bytes());
            });
        });
        out.extend_from_slice(if request.is_rsa() { &SIGNS_AND_ENCIPHERS } else { &SIGNS });
        out.extend_from_slice(&BOTH_SIDES);
        out.extend_from_slice(&NO_AUTHORITY);
        write_extension(out, &SUBJECT_KEY_IDENTIFIER, false, |out| {
            der::write_bytes(out, OCTET_STRING, &key_identifier(request.public_key()));
        });
    }

    /// The certificate: what was signed, and the signature as it stands in certificates.
    pub(crate) fn signed(&self, to_sign: &[u8], signature: &[u8]) -> CertificateDer<'static> {
        let mut out = Vec::with_capacity(to_sign.len() + self.algorithm.len() + signature.len() + 16);
        der::write(&mut out, SEQUENCE, |out| {
            out.extend_from_slice(to_sign);
            out.extend_from_slice(&self.algorithm);
            der::write(out, BIT_STRING, |out| {
                // Bits of the last byte that are not used.
                out.push(0);
                out.extend_from_slice(signature);
            });
        });
        out.into()
    }
}

/// What a key is called in certificates (RFC 7093, section 2, method 1).
fn key_identifier(public_key: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, public_key).as_ref()[..20].to_vec()
}

fn write_extension(out: &mut Vec<u8>, id: &[u8], critical: bool, content: impl FnOnce(&mut Vec<u8>)) {
    der::write(out, SEQUENCE, |out| {
        out.extend_from_slice(id);
        if critical {
            out.extend_from_slice(&[1, 1, 0xff]);
        }
        der::write(out, OCTET_STRING, content);
    });
}

/// Two digits of the year until 2049, four after that (RFC 5280, 4.1.2.5).
fn write_time(out: &mut Vec<u8>, at: OffsetDateTime) {
    let at = at.to_offset(UtcOffset::UTC);
    let year = at.year().unsigned_abs();
    let short = (1950..2050).contains(&year);
    der::write(out, if short { UTC_TIME } else { GENERALIZED_TIME }, |out| {
        if !short {
            write_digits(out, year / 100);
        }
        write_digits(out, year % 100);
        for part in [u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second()] {
            write_digits(out, u32::from(part));
        }
        out.push(b'Z');
    });
}

/// Two decimal digits.
fn write_digits(out: &mut Vec<u8>, number: u32) {
    let digit = |number: u32| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[digit(number / 10), digit(number)]);
}
