//! What the embedder decides about the mesh, beside the objects in it.

use std::sync::Arc;

use ipnet::IpNet;
use osm_api::{Kind, ObjectRef};
use osm_model::TrustDomain;

use crate::reference::object_ref;

/// Name of the one MeshConfig that counts (OSM's).
pub const MESH_CONFIG_NAME: &str = "osm-mesh-config";

/// Options of one mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name of the mesh: the value of the namespaces' label `openservicemesh.io/monitored-by`.
    pub mesh_name: Arc<str>,
    /// Namespace of the control plane, where the MeshConfig is.
    pub control_plane_namespace: Arc<str>,
    /// Trust domain of certificates.
    pub trust_domain: TrustDomain,
    /// DNS suffix of the cluster.
    pub cluster_domain: Arc<str>,
    /// Ranges of ClusterIPs; empty means they are learnt from the Services.
    pub service_ranges: Vec<IpNet>,
}

/// The one MeshConfig that counts.
pub(crate) fn mesh_config_ref(options: &Options) -> ObjectRef {
    object_ref(Kind::MeshConfig, Some(&options.control_plane_namespace), MESH_CONFIG_NAME)
}
