//! The bootstrap of an Envoy outside a cluster (a VM, a network namespace): identity as files, everything else by ADS.

use std::net::SocketAddr;

use osm_model::{Identity, TrustDomain};
use serde_json::{Value, json};

use crate::common::{self, Connection, Discovery, Parts};
use crate::names;

/// File in the certificate folder with the proxy's certificate and key, as an SDS response.
pub const STANDALONE_CERTIFICATE_FILE: &str = "tls_certificate_sds_secret.yaml";
/// File in the certificate folder with the roots that verify the control plane, as an SDS response.
pub const STANDALONE_ROOTS_FILE: &str = "validation_context_sds_secret.yaml";
/// Name of the secret in [`STANDALONE_ROOTS_FILE`], and of the roots in a pod.
pub const ROOTS_SECRET: &str = "validation_context_sds";

/// What a bootstrap outside a cluster is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandaloneBootstrap {
    /// The workload the proxy belongs to.
    pub workload: Identity,
    /// Name of the proxy among those of its workload: the node id.
    pub node: String,
    /// Where the control plane serves xDS.
    pub control_plane: SocketAddr,
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// Folder of the proxy's own certificate, as Envoy shall open it.
    pub certificates: String,
    /// Port of Envoy's admin interface, on loopback.
    pub admin_port: u16,
}

impl StandaloneBootstrap {
    /// The bootstrap (`envoy.config.bootstrap.v3.Bootstrap`), as JSON.
    #[must_use]
    pub fn envoy(&self) -> Value {
        let file = |name: &str| match self.certificates.strip_suffix('/') {
            Some(folder) => format!("{folder}/{name}"),
            None => format!("{}/{name}", self.certificates),
        };
        let control_plane = common::control_plane_cluster(Connection {
            name: common::CONTROL_PLANE_CLUSTER,
            discovery: Discovery::Address(self.control_plane),
            server_name: common::control_plane_name(&self.trust_domain),
            tls_parameters: json!({
                "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3",
            }),
            certificate: Some(common::file_secret(names::CERTIFICATE_SECRET, &file(STANDALONE_CERTIFICATE_FILE))),
            roots: common::file_secret(ROOTS_SECRET, &file(STANDALONE_ROOTS_FILE)),
            http_filters: None,
        });
        common::bootstrap(Parts {
            node: self.node.clone(),
            cluster: format!("{}.{}", self.workload.service_account, self.workload.namespace),
            admin_port: self.admin_port,
            clusters: vec![control_plane],
            listeners: Vec::new(),
        })
    }
}
