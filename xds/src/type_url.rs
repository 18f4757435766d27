//! The kinds of resource Envoy's protocol carries, in the order in which they are sent.

use std::fmt;
use std::sync::Arc;

/// The type of a resource, as in `DiscoveryRequest.type_url`.
///
/// The order of the variants is the order in which one change is sent on an aggregated stream: what is referred to goes
/// before what refers to it. Types this library has no rules for are kept as text and sort last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeUrl {
    /// `envoy.config.cluster.v3.Cluster`, the clusters (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`, the endpoints of a cluster (EDS).
    ClusterLoadAssignment,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`, certificates, keys and trust bundles (SDS).
    Secret,
    /// `envoy.config.core.v3.TypedExtensionConfig`, a filter's configuration (ECDS).
    ExtensionConfig,
    /// `envoy.config.listener.v3.Listener`, the listeners (LDS).
    Listener,
    /// `envoy.config.route.v3.ScopedRouteConfiguration`, which route table serves which scope (SRDS).
    ScopedRouteConfiguration,
    /// `envoy.config.route.v3.RouteConfiguration`, the route tables (RDS).
    RouteConfiguration,
    /// `envoy.config.route.v3.VirtualHost`, virtual hosts on demand (VHDS).
    VirtualHost,
    /// `envoy.service.runtime.v3.Runtime`, a layer of runtime keys (RTDS).
    Runtime,
    /// Any other type; the full URL.
    Other(Arc<str>),
}

const PREFIX: &str = "type.googleapis.com/";

impl TypeUrl {
    /// Every type this library knows, in send order.
    pub const KNOWN: [Self; 9] = [
        Self::Cluster,
        Self::ClusterLoadAssignment,
        Self::Secret,
        Self::ExtensionConfig,
        Self::Listener,
        Self::ScopedRouteConfiguration,
        Self::RouteConfiguration,
        Self::VirtualHost,
        Self::Runtime,
    ];

    /// Reads a type URL. Never fails: an unknown one is kept as text.
    #[must_use]
    pub fn parse(url: &str) -> Self {
        Self::KNOWN.into_iter().find(|known| known.as_str() == url).unwrap_or_else(|| Self::Other(Arc::from(url)))
    }

    /// The full URL, `type.googleapis.com/` and the message's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::ClusterLoadAssignment => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::ExtensionConfig => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::ScopedRouteConfiguration => "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
            Self::RouteConfiguration => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
            Self::Other(url) => url,
        }
    }

    /// The message's name alone, for logs and metric labels: `Cluster`, `Listener`.
    #[must_use]
    pub fn short_name(&self) -> &str {
        let full = self.as_str().strip_prefix(PREFIX).unwrap_or(self.as_str());
        full.rsplit('.').next().unwrap_or(full)
    }

    /// Whether a first request without names means "everything" (the legacy wildcard). In state-of-the-world streams
    /// these are also the types whose every response is the complete state, so that absence means removal.
    #[must_use]
    pub const fn is_wildcard_capable(&self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::ScopedRouteConfiguration)
    }

    /// Whether bytes of this type are secret and must not appear in logs or dumps.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret)
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_survive_a_round_trip_and_agree_with_the_messages() {
        use envoy_types::pb::envoy::config::{cluster, core, endpoint, listener, route};
        use envoy_types::pb::envoy::extensions::transport_sockets::tls;
        use envoy_types::pb::envoy::service::runtime;
        use prost::Name;
        for known in TypeUrl::KNOWN {
            assert_eq!(TypeUrl::parse(known.as_str()), known);
        }
        let from_messages = [
            cluster::v3::Cluster::type_url(),
            endpoint::v3::ClusterLoadAssignment::type_url(),
            tls::v3::Secret::type_url(),
            core::v3::TypedExtensionConfig::type_url(),
            listener::v3::Listener::type_url(),
            route::v3::ScopedRouteConfiguration::type_url(),
            route::v3::RouteConfiguration::type_url(),
            route::v3::VirtualHost::type_url(),
            runtime::v3::Runtime::type_url(),
        ];
        assert_eq!(from_messages.map(|url| TypeUrl::parse(&url)), TypeUrl::KNOWN);
    }

    #[test]
    fn send_order_puts_what_is_referred_to_first() {
        let mut sorted = TypeUrl::KNOWN;
        sorted.sort();
        assert_eq!(sorted, TypeUrl::KNOWN);
        assert!(TypeUrl::parse("type.googleapis.com/x.Y") > TypeUrl::Runtime);
        assert_eq!(TypeUrl::parse("type.googleapis.com/x.Y").short_name(), "Y");
    }
}
