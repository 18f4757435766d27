//! The keeper of the ingress gateway's Secret, and what it hears and tells.

use std::sync::Arc;

use osm_api::{Kind, ObjectRef};
use osm_engine::MESH_CONFIG_NAME;
use osm_issuer::{CertificateStore, Clock, TrustDomain};
use tokio::sync::{mpsc, watch};

use super::roots::Heard;
use super::{Hands, Start};
use crate::gateway::{self, GatewayNews, IngressGateway};
use crate::mesh::Observer;
use crate::{identity, labels};

impl Start {
    /// The keeper, the observer that tells it of the MeshConfig, and what it tells the loop of the mesh.
    ///
    /// # Errors
    /// The control plane cannot be named in a certificate.
    pub(super) fn gateway(
        &self,
        hands: &Hands,
        heard: &Heard,
        store: &Arc<CertificateStore>,
    ) -> anyhow::Result<(IngressGateway, Observer, mpsc::UnboundedReceiver<Option<GatewayNews>>)> {
        let namespace = self.options.control_plane_namespace.to_string();
        let trust_domain = TrustDomain::new(self.options.trust_domain.as_str())?;
        let control_plane = identity::control_plane_identity(&trust_domain, &namespace)?;
        let (tell, wanted) = watch::channel(None);
        let (news, told) = mpsc::unbounded_channel();
        let keeper = IngressGateway {
            writer: hands.writer.clone(),
            labels: labels::of_mesh(&self.options.mesh_name),
            store: Arc::clone(store),
            mesh_config: ObjectRef::new(Kind::MeshConfig, namespace, MESH_CONFIG_NAME),
            wanted,
            clock: Clock::system(),
            state: heard.gateway.clone(),
            news,
        };
        Ok((keeper, gateway::observer(control_plane, tell), told))
    }
}
