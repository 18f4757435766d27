//! The few pieces of protobuf's wire format needed to build messages out of finished parts.

use bytes::{Buf, BufMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, encoded_len_varint};

/// The bytes a length-delimited field takes whose number is below 16.
pub(crate) fn field_len(content: usize) -> usize {
    1 + encoded_len_varint(content as u64) + content
}

/// Writes the tag and length of a length-delimited field; its content follows.
pub(crate) fn put_header(out: &mut impl BufMut, number: u8, content: usize) {
    debug_assert!(number < 16, "one-byte tags only");
    out.put_u8((number << 3) | 2);
    encode_varint(content as u64, out);
}

/// Writes a string or bytes field; nothing when it is empty, as proto3 does.
pub(crate) fn put_bytes(out: &mut impl BufMut, number: u8, content: &[u8]) {
    if !content.is_empty() {
        put_header(out, number, content.len());
        out.put_slice(content);
    }
}

/// One field of a message: its number and, for the two wire types looked at here, its value.
pub(crate) enum Field<'a> {
    /// A varint: integers, booleans, enums.
    Varint(u64),
    /// A string, bytes or message.
    Bytes(&'a [u8]),
    /// Any other wire type; the value is of no interest.
    Skipped,
}

/// The bytes are not a protobuf message.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Reads the fields of one message in order. Stops with an error at the first malformed one.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, Field<'a>), Malformed> {
        let (number, wire_type) = decode_key(&mut self.0).map_err(|_| Malformed)?;
        let field = match wire_type {
            WireType::Varint => Field::Varint(decode_varint(&mut self.0).map_err(|_| Malformed)?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0).map_err(|_| Malformed)?).unwrap_or(usize::MAX);
                let content = self.0.get(..length).ok_or(Malformed)?;
                self.0.advance(length);
                Field::Bytes(content)
            }
            other @ (WireType::ThirtyTwoBit | WireType::SixtyFourBit | WireType::StartGroup | WireType::EndGroup) => {
                prost::encoding::skip_field(other, number, &mut self.0, prost::encoding::DecodeContext::default())
                    .map_err(|_| Malformed)?;
                Field::Skipped
            }
        };
        Ok((number, field))
    }
}
