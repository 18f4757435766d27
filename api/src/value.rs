//! Small values that fields of several kinds share: ports, durations, and the judgement of a text that a schema cannot check.

mod duration;

pub use duration::{DurationError, parse_duration};

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A TCP port: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port with this number, or `None` when it is not within 1 to 65535.
    pub fn new(number: i64) -> Option<Self> {
        u16::try_from(number).ok().and_then(NonZeroU16::new).map(Self)
    }

    /// The port's number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| {
            serde::de::Error::custom(format_args!("{number} is not a port; use a number from 1 to 65535"))
        })
    }
}

impl JsonSchema for Port {
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 65535 })
    }
}

/// What is wrong with one field of an object that is otherwise usable.
///
/// The mesh goes on with another value ([`Effective::value`]); whoever resolves the object turns this into a finding on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Complaint {
    /// Path of the field in the object, for example `spec.certificate.serviceCertValidityDuration`.
    pub field: String,
    /// The value as it was written.
    pub value: String,
    /// Why it cannot be used, as the end of a sentence that starts with the value.
    pub problem: String,
    /// What to write, and what is used until then.
    pub remedy: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} {}; {}", self.field, self.value, self.problem, self.remedy)
    }
}

/// The value the mesh uses for a field, and what is wrong with the one that was written, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective<T> {
    /// The value to use: the one that was written, or the default in its place.
    pub value: T,
    /// Set when the written value could not be used as it is.
    pub complaint: Option<Complaint>,
}

impl<T> Effective<T> {
    /// A value that is as it was written, or a default for a field that was not written.
    pub fn good(value: T) -> Self {
        Self { value, complaint: None }
    }

    /// A value used in place of one that cannot be.
    pub fn instead(value: T, complaint: Complaint) -> Self {
        Self { value, complaint: Some(complaint) }
    }
}

/// A span of time in milliseconds that is written as a number of seconds, for example `0.042`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds {
    /// The span, in milliseconds.
    pub milliseconds: u64,
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Self { milliseconds: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.milliseconds as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // A cast saturates: negative and not-a-number give 0.
        Ok(Self { milliseconds: (seconds * 1000.0).round() as u64 })
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}

/// Makes the schema of an enum of texts a plain list of values, so that the description of the field that holds it counts and not
/// the descriptions of the type and its variants.
pub(crate) fn plain_enum(schema: &mut Schema) {
    let values: Vec<_> = schema
        .get("oneOf")
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .flat_map(|variant| {
            let several = variant.get("enum").and_then(serde_json::Value::as_array);
            several.into_iter().flatten().chain(variant.get("const")).cloned()
        })
        .collect();
    if !values.is_empty() {
        schema.remove("oneOf");
        schema.insert("enum".to_owned(), values.into());
        schema.insert("type".to_owned(), "string".into());
    }
    schema.remove("description");
}

/// True for a value that equals its type's default: such a section is left out when an object is written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The text, unless it is missing or empty: OSM reads both as "use the default".
pub(crate) fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_milliseconds_when_written_and_read_back() {
        for milliseconds in [0, 1, 42, 999, 1_000, 86_400_001] {
            let seconds = Seconds { milliseconds };
            let text = serde_json::to_string(&seconds).unwrap();
            assert_eq!(serde_json::from_str::<Seconds>(&text).unwrap(), seconds);
        }
    }

    #[test]
    fn a_port_is_within_its_range() {
        assert_eq!(Port::new(0), None);
        assert_eq!(Port::new(65_536), None);
        assert_eq!(Port::new(-1), None);
        assert_eq!(Port::new(65_535).map(Port::get), Some(65_535));
        let error = serde_json::from_str::<Port>("70000").unwrap_err();
        assert!(error.to_string().contains("1 to 65535"), "{error}");
    }
}
