//! The four ways to speak xDS.

use crate::resources::*;

/// How subscriptions and answers are expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Each request carries the whole list of names, each response the whole state (for wildcard types).
    StateOfTheWorld,
    /// Requests and responses carry changes.
    Delta,
}

/// Whether one stream carries every type or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The aggregated discovery service.
    Aggregated,
    /// The discovery service of a single type.
    Single,
}

/// One of the four variants every rule is checked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// How subscriptions and answers are expressed.
    pub protocol: Protocol,
    /// Whether one stream carries every type or one.
    pub path: Path,
}

impl Variant {
    /// State of the world on the aggregated service.
    pub const SOTW_ADS: Self = Self { protocol: Protocol::StateOfTheWorld, path: Path::Aggregated };
    /// Delta on the aggregated service.
    pub const DELTA_ADS: Self = Self { protocol: Protocol::Delta, path: Path::Aggregated };
    /// State of the world on a single type's service.
    pub const SOTW_SINGLE: Self = Self { protocol: Protocol::StateOfTheWorld, path: Path::Single };
    /// Delta on a single type's service.
    pub const DELTA_SINGLE: Self = Self { protocol: Protocol::Delta, path: Path::Single };

    /// Whether names are subscribed to by change.
    pub fn is_delta(self) -> bool {
        self.protocol == Protocol::Delta
    }

    /// The gRPC path on which resources of `type_url` are served.
    ///
    /// # Panics
    ///
    /// When the type has no single-type service.
    pub fn grpc_path(self, type_url: &str) -> ::http::uri::PathAndQuery {
        let (service, noun) = match self.path {
            Path::Aggregated => ("discovery.v3.AggregatedDiscoveryService", "AggregatedResources"),
            Path::Single => match type_url {
                CLUSTER => ("cluster.v3.ClusterDiscoveryService", "Clusters"),
                ENDPOINTS => ("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
                LISTENER => ("listener.v3.ListenerDiscoveryService", "Listeners"),
                ROUTE => ("route.v3.RouteDiscoveryService", "Routes"),
                SCOPED_ROUTE => ("route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes"),
                SECRET => ("secret.v3.SecretDiscoveryService", "Secrets"),
                VIRTUAL_HOST => ("route.v3.VirtualHostDiscoveryService", "VirtualHosts"),
                EXTENSION => ("extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"),
                RUNTIME => ("runtime.v3.RuntimeDiscoveryService", "Runtime"),
                other => panic!("{other} has no discovery service of its own"),
            },
        };
        let verb = match self.protocol {
            Protocol::StateOfTheWorld => "Stream",
            Protocol::Delta => "Delta",
        };
        format!("/envoy.service.{service}/{verb}{noun}").parse().expect("a path of fixed words")
    }
}
