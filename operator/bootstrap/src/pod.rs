//! The bootstrap of a sidecar in a pod: who it is comes from the pod's token, everything else by ADS.

mod listen;
mod probes;
mod readiness;

use std::net::IpAddr;

use osm_model::{Identity, TlsParameters, TlsVersion, TrustDomain};
use serde_json::{Value, json};

use crate::common::{self, Connection, Discovery, Parts};
use crate::probe::Probes;
use crate::standalone::ROOTS_SECRET;
use crate::{names, settings};

/// Cluster of the endpoint that gives a pod its certificate.
const IDENTITY_CLUSTER: &str = "osm-identity";
/// Name of the secret in [`names::TOKEN_SECRET_FILE`].
const TOKEN_SECRET: &str = "token_sds";

/// Where pods find the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlaneAddress {
    /// Host name or IP address ([`names::control_plane_host`]).
    pub host: String,
    /// Port of xDS.
    pub ads_port: u16,
    /// Port of the identity endpoint.
    pub identity_port: u16,
}

/// Where the sidecar finds the files of its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFiles {
    /// Folder of the projected token, which the kubelet renews in place.
    pub token: String,
    /// Folder of the roots, which the kubelet renews in place.
    pub trust_bundle: String,
    /// Folder into which [`PodBootstrap::files`] are written.
    pub configuration: String,
}

impl Default for PodFiles {
    fn default() -> Self {
        Self {
            token: names::TOKEN_FOLDER.to_owned(),
            trust_bundle: names::TRUST_BUNDLE_FOLDER.to_owned(),
            configuration: names::CONFIGURATION_FOLDER.to_owned(),
        }
    }
}

/// What a pod's bootstrap is made from. Nothing of it is secret, and neither is what is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodBootstrap {
    /// The pod's ServiceAccount and namespace.
    pub workload: Identity,
    /// Node id ([`names::node_id`]).
    pub node: String,
    /// The pod's addresses; the sidecar listens in their families.
    pub addresses: Vec<IpAddr>,
    /// Where the control plane is.
    pub control_plane: ControlPlaneAddress,
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// TLS towards the control plane (MeshConfig `spec.sidecar`).
    pub tls: TlsParameters,
    /// Probes to pass on.
    pub probes: Probes,
    /// Where files are.
    pub files: PodFiles,
}

impl PodBootstrap {
    /// All files of the folder [`PodFiles::configuration`], by name, as JSON.
    #[must_use]
    pub fn files(&self) -> [(&'static str, Value); 3] {
        [
            (names::TOKEN_SECRET_FILE, self.token_secret()),
            (names::ROOTS_SECRET_FILE, self.roots_secret()),
            (names::BOOTSTRAP_FILE, self.envoy()),
        ]
    }

    /// The bootstrap (`envoy.config.bootstrap.v3.Bootstrap`), as JSON.
    #[must_use]
    pub fn envoy(&self) -> Value {
        let mut clusters = vec![self.identity_cluster(), self.ads_cluster(), readiness::cluster()];
        clusters.extend(probes::clusters(&self.probes));
        let mut listeners = vec![readiness::listener(&self.addresses)];
        listeners.extend(probes::listeners(&self.probes, &self.addresses));
        common::bootstrap(Parts {
            node: self.node.clone(),
            cluster: format!("{}.{}", self.workload.service_account, self.workload.namespace),
            admin_port: osm_translate::naming::ADMIN_PORT,
            clusters,
            listeners,
        })
    }

    /// The pod proves itself by its token, which is read anew for every stream.
    fn identity_cluster(&self) -> Value {
        let injector = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
            "overwrite": true,
            "credential": {
                "name": "envoy.http.injected_credentials.generic",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
                    "credential": common::file_secret(TOKEN_SECRET, &self.configuration_file(names::TOKEN_SECRET_FILE)),
                },
            },
        });
        // The injector's own prefix came after Envoy 1.36.
        let scheme = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": { "request_mutations": [{ "append": {
                "header": { "key": "authorization", "value": "Bearer %REQ(authorization)%" },
                "append_action": "OVERWRITE_IF_EXISTS",
            } }] },
        });
        let codec = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
        });
        self.cluster(
            IDENTITY_CLUSTER,
            self.control_plane.identity_port,
            None,
            Some(json!([
                { "name": "envoy.filters.http.credential_injector", "typed_config": injector },
                { "name": "envoy.filters.http.header_mutation", "typed_config": scheme },
            { "name": "envoy.filters.http.upstream_codec", "typed_config": codec },
            ])),
        )
    }

    /// The proxy proves itself by the certificate that the identity endpoint gave it.
    fn ads_cluster(&self) -> Value {
        let certificate = json!({
            "name": names::CERTIFICATE_SECRET,
            "sds_config": {
                "api_config_source": common::grpc_source(IDENTITY_CLUSTER),
                "resource_api_version": "V3",
                "initial_fetch_timeout": "0s",
            },
        });
        self.cluster(common::CONTROL_PLANE_CLUSTER, self.control_plane.ads_port, Some(certificate), None)
    }

    fn cluster(&self, name: &str, port: u16, certificate: Option<Value>, http_filters: Option<Value>) -> Value {
        common::control_plane_cluster(Connection {
            name,
            discovery: Discovery::Name(&self.control_plane.host, port),
            server_name: common::control_plane_name(&self.trust_domain),
            tls_parameters: self.tls_parameters(),
            certificate,
            roots: common::file_secret(ROOTS_SECRET, &self.configuration_file(names::ROOTS_SECRET_FILE)),
            http_filters,
        })
    }

    /// As MeshConfig says, but for what the control plane does not speak: nothing older than TLS 1.2.
    fn tls_parameters(&self) -> Value {
        let maximum = match self.tls.maximum {
            TlsVersion::V1_0 | TlsVersion::V1_1 => TlsVersion::V1_2,
            maximum => maximum,
        };
        json!({
            "tls_minimum_protocol_version": settings::tls_version(self.tls.minimum),
            "tls_maximum_protocol_version": settings::tls_version(maximum),
            "cipher_suites": self.tls.cipher_suites,
            "ecdh_curves": self.tls.ecdh_curves,
        })
    }

    fn token_secret(&self) -> Value {
        let folder = &self.files.token;
        sds(&json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": TOKEN_SECRET,
            "generic_secret": { "secret": {
                "filename": format!("{folder}/{}", names::TOKEN_FILE),
                "watched_directory": { "path": folder },
            } },
        }))
    }

    fn roots_secret(&self) -> Value {
        let folder = &self.files.trust_bundle;
        sds(&json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": ROOTS_SECRET,
            "validation_context": {
                "trusted_ca": { "filename": format!("{folder}/{}", names::TRUST_BUNDLE_KEY) },
                "watched_directory": { "path": folder },
            },
        }))
    }

    fn configuration_file(&self, name: &str) -> String {
        format!("{}/{name}", self.files.configuration)
    }
}

/// An SDS response of one secret, as Envoy reads it from a file.
fn sds(secret: &Value) -> Value {
    json!({ "resources": [secret] })
}
