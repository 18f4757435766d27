//! An object of any kind, and the name by which it is referred to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::conditions::Condition;
use crate::kinds::{Kind, Scope};

/// The name of an object: kind, namespace and name.
///
/// Written as `kind/namespace/name` with the kind in lower case, for example `traffictarget/bookstore/buyer`, or `kind/name`
/// for kinds without a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds without one.
    pub namespace: String,
    /// Its name within kind and namespace.
    pub name: String,
}

impl ObjectRef {
    /// The object of this kind, namespace and name. For a kind without namespaces the namespace is dropped.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: match kind.scope() {
                Scope::Namespaced => namespace.into(),
                Scope::Cluster => String::new(),
            },
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.kind.as_str().chars() {
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        if self.namespace.is_empty() {
            write!(f, "/{}", self.name)
        } else {
            write!(f, "/{}/{}", self.namespace, self.name)
        }
    }
}

/// Why a text is not the name of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the name of an object; write kind/namespace/name, for example traffictarget/bookstore/buyer")]
pub struct ObjectRefError {
    /// The text.
    pub text: String,
}

impl FromStr for ObjectRef {
    type Err = ObjectRefError;

    /// Reads what [`Display`](fmt::Display) writes. The kind may be in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ObjectRefError { text: text.to_owned() };
        let parts: Vec<_> = text.split('/').collect();
        let kind =
            Kind::ALL.iter().copied().find(|kind| kind.as_str().eq_ignore_ascii_case(parts[0])).ok_or_else(error)?;
        match (kind.scope(), parts.as_slice()) {
            (Scope::Namespaced, [_, namespace, name]) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::new(kind, *namespace, *name))
            }
            (Scope::Cluster, [_, name]) if !name.is_empty() => Ok(Self::new(kind, "", *name)),
            _ => Err(error()),
        }
    }
}

/// A type whose objects are of one kind of the list.
pub trait MeshObject: Sized {
    /// The kind.
    const KIND: Kind;

    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// The object among objects of all kinds.
    fn into_object(object: Arc<Self>) -> Object;

    /// The object's name.
    fn reference(&self) -> ObjectRef {
        reference(Self::KIND, self.metadata())
    }
}

fn reference(kind: Kind, metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef::new(
        kind,
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

macro_rules! define_object {
    ($({ kind: $kind:ident, name: $name:literal, slot: $slot:ident, object: $object:path, $($rest:tt)* })+) => {
        /// An object of any kind of the list, shared.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $(#[doc = concat!("An object of kind `", $name, "`.")] $kind(Arc<$object>),)+
        }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)+ }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => &object.metadata,)+ }
            }

            /// The object as JSON, in the version that is stored.
            ///
            /// # Errors
            /// None of our types fails to serialize; the error is `serde_json`'s.
            pub fn to_value(&self) -> serde_json::Result<serde_json::Value> {
                match self { $(Self::$kind(object) => serde_json::to_value(object.as_ref()),)+ }
            }
        }

        $(
            impl MeshObject for $object {
                const KIND: Kind = Kind::$kind;

                fn metadata(&self) -> &ObjectMeta {
                    &self.metadata
                }

                fn into_object(object: Arc<Self>) -> Object {
                    Object::$kind(object)
                }
            }

            impl From<$object> for Object {
                fn from(object: $object) -> Self {
                    Self::$kind(Arc::new(object))
                }
            }
        )+
    };
}

crate::for_each_kind!(define_object);

impl Object {
    /// Its name.
    pub fn reference(&self) -> ObjectRef {
        reference(self.kind(), self.metadata())
    }

    /// The conditions in its status; none for kinds that are not ours.
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::MeshConfig(object) => conditions(&object.status, |s| &s.conditions),
            Self::MeshRootCertificate(object) => conditions(&object.status, |s| &s.conditions),
            Self::TrafficTarget(object) => conditions(&object.status, |s| &s.conditions),
            Self::HttpRouteGroup(object) => conditions(&object.status, |s| &s.conditions),
            Self::TcpRoute(object) => conditions(&object.status, |s| &s.conditions),
            Self::TrafficSplit(object) => conditions(&object.status, |s| &s.conditions),
            Self::ProxySnapshot(object) => conditions(&object.status, |s| &s.conditions),
            Self::Namespace(_) | Self::Service(_) | Self::EndpointSlice(_) | Self::Pod(_) | Self::ServiceAccount(_) => {
                &[]
            }
        }
    }
}

fn conditions<S>(status: &Option<S>, of: impl Fn(&S) -> &Vec<Condition>) -> &[Condition] {
    status.as_ref().map_or(&[], |status| of(status).as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_as_kind_namespace_name() {
        let target = ObjectRef::new(Kind::TrafficTarget, "bookstore", "buyer");
        assert_eq!(target.to_string(), "traffictarget/bookstore/buyer");
        let routes = ObjectRef::new(Kind::HttpRouteGroup, "bookstore", "routes");
        assert_eq!(routes.to_string(), "httproutegroup/bookstore/routes");
        let namespace = ObjectRef::new(Kind::Namespace, "ignored", "bookstore");
        assert_eq!(namespace.to_string(), "namespace/bookstore");
    }

    #[test]
    fn references_of_every_kind_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            let reference = ObjectRef::new(*kind, "bookstore", "a.b");
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
        for text in ["", "/", "pod", "pod/a", "pod//a", "pod/a/", "pod/a/b/c", "namespace/", "deployment/a/b"] {
            let error = text.parse::<ObjectRef>().unwrap_err();
            assert!(error.to_string().contains("kind/namespace/name"), "{text}: {error}");
        }
    }
}
