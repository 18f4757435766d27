//! Bytes to JSON and JSON to bytes.

use std::fmt;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::{FromJsonError, ToJsonError, descriptors, encode};

/// Key that names the type of a message in canonical proto JSON.
pub(crate) const TYPE_KEY: &str = "@type";

/// Fields that carry a resource's name, by proto name. `ClusterLoadAssignment` alone uses the second.
const NAME_FIELDS: [&str; 2] = ["name", "cluster_name"];

/// A resource read from JSON.
///
/// Its `Debug` form shows the length of the value only, as the value may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Type URL, such as `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
    pub type_url: String,
    /// Name by which discovery requests ask for it; never empty.
    pub name: String,
    /// The encoded message. Equal JSON gives equal bytes.
    pub value: Bytes,
}

impl fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Resource")
            .field("type_url", &self.type_url)
            .field("name", &self.name)
            .field("value_length", &self.value.len())
            .finish()
    }
}

/// Shows an encoded message as canonical proto JSON with `@type` first at every level that needs it.
///
/// `value` is the message itself, not an `Any` around it. Messages inside `Any` fields are expanded. Keys are sorted,
/// so equal messages give equal text. Secrets are shown as they are: see [`redact`](crate::redact).
///
/// # Errors
///
/// When the type is not part of the Envoy API, the bytes do not decode, or a nested `Any` has an unknown type.
pub fn to_json(type_url: &str, value: &[u8]) -> Result<Value, ToJsonError> {
    let descriptor =
        descriptors::message(type_url).ok_or_else(|| ToJsonError::UnknownType { type_url: type_url.to_owned() })?;
    let message = DynamicMessage::decode(descriptor, value)
        .map_err(|source| ToJsonError::Decode { type_url: type_url.to_owned(), source })?;
    let mut json = message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|source| ToJsonError::Serialize { type_url: type_url.to_owned(), source })?;
    if let Value::Object(fields) = &mut json {
        fields.insert(TYPE_KEY.to_owned(), Value::from(type_url));
    }
    json.sort_all_objects();
    Ok(json)
}

/// Reads a resource from canonical proto JSON; field names may be in the JSON or the proto spelling.
///
/// # Errors
///
/// When the JSON is not an object with a known `@type`, a field is unknown or has a value that does not fit, or the
/// resource has no name. Errors name the field.
pub fn from_json(json: &Value) -> Result<Resource, FromJsonError> {
    let Value::Object(fields) = json else {
        return Err(FromJsonError::NotAnObject { found: kind_of(json) });
    };
    let type_url = fields.get(TYPE_KEY).and_then(Value::as_str).ok_or(FromJsonError::MissingType)?;
    let descriptor =
        descriptors::message(type_url).ok_or_else(|| FromJsonError::UnknownType { type_url: type_url.to_owned() })?;
    let name_field = NAME_FIELDS
        .iter()
        .find_map(|name| descriptor.get_field_by_name(name))
        .ok_or_else(|| FromJsonError::NotAResource { type_url: type_url.to_owned() })?;

    let mut body = fields.clone();
    body.remove(TYPE_KEY);
    let message = read_message(descriptor, Value::Object(body)).map_err(|error| FromJsonError::Field {
        type_url: type_url.to_owned(),
        field: error.path().to_string(),
        problem: error.into_inner().to_string(),
    })?;

    let name = message.get_field(&name_field).as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(FromJsonError::MissingName {
            type_url: type_url.to_owned(),
            field: name_field.json_name().to_owned(),
        });
    }
    Ok(Resource { type_url: type_url.to_owned(), name, value: encode::encode(&message).into() })
}

fn read_message(
    descriptor: MessageDescriptor,
    body: Value,
) -> Result<DynamicMessage, serde_path_to_error::Error<serde_json::Error>> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(body, &mut track);
    DynamicMessage::deserialize(descriptor, deserializer)
        .map_err(|error| serde_path_to_error::Error::new(track.path(), error))
}

fn kind_of(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
