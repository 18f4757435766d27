//! What can go wrong, in words that name the type, the field and the remedy.

use thiserror::Error;

/// Why a resource cannot be shown as JSON.
#[derive(Debug, Error)]
pub enum ToJsonError {
    /// The type is not part of the Envoy API this program was built with.
    #[error(
        "unknown resource type `{type_url}`: expected `type.googleapis.com/` and the full name of an Envoy v3 message"
    )]
    UnknownType {
        /// The type URL given.
        type_url: String,
    },
    /// The bytes are not an encoding of that type.
    #[error("the bytes given are not an encoded `{type_url}`")]
    Decode {
        /// The type URL given.
        type_url: String,
        /// What the decoder met.
        source: prost::DecodeError,
    },
    /// The message holds something JSON cannot express, in practice an `Any` of an unknown type.
    #[error("show `{type_url}` as JSON")]
    Serialize {
        /// The type URL given.
        type_url: String,
        /// What the serializer met.
        source: serde_json::Error,
    },
}

/// Why JSON is not a resource.
#[derive(Debug, Error)]
pub enum FromJsonError {
    /// The document is an array, a string or another value that is not an object.
    #[error("a resource must be a JSON object with the field `@type`, found {found}")]
    NotAnObject {
        /// The kind of JSON value found.
        found: &'static str,
    },
    /// The field `@type` is absent or not a string.
    #[error(
        "the field `@type` is missing or not a string: it must name the resource type, such as \
         `type.googleapis.com/envoy.config.cluster.v3.Cluster`"
    )]
    MissingType,
    /// The type is not part of the Envoy API this program was built with.
    #[error(
        "unknown value `{type_url}` of the field `@type`: expected `type.googleapis.com/` and the full name of an \
         Envoy v3 message"
    )]
    UnknownType {
        /// The value of `@type`.
        type_url: String,
    },
    /// A field is unknown, or its value does not fit.
    #[error("field `{field}` of `{type_url}`: {problem}")]
    Field {
        /// The value of `@type`.
        type_url: String,
        /// Path of the field from the root of the document, `.` for the root itself.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The message has no field that could carry a resource name, so it is not a resource.
    #[error("`{type_url}` is not a resource type: its messages carry no name")]
    NotAResource {
        /// The value of `@type`.
        type_url: String,
    },
    /// The name is absent or empty.
    #[error("field `{field}` of `{type_url}` is missing or empty: every resource needs a name")]
    MissingName {
        /// The value of `@type`.
        type_url: String,
        /// The JSON name of the field that carries the name.
        field: String,
    },
}
