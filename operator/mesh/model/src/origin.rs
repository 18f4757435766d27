//! Attribution: which object, which field, at which generation a resource comes from.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// A Kubernetes object by kind, namespace and name. Prints as `traffictarget/bookstore/buyer`, the form that also names
/// RBAC policies and routes in Envoy, so that an access log names the object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectId {
    /// The kind in lower case without its group, for example `traffictarget`.
    pub kind: Arc<str>,
    /// The namespace; `None` for objects that have none, such as a Namespace.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectId {
    /// A namespaced object.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_lowercase().into(), namespace: Some(namespace.into()), name: name.into() }
    }

    /// An object without a namespace.
    pub fn cluster_scoped(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_lowercase().into(), namespace: None, name: name.into() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a resource is as it is: one field of one object at one generation. A refusal by Envoy is blamed through it, and a
/// status counts acknowledgements by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Origin {
    /// The object.
    pub object: ObjectId,
    /// The field, as a path such as `spec.matches[0].pathRegex`; `spec` where the whole object speaks.
    pub field: Arc<str>,
    /// `metadata.generation` of the object when it was read; 0 where the source knows no generations.
    pub generation: i64,
}
