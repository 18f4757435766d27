//! Hiding what must not be shown.

use std::{collections::BTreeSet, sync::LazyLock};

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::{convert::TYPE_KEY, descriptors};

/// What stands in the place of a hidden value.
pub const REDACTED: &str = "[redacted]";

/// Base64 of [`REDACTED`], for fields whose JSON form must be base64.
const REDACTED_BYTES: &str = "W3JlZGFjdGVkXQ==";

/// Keys of a `DataSource` that say where a secret lies without holding it.
const REFERENCES: [&str; 5] =
    ["filename", "environmentVariable", "environment_variable", "watchedDirectory", "watched_directory"];

/// Names of sensitive fields of any message, for JSON whose type is not known.
static SENSITIVE_NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| descriptors::sensitive_names().collect());

/// Hides private keys, passwords, session ticket keys and generic secrets, in place.
///
/// What is secret is what Envoy's own descriptors mark as sensitive, wherever it appears in the document: in a
/// `Secret`, in a TLS context inside a listener, in a filter's configuration. Certificates and the names of files stay
/// readable. The result is still canonical proto JSON of the same type. Where `@type` is missing or unknown, every
/// field with the *name* of some sensitive field is hidden.
pub fn redact(json: &mut Value) {
    match json {
        Value::Object(fields) => redact_untyped(fields),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An object whose only hint at a type may be its `@type`.
fn redact_untyped(fields: &mut Map<String, Value>) {
    if let Some(descriptor) = fields.get(TYPE_KEY).and_then(Value::as_str).and_then(descriptors::message) {
        redact_message(&descriptor, fields);
        return;
    }
    for (name, value) in fields.iter_mut() {
        if SENSITIVE_NAMES.contains(name) {
            hide(value, REDACTED);
        } else {
            redact(value);
        }
    }
}

fn redact_message(descriptor: &MessageDescriptor, fields: &mut Map<String, Value>) {
    for (name, value) in fields.iter_mut() {
        let field = descriptor.get_field_by_json_name(name).or_else(|| descriptor.get_field_by_name(name));
        match field {
            Some(field) if descriptors::is_sensitive(&field) => hide(value, replacement(&field.kind())),
            Some(field) => redact_field(&field, value),
            // Only `@type` and the `value` of a well-known type inside `Any` have no descriptor.
            None => redact(value),
        }
    }
}

fn redact_field(field: &FieldDescriptor, value: &mut Value) {
    let kind = if field.is_map() {
        field.kind().as_message().map(|entry| entry.map_entry_value_field().kind())
    } else {
        Some(field.kind())
    };
    let Some(Kind::Message(descriptor)) = kind else { return };
    let each = |value: &mut Value| match value {
        Value::Object(fields) if fields.contains_key(TYPE_KEY) => redact_untyped(fields),
        Value::Object(fields) => redact_message(&descriptor, fields),
        _ => {}
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(each),
        Value::Object(entries) if field.is_map() => entries.values_mut().for_each(each),
        single => std::iter::once(single).for_each(each),
    }
}

fn replacement(kind: &Kind) -> &'static str {
    if matches!(kind, Kind::Bytes) { REDACTED_BYTES } else { REDACTED }
}

/// Hides every value below, except references to where a secret lies and the names of types.
fn hide(value: &mut Value, replacement: &str) {
    match value {
        Value::String(text) => replacement.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, replacement)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match name.as_str() {
                    TYPE_KEY => {}
                    "inlineBytes" | "inline_bytes" => hide(value, REDACTED_BYTES),
                    name if REFERENCES.contains(&name) => {}
                    _ => hide(value, REDACTED),
                }
            }
        }
        Value::Null => {}
        // A number or a boolean could only be hidden by a value of another type; the field goes instead.
        Value::Bool(_) | Value::Number(_) => *value = Value::Null,
    }
}
