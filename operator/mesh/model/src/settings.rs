//! Mesh-wide choices, from the MeshConfig object with OSM's defaults filled in.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::TrustDomain;

/// Traffic to destinations outside the mesh (MeshConfig `spec.traffic.enableEgress`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Egress {
    /// Passed through untouched.
    Allow,
    /// Refused.
    Refuse,
}

/// How the sidecar reaches its application (MeshConfig `spec.sidecar.localProxyMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum LocalProxyMode {
    /// On the IPv4 loopback address, or the IPv6 one where nothing listens on that.
    Localhost,
    /// On the pod's own address. The redirect rules of the pod do it: they turn what the sidecar sends to loopback. Envoy's
    /// configuration is the same in both modes.
    PodIp,
}

/// A TLS protocol version (MeshConfig `spec.sidecar.tlsMinProtocolVersion`, `tlsMaxProtocolVersion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TlsVersion {
    /// Envoy's choice.
    Auto,
    /// TLS 1.0.
    V1_0,
    /// TLS 1.1.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// TLS between sidecars.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TlsParameters {
    /// Lowest version accepted.
    pub minimum: TlsVersion,
    /// Highest version offered.
    pub maximum: TlsVersion,
    /// Cipher suites for TLS up to 1.2; empty means Envoy's defaults.
    pub cipher_suites: Vec<Arc<str>>,
    /// Key exchange curves; empty means Envoy's defaults.
    pub ecdh_curves: Vec<Arc<str>>,
}

/// Zipkin tracing (MeshConfig `spec.observability.tracing`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Tracing {
    /// Collector host name or address.
    pub address: Arc<str>,
    /// Collector port.
    pub port: u16,
    /// Path, for example `/api/v2/spans`.
    pub endpoint: Arc<str>,
}

/// External authorization on inbound HTTP (MeshConfig `spec.traffic.inboundExternalAuthorization`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ExternalAuthorization {
    /// gRPC host.
    pub address: Arc<str>,
    /// gRPC port.
    pub port: u16,
    /// Statistics prefix.
    pub stat_prefix: Arc<str>,
    /// How long one decision may take.
    pub timeout: Duration,
    /// Whether requests pass when the authorizer does not answer.
    pub failure_mode_allow: bool,
}

/// Where and whether sidecars log requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum AccessLog {
    /// JSON lines with OSM's field names on standard output.
    Stdout,
    /// None.
    Off,
}

/// Everything mesh-wide that reaches proxies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MeshSettings {
    /// Trust domain of certificates.
    pub trust_domain: TrustDomain,
    /// DNS suffix of the cluster, `cluster.local` unless configured; independent of the trust domain.
    pub cluster_domain: Arc<str>,
    /// Whether any workload may call any other (MeshConfig `spec.traffic.enablePermissiveTrafficPolicyMode`).
    pub permissive: bool,
    /// Destinations outside the mesh.
    pub egress: Egress,
    /// How sidecars reach their applications.
    pub local_proxy_mode: LocalProxyMode,
    /// TLS between sidecars.
    pub tls: TlsParameters,
    /// Tracing, when on.
    pub tracing: Option<Tracing>,
    /// External authorization, when on.
    pub external_authorization: Option<ExternalAuthorization>,
    /// Access logs.
    pub access_log: AccessLog,
    /// Ranges of ClusterIPs, ordered: configured, else learnt from Services.
    pub service_ranges: Vec<IpNet>,
}
