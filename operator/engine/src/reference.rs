//! Between the API's names of objects and the mesh's.

use osm_api::{Kind, ObjectRef};
use osm_model::ObjectId;

/// The name of an object of `kind`; without a namespace for kinds that have none.
pub(crate) fn object_ref(kind: Kind, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef::new(kind, namespace.unwrap_or_default(), name)
}

/// The same object in findings and attributions.
pub fn object_id(object: &ObjectRef) -> ObjectId {
    if object.namespace.is_empty() {
        ObjectId::cluster_scoped(object.kind.as_str(), &object.name)
    } else {
        ObjectId::new(object.kind.as_str(), &object.namespace, &object.name)
    }
}
