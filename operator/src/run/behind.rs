//! Which pods were injected with settings that are no longer those of the MeshConfig.
//!
//! Images, resources, and what is intercepted are decided when a pod is made; no push can change them. Every injected pod carries
//! the version of the settings it was injected with, so that the MeshConfig's status can name the pods that are behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use osm_admission::VERSION_ANNOTATION;
use osm_api::{Kind, MeshConfig, Object, ObjectRef};
use osm_source::{Change, SourceEvent};
use tokio::sync::watch;

use crate::mesh::{Observer, is_mesh_config};
use crate::reconcile::PodsBehind;

/// Gives the version that a new pod would be injected with.
pub(crate) type InjectionVersion = Box<dyn Fn(Option<&MeshConfig>) -> String + Send>;

/// Keeps the list of pods that are behind.
pub(crate) struct PodsBehindWatch {
    current: InjectionVersion,
    version: String,
    /// The version of each injected pod.
    pods: BTreeMap<ObjectRef, String>,
    synced: bool,
    behind: watch::Sender<Arc<[String]>>,
}

impl PodsBehindWatch {
    /// Knows of no pod yet.
    pub(crate) fn new(current: InjectionVersion) -> (Self, PodsBehind) {
        let (behind, pods_behind) = watch::channel(Arc::default());
        let version = current(None);
        (Self { current, version, pods: BTreeMap::new(), synced: false, behind }, pods_behind)
    }

    /// Follows a source.
    pub(crate) fn observer(mut self) -> Observer {
        Box::new(move |event| self.take(event))
    }

    fn take(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                changes.iter().for_each(|change| self.take_change(change));
            }
            SourceEvent::Synced => self.synced = true,
            SourceEvent::Problems(_) => return,
        }
        if !self.synced {
            return;
        }
        let behind: Arc<[String]> = self.behind().into();
        self.behind.send_if_modified(|before| {
            let differs = **before != *behind;
            if differs {
                *before = behind;
            }
            differs
        });
    }

    fn take_change(&mut self, (name, object): &Change) {
        match object {
            Some(Object::Pod(pod)) => {
                let annotations = pod.metadata.annotations.as_ref();
                match annotations.and_then(|annotations| annotations.get(VERSION_ANNOTATION)) {
                    Some(version) => drop(self.pods.insert(name.clone(), version.clone())),
                    None => drop(self.pods.remove(name)),
                }
            }
            Some(Object::MeshConfig(config)) if is_mesh_config(name) => self.version = (self.current)(Some(config)),
            None if name.kind == Kind::Pod => drop(self.pods.remove(name)),
            _ => {}
        }
    }

    /// Pods with another version, ordered.
    fn behind(&self) -> Vec<String> {
        let behind = self.pods.iter().filter(|(_, version)| **version != self.version);
        behind.map(|(pod, _)| format!("{}/{}", pod.namespace, pod.name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use osm_api::{Strictness, decode};
    use serde_json::json;

    use super::*;

    fn change(value: serde_json::Value) -> Change {
        let object = decode(value, Strictness::Lenient).unwrap();
        (object.reference(), Some(object))
    }

    fn pod(name: &str, version: &str) -> Change {
        let annotations = json!({ VERSION_ANNOTATION: version });
        change(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": "shop", "name": name, "annotations": annotations }, "spec": { "containers": [] },
        }))
    }

    fn config(image: &str) -> Change {
        change(json!({
            "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
            "metadata": { "namespace": "osm-system", "name": "osm-mesh-config" },
            "spec": { "sidecar": { "envoyImage": image } },
        }))
    }

    #[test]
    fn pods_are_behind_from_a_change_of_settings_until_they_are_made_anew() {
        let image = |config: Option<&MeshConfig>| {
            config.and_then(|config| config.spec.sidecar.envoy_image().map(str::to_owned)).unwrap_or_default()
        };
        let (watch, behind) = PodsBehindWatch::new(Box::new(image));
        let mut observe = watch.observer();
        let mut told = |changes: Vec<Change>| {
            observe(&SourceEvent::Changes(changes));
            behind.borrow().to_vec()
        };
        let nobody = Vec::<String>::new();
        assert_eq!(told(vec![pod("a", "v2")]), nobody, "not before everything was read");
        assert_eq!(told(vec![config("v1"), pod("a", "v1"), pod("b", "v1")]), nobody);
        observe(&SourceEvent::Synced);
        let mut told = |changes: Vec<Change>| {
            observe(&SourceEvent::Changes(changes));
            behind.borrow().to_vec()
        };
        assert_eq!(told(vec![config("v2")]), ["shop/a", "shop/b"]);
        assert_eq!(told(vec![pod("a", "v2")]), ["shop/b"]);
        let (name, _) = pod("b", "");
        assert_eq!(told(vec![(name, None)]), nobody);
    }
}
