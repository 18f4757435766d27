//! From JSON to objects: dispatch on `apiVersion` and `kind`, conversion of older versions, and errors that name the field.

mod error;
mod unknown_fields;

pub use error::{DecodeError, UnknownField};

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::kinds::{Kind, Ownership, Scope};
use crate::object::{MeshObject, Object, ObjectRef};

/// Namespace of an object that names none, as kubectl has it without further configuration.
const DEFAULT_NAMESPACE: &str = "default";

/// Deepest nesting of lists and objects that is looked at; no kind needs more than a fraction of it.
const MAX_DEPTH: usize = 128;

/// What to do with fields that a kind of ours does not have. Kubernetes' own kinds are always decoded leniently, because newer
/// clusters have fields that we do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strictness {
    /// Refuse the object and name the fields: for files that people write, where an unknown field is a slip of the pen.
    Strict,
    /// Ignore them: for objects from an API server, which has pruned them already.
    Lenient,
}

/// Decodes an object of any kind of the list, from any of its versions, into the version that is stored.
///
/// As at an API server, a field whose value is null counts as absent. A namespaced object without a namespace is in `default`. A
/// status of a kind of ours that cannot be read is dropped: the mesh writes it and never reads its policy from it.
///
/// # Errors
/// The value is no object with `apiVersion`, `kind` and `metadata.name`; the kind is not of the list
/// ([`DecodeError::UnknownKind`], which most callers ignore); the version is not one of the kind's; a field is missing, has a
/// wrong type or, with [`Strictness::Strict`], is unknown. No JSON makes this function panic.
pub fn decode(value: Value, strictness: Strictness) -> Result<Object, DecodeError> {
    if is_too_deep(&value) {
        return Err(DecodeError::TooDeep { most: MAX_DEPTH });
    }
    let mut fields = match value {
        Value::Object(fields) => fields,
        other => return Err(DecodeError::NotAnObject { found: type_of(&other) }),
    };
    let (kind, version) = identify(&fields)?;
    let object = normalise(&mut fields, kind)?;
    if kind.ownership() == Ownership::Own {
        if let Some(spec) = fields.get_mut("spec") {
            remove_nulls(spec);
        }
        if strictness == Strictness::Strict {
            let unknown = unknown_fields::find(kind, version, &fields);
            if !unknown.is_empty() {
                return Err(DecodeError::UnknownFields { object: Box::new(object), fields: unknown });
            }
        }
    }
    typed(kind, version, &Value::Object(fields), &object)
}

/// Whether lists and objects are nested so deeply that functions which call themselves could run out of stack.
fn is_too_deep(value: &Value) -> bool {
    let mut pending = vec![(value, 0)];
    while let Some((value, depth)) = pending.pop() {
        if depth > MAX_DEPTH {
            return true;
        }
        match value {
            Value::Object(fields) => pending.extend(fields.values().map(|value| (value, depth + 1))),
            Value::Array(elements) => pending.extend(elements.iter().map(|value| (value, depth + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    false
}

/// Kind and version by `apiVersion` and `kind`.
fn identify(fields: &Map<String, Value>) -> Result<(Kind, &'static str), DecodeError> {
    let api_version = text(fields, "apiVersion")?;
    let name = text(fields, "kind")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = Kind::of(group, name)
        .ok_or_else(|| DecodeError::UnknownKind { api_version: api_version.to_owned(), kind: name.to_owned() })?;
    let version =
        kind.versions().iter().find(|known| **known == version).ok_or_else(|| DecodeError::UnsupportedVersion {
            kind,
            api_version: api_version.to_owned(),
            name: fields
                .get("metadata")
                .and_then(|metadata| metadata.get("name"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        })?;
    Ok((kind, version))
}

fn text<'a>(fields: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, DecodeError> {
    match fields.get(field).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(DecodeError::NotIdentified {
            kind: fields.get("kind").and_then(Value::as_str).map(str::to_owned),
            field,
        }),
    }
}

/// Gives the object its namespace and, where all of it may be missing, its spec, and tells its name.
fn normalise(fields: &mut Map<String, Value>, kind: Kind) -> Result<ObjectRef, DecodeError> {
    let not_identified = |field| DecodeError::NotIdentified { kind: Some(kind.as_str().to_owned()), field };
    let metadata =
        fields.get_mut("metadata").and_then(Value::as_object_mut).ok_or_else(|| not_identified("metadata"))?;
    let name = match metadata.get("name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => return Err(not_identified("metadata.name")),
    };
    let namespace = match (kind.scope(), metadata.get("namespace")) {
        (Scope::Cluster, _) => {
            metadata.remove("namespace");
            String::new()
        }
        (Scope::Namespaced, Some(Value::String(namespace))) if !namespace.is_empty() => namespace.clone(),
        (Scope::Namespaced, None | Some(Value::Null | Value::String(_))) => {
            metadata.insert("namespace".to_owned(), DEFAULT_NAMESPACE.into());
            DEFAULT_NAMESPACE.to_owned()
        }
        (Scope::Namespaced, Some(_)) => return Err(not_identified("metadata.namespace")),
    };
    let spec_missing = fields.get("spec").is_none_or(Value::is_null);
    if kind.ownership() == Ownership::Own && spec_missing {
        fields.insert("spec".to_owned(), Value::Object(Map::new()));
    }
    Ok(ObjectRef::new(kind, namespace, name))
}

/// Removes the members of objects whose value is null, at any depth; elements of lists stay.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

macro_rules! define_typed {
    ($({ kind: $kind:ident, name: $name:literal, slot: $slot:ident, object: $object:path, $($rest:tt)* })+) => {
        /// Decodes by the Rust type of the kind and version, and converts into the version that is stored.
        fn typed(kind: Kind, version: &str, value: &Value, object: &ObjectRef) -> Result<Object, DecodeError> {
            if (kind, version) == (Kind::MeshConfig, "v1alpha1") {
                let old: crate::config::v1alpha1::MeshConfig = with_path(value, object)?;
                return Ok(crate::MeshConfig::from(old).into());
            }
            match kind {
                $(Kind::$kind => {
                    let decoded: $object = in_stored_version(kind, version, value, object)?;
                    Ok(MeshObject::into_object(Arc::new(decoded)))
                })+
            }
        }
    };
}

crate::for_each_kind!(define_typed);

/// Versions of a kind that share one type differ in nothing but their name.
fn in_stored_version<T: DeserializeOwned>(
    kind: Kind,
    version: &str,
    value: &Value,
    object: &ObjectRef,
) -> Result<T, DecodeError> {
    if version == kind.storage_version() {
        return with_path(value, object);
    }
    let mut renamed = value.clone();
    renamed["apiVersion"] = kind.api_version().into();
    with_path(&renamed, object)
}

fn with_path<T: DeserializeOwned>(value: &Value, object: &ObjectRef) -> Result<T, DecodeError> {
    let error = match serde_path_to_error::deserialize(value) {
        Ok(decoded) => return Ok(decoded),
        Err(error) => error,
    };
    let in_status = error.path().to_string();
    let ours = object.kind.ownership() == Ownership::Own;
    let is_status = ours && (in_status == "status" || in_status.starts_with("status."));
    match value {
        Value::Object(fields) if is_status => {
            let mut without_status = fields.clone();
            without_status.remove("status");
            serde_path_to_error::deserialize(&Value::Object(without_status))
                .map_err(|error| error::invalid_field(object, value, &error))
        }
        _ => Err(error::invalid_field(object, value, &error)),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
