//! Reading DER, whole or not at all; and writing it.

use x509_parser::prelude::{FromDer, X509Certificate};

/// One certificate and nothing after it. The error is the parser's words.
pub(crate) fn certificate(bytes: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(bytes) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow the certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;

/// A value whose content is written by `content`. Its length is put before it when it is known.
pub(crate) fn write(out: &mut Vec<u8>, tag: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    // Right for most; longer ones are moved.
    out.push(0);
    let start = out.len();
    content(out);
    let length = out.len() - start;
    match u8::try_from(length) {
        Ok(short @ ..0x80) => out[start - 1] = short,
        _ => {
            let bytes = length.to_be_bytes();
            let significant = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..];
            out[start - 1] = 0x80 | significant.len() as u8;
            out.splice(start..start, significant.iter().copied());
        }
    }
}

/// A value whose content is at hand.
pub(crate) fn write_bytes(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    write(out, tag, |out| out.extend_from_slice(content));
}

/// A value of its own.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    write_bytes(&mut out, tag, content);
    out
}

/// A positive integer: no leading zeros but one before a set sign bit.
pub(crate) fn integer(big_endian: &[u8]) -> Vec<u8> {
    let first = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
    let mut out = Vec::with_capacity(big_endian.len() + 3);
    write(&mut out, INTEGER, |out| {
        if big_endian.get(first).is_none_or(|byte| byte & 0x80 != 0) {
            out.push(0);
        }
        out.extend_from_slice(&big_endian[first..]);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        for (length, header) in [
            (0, &[4, 0][..]),
            (0x7f, &[4, 0x7f]),
            (0x80, &[4, 0x81, 0x80]),
            (0xff, &[4, 0x81, 0xff]),
            (0x100, &[4, 0x82, 1, 0]),
            (0x1_0000, &[4, 0x83, 1, 0, 0]),
        ] {
            let content = vec![7; length];
            assert_eq!(value(OCTET_STRING, &content), [header, &content].concat());
        }
    }

    #[test]
    fn integers_are_positive_and_minimal() {
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
    }
}
