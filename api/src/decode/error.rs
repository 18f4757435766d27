//! Why a value is no object that the mesh can use.

use std::fmt;

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::kinds::Kind;
use crate::object::ObjectRef;

/// Longest excerpt of a value in an error, in characters.
const MAX_EXCERPT: usize = 80;

/// Why a value is no object that the mesh can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The value is no JSON object.
    #[error("{found} is not a Kubernetes object; write one with apiVersion, kind and metadata")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// Lists and objects are nested too deeply.
    #[error("the object is nested more than {most} levels deep; no kind needs that")]
    TooDeep {
        /// The most levels that are allowed.
        most: usize,
    },
    /// A field without which nobody knows what the object is.
    #[error(
        "{}: {field} is missing or is not a text; every object needs apiVersion, kind and metadata.name",
        .kind.as_deref().unwrap_or("object of unknown kind")
    )]
    NotIdentified {
        /// The kind, if it was given.
        kind: Option<String>,
        /// The field.
        field: &'static str,
    },
    /// The kind is none that the mesh reads. Callers that read all objects of a folder ignore this error.
    #[error("{api_version} {kind}: the mesh does not read this kind")]
    UnknownKind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// The kind has no such version.
    #[error(
        "{kind} {name:?}: apiVersion {api_version:?} is not supported; use {}",
        supported(*.kind)
    )]
    UnsupportedVersion {
        /// The kind.
        kind: Kind,
        /// The `apiVersion` that was given.
        api_version: String,
        /// The object's name, if it has one.
        name: String,
    },
    /// Fields that the kind does not have.
    #[error("{object}: {}", list(.fields))]
    UnknownFields {
        /// The object.
        object: Box<ObjectRef>,
        /// The fields; at least one.
        fields: Vec<UnknownField>,
    },
    /// A field is missing or has a value that it cannot have.
    #[error(
        "{object}: {field}: {}{problem}",
        .value.as_ref().map(|value| format!("{value}: ")).unwrap_or_default()
    )]
    InvalidField {
        /// The object.
        object: Box<ObjectRef>,
        /// Path of the field, for example `spec.rules[0].kind`.
        field: String,
        /// The value as JSON, shortened; absent when the field is.
        value: Option<String>,
        /// What is wrong, and what to write.
        problem: String,
    },
}

impl DecodeError {
    /// The object in question, where it is known.
    pub fn object(&self) -> Option<&ObjectRef> {
        match self {
            Self::UnknownFields { object, .. } | Self::InvalidField { object, .. } => Some(object),
            Self::NotAnObject { .. }
            | Self::TooDeep { .. }
            | Self::NotIdentified { .. }
            | Self::UnknownKind { .. }
            | Self::UnsupportedVersion { .. } => None,
        }
    }

    /// The path of the (first) field in question, where it is known.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::UnknownFields { fields, .. } => fields.first().map(|field| field.path.as_str()),
            Self::InvalidField { field, .. } => Some(field),
            Self::NotIdentified { field, .. } => Some(field),
            Self::UnsupportedVersion { .. } => Some("apiVersion"),
            Self::NotAnObject { .. } | Self::TooDeep { .. } | Self::UnknownKind { .. } => None,
        }
    }

    /// Whether the kind is none that the mesh reads, so that the object is none of its business.
    pub fn is_unknown_kind(&self) -> bool {
        matches!(self, Self::UnknownKind { .. })
    }
}

/// A field that its kind does not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownField {
    /// Path of the field, for example `spec.sidecar.loglevel`.
    pub path: String,
    /// A field that the kind does have there and that looks alike.
    pub suggestion: Option<String>,
    /// The version that has the field, if the object's version is too old for it.
    pub newer_version: Option<String>,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match (&self.newer_version, &self.suggestion) {
            (Some(version), _) => write!(f, "this version has no such field; write apiVersion: {version}"),
            (None, Some(name)) => write!(f, "there is no such field; did you mean {name}?"),
            (None, None) => f.write_str("there is no such field; remove it"),
        }
    }
}

fn supported(kind: Kind) -> String {
    let versions: Vec<_> =
        kind.versions().iter().map(|version| crate::kinds::api_version(kind.group(), version)).collect();
    versions.join(" or ")
}

fn list(fields: &[UnknownField]) -> String {
    let fields: Vec<_> = fields.iter().map(ToString::to_string).collect();
    fields.join("; ")
}

/// The error for what serde says about a value.
pub(super) fn invalid_field(
    object: &ObjectRef,
    root: &Value,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> DecodeError {
    let message = error.inner().to_string();
    let path = error.path();
    let parent = path_text(path);
    if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        let field = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        return DecodeError::InvalidField {
            object: Box::new(object.clone()),
            field,
            value: None,
            problem: "the field is required; add it".to_owned(),
        };
    }
    let value = lookup(root, path);
    let problem = match value {
        Some(Value::Bool(_)) if !message.contains("expected a boolean") => {
            format!(
                "{message}; if a text is meant, put it in quotes: YAML reads a bare off, on, no or yes as a boolean"
            )
        }
        _ => message,
    };
    DecodeError::InvalidField { object: Box::new(object.clone()), field: parent, value: value.map(excerpt), problem }
}

/// The path in the usual notation. Serde's name for "some variant" is left out.
fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } => push_name(&mut text, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

pub(super) fn push_name(path: &mut String, name: &str) {
    let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-');
    if !plain || name.is_empty() {
        path.push_str(&format!("[{name:?}]"));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

fn lookup<'a>(root: &'a Value, path: &Path) -> Option<&'a Value> {
    let mut value = root;
    for segment in path.iter() {
        value = match segment {
            Segment::Seq { index } => value.get(*index)?,
            Segment::Map { key } => value.get(key.as_str())?,
            Segment::Enum { .. } | Segment::Unknown => value,
        };
    }
    Some(value)
}

fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
