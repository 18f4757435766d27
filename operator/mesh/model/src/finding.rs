//! What was wrong with the objects. User mistakes are findings, never errors: the rest of the mesh goes on.

use std::sync::Arc;

use serde::Serialize;

use crate::ObjectId;

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works, but probably not as meant.
    Warning,
    /// The object, or the part named, has no effect.
    Error,
}

/// Which condition of the object's status a [`Finding`] belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Aspect {
    /// The object itself: malformed, conflicting or refused.
    Accepted,
    /// Something the object refers to is missing or of the wrong shape.
    ResolvedRefs,
    /// A proxy refused what the object caused.
    Programmed,
}

/// One thing a user should know about one field of one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Finding {
    /// The object at fault.
    pub object: ObjectId,
    /// Path of the field, for example `spec.backends[1].weight`.
    pub field: Arc<str>,
    /// The condition it shows in.
    pub aspect: Aspect,
    /// How bad it is.
    pub severity: Severity,
    /// CamelCase reason for machines, from a closed set per kind, for example `BackendNotFound`.
    pub reason: &'static str,
    /// What is wrong, quoting the value; lower case, no full stop.
    pub message: Arc<str>,
    /// What to do about it; lower case, no full stop.
    pub remedy: Arc<str>,
}
