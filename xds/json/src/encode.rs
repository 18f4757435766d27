//! An encoding that depends on the content alone.
//!
//! The protobuf encoding leaves the order of map entries open, and the reflection library keeps maps unordered, so its
//! own encoder gives different bytes from run to run. Here fields go by number and map entries by key, also inside
//! `Any` values.

use prost::{
    bytes::BufMut,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use crate::descriptors;

const ANY: &str = "google.protobuf.Any";
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;

/// Encodes a message; equal messages give equal bytes.
pub(crate) fn encode(message: &DynamicMessage) -> Vec<u8> {
    let mut buffer = Vec::new();
    if message.descriptor().full_name() == ANY {
        encode_any(message, &mut buffer);
        return buffer;
    }
    for (field, value) in message.fields() {
        encode_field(&field, value, &mut buffer);
    }
    buffer
}

/// An `Any` keeps its type URL; what it holds is decoded and encoded again in order. A value that its own type cannot
/// decode keeps its bytes.
fn encode_any(any: &DynamicMessage, buffer: &mut Vec<u8>) {
    let type_url = any.get_field_by_number(ANY_TYPE_URL);
    let value = any.get_field_by_number(ANY_VALUE);
    let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
    let value = value.as_deref().and_then(Value::as_bytes).map(|bytes| bytes.as_ref()).unwrap_or_default();
    let inner = descriptors::message(type_url)
        .and_then(|descriptor| DynamicMessage::decode(descriptor, value).ok())
        .map(|message| encode(&message));
    if !type_url.is_empty() {
        put_delimited(ANY_TYPE_URL, type_url.as_bytes(), buffer);
    }
    let value = inner.as_deref().unwrap_or(value);
    if !value.is_empty() {
        put_delimited(ANY_VALUE, value, buffer);
    }
}

fn encode_field(field: &FieldDescriptor, value: &Value, buffer: &mut Vec<u8>) {
    let kind = field.kind();
    match value {
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                put_delimited(field.number(), &encode_map_entry(&kind, key, value), buffer);
            }
        }
        Value::List(values) if field.is_packed() => {
            let mut packed = Vec::new();
            for value in values {
                put_scalar(&kind, value, &mut packed);
            }
            put_delimited(field.number(), &packed, buffer);
        }
        Value::List(values) => {
            for value in values {
                encode_single(field.number(), &kind, value, buffer);
            }
        }
        single => encode_single(field.number(), &kind, single, buffer),
    }
}

/// A map entry is a message with the key as field 1 and the value as field 2, both always written.
fn encode_map_entry(entry: &Kind, key: &MapKey, value: &Value) -> Vec<u8> {
    let entry = entry.as_message().expect("a map field has entries of a message kind");
    let mut buffer = Vec::new();
    let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
    encode_single(key_field.number(), &key_field.kind(), &Value::from(key.clone()), &mut buffer);
    encode_single(value_field.number(), &value_field.kind(), value, &mut buffer);
    buffer
}

fn encode_single(number: u32, kind: &Kind, value: &Value, buffer: &mut Vec<u8>) {
    match value {
        Value::Message(message) => put_delimited(number, &encode(message), buffer),
        Value::String(text) => put_delimited(number, text.as_bytes(), buffer),
        Value::Bytes(bytes) => put_delimited(number, bytes, buffer),
        scalar => {
            encode_key(number, wire_type(kind), buffer);
            put_scalar(kind, scalar, buffer);
        }
    }
}

fn put_delimited(number: u32, bytes: &[u8], buffer: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

fn wire_type(kind: &Kind) -> WireType {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::SixtyFourBit,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::ThirtyTwoBit,
        Kind::String | Kind::Bytes | Kind::Message(_) => WireType::LengthDelimited,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => WireType::Varint,
    }
}

/// Writes a number without its key. Negative 32-bit numbers take ten bytes, as protobuf asks.
fn put_scalar(kind: &Kind, value: &Value, buffer: &mut Vec<u8>) {
    match (kind, value) {
        (_, Value::F64(number)) => buffer.put_f64_le(*number),
        (_, Value::F32(number)) => buffer.put_f32_le(*number),
        (_, Value::Bool(set)) => encode_varint(u64::from(*set), buffer),
        (Kind::Fixed32, Value::U32(number)) => buffer.put_u32_le(*number),
        (Kind::Fixed64, Value::U64(number)) => buffer.put_u64_le(*number),
        (Kind::Sfixed32, Value::I32(number)) => buffer.put_i32_le(*number),
        (Kind::Sfixed64, Value::I64(number)) => buffer.put_i64_le(*number),
        (Kind::Sint32, Value::I32(number)) => encode_varint(zigzag(i64::from(*number)), buffer),
        (Kind::Sint64, Value::I64(number)) => encode_varint(zigzag(*number), buffer),
        (_, Value::U32(number)) => encode_varint(u64::from(*number), buffer),
        (_, Value::U64(number)) => encode_varint(*number, buffer),
        (_, Value::I32(number) | Value::EnumNumber(number)) => {
            encode_varint(i64::from(*number).cast_unsigned(), buffer);
        }
        (_, Value::I64(number)) => encode_varint(number.cast_unsigned(), buffer),
        (_, Value::String(_) | Value::Bytes(_) | Value::Message(_) | Value::List(_) | Value::Map(_)) => {
            unreachable!("only numbers, enum values and booleans are scalars")
        }
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}
