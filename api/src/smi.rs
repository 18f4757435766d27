//! The groups of the Service Mesh Interface (SMI): who may call whom, by which routes, and how calls are split.

mod http_route_group;
mod tcp_route;
mod traffic_split;
mod traffic_target;

pub use http_route_group::{HttpMatch, HttpMethod, HttpRouteGroup, HttpRouteGroupSpec};
pub use tcp_route::{TcpMatch, TcpRoute, TcpRouteSpec};
pub use traffic_split::{
    TrafficSplit, TrafficSplitBackend, TrafficSplitMatch, TrafficSplitMatchKind, TrafficSplitSpec,
};
pub use traffic_target::{
    IdentityReference, TrafficTarget, TrafficTargetRule, TrafficTargetRuleKind, TrafficTargetSpec,
};
