//! Every name, path and port on which an injected pod, its bootstrap and the control plane must agree.

/// Audience of the token by which a pod proves who it is. No other service accepts such a token, and no other token is
/// accepted by the control plane.
pub const TOKEN_AUDIENCE: &str = "osm-mesh";
/// Life of the token in seconds; the kubelet renews it after four fifths (`serviceAccountToken.expirationSeconds`).
pub const TOKEN_EXPIRATION_SECONDS: i64 = 3600;
/// Volume of the projected token.
pub const TOKEN_VOLUME: &str = "osm-token";
/// Where that volume is mounted.
pub const TOKEN_FOLDER: &str = "/var/run/secrets/osm/token";
/// File of the token in the volume (`serviceAccountToken.path`).
pub const TOKEN_FILE: &str = "token";

/// ConfigMap with the roots of the mesh, in every namespace of the mesh.
pub const TRUST_BUNDLE_CONFIG_MAP: &str = "osm-trust-bundle";
/// Key of the roots in the ConfigMap, and their file in the volume: PEM.
pub const TRUST_BUNDLE_KEY: &str = "ca.crt";
/// Volume of the ConfigMap.
pub const TRUST_BUNDLE_VOLUME: &str = "osm-trust-bundle";
/// Where that volume is mounted.
pub const TRUST_BUNDLE_FOLDER: &str = "/var/run/secrets/osm/trust-bundle";

/// Volume in memory into which the init container writes what Envoy starts with.
pub const CONFIGURATION_VOLUME: &str = "osm-bootstrap";
/// Where that volume is mounted, in the init container and, read-only, in the sidecar.
pub const CONFIGURATION_FOLDER: &str = "/etc/envoy";
/// The bootstrap in [`CONFIGURATION_FOLDER`].
pub const BOOTSTRAP_FILE: &str = "bootstrap.json";
/// Beside it: where the token is, as an SDS response.
pub const TOKEN_SECRET_FILE: &str = "token_sds_secret.json";
/// Beside it: where the roots are, as an SDS response.
pub const ROOTS_SECRET_FILE: &str = "validation_context_sds_secret.json";

/// Init container that sets the redirect rules and writes the bootstrap.
pub const INIT_CONTAINER: &str = "osm-init";
/// The sidecar.
pub const PROXY_CONTAINER: &str = "envoy";
/// Container that answers probes which Envoy cannot (TCP, gRPC, further HTTPS ones).
pub const HEALTH_CHECK_CONTAINER: &str = "osm-healthcheck";
/// User and group of the sidecar; its connections are not redirected.
pub const PROXY_UID: i64 = 1500;

/// Listener of rewritten liveness probes.
pub const LIVENESS_PORT: u16 = 15901;
/// Listener of rewritten readiness probes.
pub const READINESS_PORT: u16 = 15902;
/// Listener of rewritten startup probes.
pub const STARTUP_PORT: u16 = 15903;
/// Where [`HEALTH_CHECK_CONTAINER`] answers.
pub const HEALTH_CHECK_PORT: u16 = 15904;
/// Where the sidecar says whether it is configured; not redirected, so good before anything else is.
pub const PROXY_READINESS_PORT: u16 = 15905;
/// Path on [`PROXY_READINESS_PORT`]: 200 once the first complete configuration came from the control plane and is in use,
/// until the proxy drains. Nothing else is served there.
pub const PROXY_READINESS_PATH: &str = "/ready";

/// Path on [`HEALTH_CHECK_PORT`].
pub const HEALTH_CHECK_PATH: &str = "/osm-healthcheck";
/// Header of a TCP probe: the port to connect to.
pub const TCP_PORT_HEADER: &str = "Original-Tcp-Port";
/// Header of a gRPC probe: the port to ask.
pub const GRPC_PORT_HEADER: &str = "Original-Grpc-Port";
/// Header of a gRPC probe: the service to ask about; without it the server as a whole.
pub const GRPC_SERVICE_HEADER: &str = "Original-Grpc-Service";
/// Header of an HTTPS probe: the port to ask.
pub const HTTPS_PORT_HEADER: &str = "Original-Https-Port";
/// Header of an HTTPS probe: path and query; without it `/`.
pub const HTTPS_PATH_HEADER: &str = "Original-Https-Path";

/// Service of the control plane.
pub const CONTROL_PLANE_SERVICE: &str = "osm-controller";
/// Port of that Service on which it serves xDS, by mutual TLS.
pub const ADS_PORT: u16 = 15128;
/// Port of that Service on which a pod gets the certificate for [`ADS_PORT`] in exchange for its token.
pub const IDENTITY_PORT: u16 = 15129;

/// Name of the secret that the identity endpoint serves: the proxy's certificate and key.
pub const CERTIFICATE_SECRET: &str = osm_translate::naming::PROXY_CERTIFICATE_SECRET;

/// The node id of the sidecar of a pod. A name is used again after a pod's end (as in a StatefulSet), a uid never is.
#[must_use]
pub fn node_id(pod_name: &str, pod_uid: &str) -> String {
    format!("{pod_name}.{pod_uid}")
}

/// The host at which pods find the control plane of `namespace`. The dot at the end keeps resolvers from trying search
/// domains first.
#[must_use]
pub fn control_plane_host(namespace: &str, cluster_domain: &str) -> String {
    format!("{CONTROL_PLANE_SERVICE}.{namespace}.svc.{cluster_domain}.")
}
