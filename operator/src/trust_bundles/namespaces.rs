//! Which namespaces are in the mesh.

use std::collections::BTreeSet;

use osm_admission::{Membership, NamespaceSettings};
use osm_api::Object;
use osm_source::SourceEvent;
use tokio::sync::watch;

/// The names of the namespaces of the mesh; `None` until every object was read once.
pub type Namespaces = Option<BTreeSet<String>>;

/// Follows which namespaces are in the mesh.
#[derive(Debug)]
pub struct MeshNamespaces {
    mesh_name: String,
    members: BTreeSet<String>,
    is_synced: bool,
    told: watch::Sender<Namespaces>,
}

impl MeshNamespaces {
    /// Knows of none yet.
    pub fn new(mesh_name: String) -> (Self, watch::Receiver<Namespaces>) {
        let (told, follows) = watch::channel(None);
        (Self { mesh_name, members: BTreeSet::new(), is_synced: false, told }, follows)
    }

    /// Takes an event of the source in.
    pub fn observe(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                for (name, object) in changes {
                    if name.kind != osm_api::Kind::Namespace {
                        continue;
                    }
                    let is_member = object.as_ref().is_some_and(|object| self.is_member(object));
                    match is_member {
                        true => self.members.insert(name.name.to_string()),
                        false => self.members.remove(&*name.name),
                    };
                }
            }
            SourceEvent::Synced => self.is_synced = true,
            SourceEvent::Problems(_) => {}
        }
        if self.is_synced {
            self.told.send_if_modified(|told| {
                let differs = told.as_ref() != Some(&self.members);
                if differs {
                    *told = Some(self.members.clone());
                }
                differs
            });
        }
    }

    /// A namespace that is being deleted takes no new object, and loses those it has by itself.
    fn is_member(&self, object: &Object) -> bool {
        let metadata = object.metadata();
        let settings = NamespaceSettings::read(metadata, &self.mesh_name);
        settings.membership == Membership::Member && metadata.deletion_timestamp.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use osm_api::{Kind, ObjectRef};
    use serde_json::{Value, json};

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn namespace(name: &str, metadata: Value) -> (ObjectRef, Option<Object>) {
        let mut metadata = metadata;
        metadata["name"] = name.into();
        let object = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        (ObjectRef::new(Kind::Namespace, "", name), Some(Object::Namespace(Arc::new(object))))
    }

    #[test]
    fn namespaces_are_told_once_all_are_read_and_then_as_they_change() {
        let (mut namespaces, mut told) = MeshNamespaces::new("osm".into());
        let member = json!({ "labels": { "openservicemesh.io/monitored-by": "osm" } });
        let changes = vec![
            namespace("a", member.clone()),
            namespace("b", json!({ "labels": { "openservicemesh.io/monitored-by": "another" } })),
            namespace(
                "c",
                json!({
                    "labels": { "openservicemesh.io/monitored-by": "osm" }, "deletionTimestamp": "2026-01-01T00:00:00Z",
                }),
            ),
        ];
        namespaces.observe(&SourceEvent::Changes(changes));
        assert!(!told.has_changed().unwrap() && told.borrow().is_none());
        namespaces.observe(&SourceEvent::Synced);
        assert_eq!(*told.borrow_and_update(), Some(set(&["a"])));
        namespaces.observe(&SourceEvent::Changes(vec![namespace("a", member.clone())]));
        assert!(!told.has_changed().unwrap());
        namespaces.observe(&SourceEvent::Changes(vec![namespace("b", member), namespace("a", json!({}))]));
        assert_eq!(*told.borrow_and_update(), Some(set(&["b"])));
        namespaces.observe(&SourceEvent::Changes(vec![(ObjectRef::new(Kind::Namespace, "", "b"), None)]));
        assert_eq!(*told.borrow_and_update(), Some(set(&[])));
    }
}
