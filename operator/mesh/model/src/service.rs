//! What can be reached: services, their ports, endpoints and traffic splits.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::{HttpMatch, Identity, Origin, ServiceId};

/// What a port speaks. HTTP versions are mirrored from the caller, so HTTP/1.1, HTTP/2 and WebSocket are all [`Self::Http`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2, as the client speaks it.
    Http,
    /// gRPC: HTTP/2 with gRPC's own semantics for retries and statistics.
    Grpc,
    /// A byte stream in which the client speaks first, or nothing is known.
    Tcp,
    /// A byte stream in which the server may speak first (MySQL, SMTP): nothing may wait for the client's bytes.
    TcpServerFirst,
}

impl Protocol {
    /// Whether requests are seen (routes, splits by match, per-route access) or only connections.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Grpc)
    }
}

/// One port of a [`MeshService`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MeshPort {
    /// The Service's port number, which clients dial.
    pub port: u16,
    /// The port number of the pods (EndpointSlice `ports[].port`, else a numeric `targetPort`, else `port`).
    pub target_port: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

/// How clients address a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Addressing {
    /// By ClusterIPs (one per family), in order.
    ClusterIp(Vec<IpAddr>),
    /// Headless: by the addresses of its pods.
    Headless,
}

/// A Service of a meshed namespace with what is known of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MeshService {
    /// Which Service.
    pub id: ServiceId,
    /// How it is addressed.
    pub addressing: Addressing,
    /// Its ports, ordered by port number.
    pub ports: Vec<MeshPort>,
}

/// Whether an endpoint takes new traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum EndpointReadiness {
    /// EndpointSlice condition `ready` is true or absent.
    Ready,
    /// Terminating but still serving: used only when nothing else is ready.
    Draining,
    /// Not ready: not sent, but its identity counts.
    NotReady,
}

/// One address behind a service port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Endpoint {
    /// The pod's address.
    pub address: IpAddr,
    /// The port on the pod.
    pub port: u16,
    /// Whether it takes traffic.
    pub readiness: EndpointReadiness,
    /// The identity of the pod behind it; `None` when the address belongs to no pod we know (not in the mesh).
    pub identity: Option<Identity>,
}

/// A weighted destination of a traffic split.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Backend {
    /// The backend Service, in the split's namespace.
    pub service: ServiceId,
    /// Its port that serves the apex's port.
    pub port: MeshPort,
    /// Relative weight; 0 receives nothing.
    pub weight: u32,
}

/// One rule of a traffic split (TrafficSplit v1alpha4 has matches; v1alpha2 is one rule that matches everything).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SplitRule {
    /// Requests it applies to; empty means all.
    pub matches: Vec<HttpMatch>,
    /// Where they go, in the order of the object; the sum of weights is positive.
    pub backends: Vec<Backend>,
    /// The TrafficSplit.
    pub origin: Origin,
}

/// What happens to traffic that a client sends to a service port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TrafficRouting {
    /// To the service's own endpoints.
    Direct,
    /// By rules, most specific first; a request that none matches goes to the service's own endpoints.
    Split(Arc<[SplitRule]>),
}
