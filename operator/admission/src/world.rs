//! What admission knows of the cluster: a small part of what the control plane watches, kept in memory, so that no request
//! to a webhook causes one to the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use osm_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use osm_api::{MeshConfig, MeshRootCertificate, Object, ObjectRef};

use crate::annotation::{IGNORE_LABEL, INJECTION_ANNOTATION, METRICS_ANNOTATION, MONITORED_BY_LABEL, Switch};

/// Name of the object that holds the settings of the mesh.
pub const MESH_CONFIG_NAME: &str = "osm-mesh-config";

/// Whether a Namespace belongs to the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Membership {
    /// It has the label of this mesh, and is not to be ignored.
    Member,
    /// It has not.
    #[default]
    Outside,
}

/// What admission reads of a Namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceSettings {
    /// Labels `openservicemesh.io/monitored-by` and `openservicemesh.io/ignore`.
    pub membership: Membership,
    /// Annotation `openservicemesh.io/sidecar-injection`.
    pub injection: Switch,
    /// Annotation `openservicemesh.io/metrics`.
    pub metrics: Switch,
}

impl NamespaceSettings {
    /// Reads the metadata of a Namespace, for the mesh called `mesh_name`.
    #[must_use]
    pub fn read(metadata: &ObjectMeta, mesh_name: &str) -> Self {
        let get = |map: &Option<BTreeMap<String, String>>, key| map.as_ref().and_then(|map| map.get(key).cloned());
        let monitored = get(&metadata.labels, MONITORED_BY_LABEL).is_some_and(|mesh| mesh == mesh_name);
        let member = monitored && get(&metadata.labels, IGNORE_LABEL).is_none();
        Self {
            membership: if member { Membership::Member } else { Membership::Outside },
            injection: Switch::read(get(&metadata.annotations, INJECTION_ANNOTATION).as_deref()),
            metrics: Switch::read(get(&metadata.annotations, METRICS_ANNOTATION).as_deref()),
        }
    }
}

/// The objects that admission looks at. Cheap to clone: clones share what did not change.
#[derive(Debug, Clone)]
pub struct World {
    mesh_name: Arc<str>,
    control_plane_namespace: Arc<str>,
    namespaces: OrdMap<String, Arc<NamespaceSettings>>,
    mesh_config: Option<Arc<MeshConfig>>,
    root_certificates: OrdMap<String, Arc<MeshRootCertificate>>,
}

/// Whether a change concerned admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// The world is another one.
    Yes,
    /// The change was about something else.
    No,
}

impl World {
    /// An empty cluster, with the mesh `mesh_name` whose control plane is in `control_plane_namespace`.
    pub fn new(mesh_name: impl Into<Arc<str>>, control_plane_namespace: impl Into<Arc<str>>) -> Self {
        Self {
            mesh_name: mesh_name.into(),
            control_plane_namespace: control_plane_namespace.into(),
            namespaces: OrdMap::new(),
            mesh_config: None,
            root_certificates: OrdMap::new(),
        }
    }

    /// Takes over one change of a source: an object that is new or different or, with `None`, gone.
    pub fn apply(&mut self, name: &ObjectRef, object: Option<&Object>) -> Touched {
        match (name.kind, object) {
            (osm_api::Kind::Namespace, Some(Object::Namespace(object))) => {
                let settings = NamespaceSettings::read(&object.metadata, &self.mesh_name);
                if self.namespaces.get(&name.name).is_some_and(|known| **known == settings) {
                    return Touched::No;
                }
                self.namespaces.insert(name.name.clone(), Arc::new(settings));
            }
            (osm_api::Kind::Namespace, None) => drop(self.namespaces.remove(&name.name)),
            (osm_api::Kind::MeshConfig, object) if self.is_mesh_config(&name.namespace, &name.name) => {
                self.mesh_config = match object {
                    Some(Object::MeshConfig(object)) => Some(object.clone()),
                    _ => None,
                };
            }
            (osm_api::Kind::MeshRootCertificate, object) if *name.namespace == *self.control_plane_namespace => {
                match object {
                    Some(Object::MeshRootCertificate(object)) => {
                        self.root_certificates.insert(name.name.clone(), object.clone());
                    }
                    _ => drop(self.root_certificates.remove(&name.name)),
                }
            }
            _ => return Touched::No,
        }
        Touched::Yes
    }

    /// The settings of a Namespace, if it is known.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&NamespaceSettings> {
        self.namespaces.get(name).map(Arc::as_ref)
    }

    /// The MeshConfig in force.
    #[must_use]
    pub fn mesh_config(&self) -> Option<&MeshConfig> {
        self.mesh_config.as_deref()
    }

    /// The MeshRootCertificates of the control plane's Namespace, by name.
    pub fn root_certificates(&self) -> impl Iterator<Item = (&str, &MeshRootCertificate)> {
        self.root_certificates.iter().map(|(name, object)| (name.as_str(), object.as_ref()))
    }

    /// The Namespace of the control plane.
    #[must_use]
    pub fn control_plane_namespace(&self) -> &str {
        &self.control_plane_namespace
    }

    /// Whether an object of this name is the MeshConfig in force.
    #[must_use]
    pub fn is_mesh_config(&self, namespace: &str, name: &str) -> bool {
        namespace == &*self.control_plane_namespace && name == MESH_CONFIG_NAME
    }
}
