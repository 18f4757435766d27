//! An object of any kind, and the name by which it is referred to.

use std::fmt;
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
}
