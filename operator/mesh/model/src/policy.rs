//! Who may: access rules at a destination.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::{HttpMatch, Identity, Origin};

/// A set of callers. Empty admits nobody.
pub type Principals = BTreeSet<Identity>;

/// One kind of request that some callers may make (a TrafficTarget's rule on one HTTPRouteGroup match).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct HttpRule {
    /// The requests.
    pub matches: HttpMatch,
    /// Name of the route in Envoy: `httproutegroup/ns/name/match`.
    pub route: Arc<str>,
    /// The callers.
    pub principals: Principals,
    /// The TrafficTarget (first) and the HTTPRouteGroup.
    pub origins: Vec<Origin>,
}

/// Callers that may open connections (a TrafficTarget's rule on a TCPRoute).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TcpRule {
    /// The callers.
    pub principals: Principals,
    /// The TrafficTarget (first) and the TCPRoute.
    pub origins: Vec<Origin>,
}

/// What an inbound port accepts. Mutual TLS with a workload certificate of the mesh is required in every case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum InboundPolicy {
    /// Any workload of the mesh.
    Permissive,
    /// HTTP port: only what a rule allows. Ordered by [`HttpMatch`]'s order, then route name. Empty: nothing.
    Http(Arc<[HttpRule]>),
    /// TCP port: only callers named. Empty: nobody.
    Tcp(Arc<[TcpRule]>),
}
