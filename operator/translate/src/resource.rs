//! What a translation yields: an Envoy resource as finished bytes, with the objects it comes from.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration};
use osm_model::{ObjectId, Origin, ServiceId};
use prost::{Message, Name};

/// The xDS type of a [`Resource`]. Secrets are of another Rust type, [`SecretResource`](crate::SecretResource).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoints,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.ScopedRouteConfiguration` (SRDS).
    ScopedRoutes,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Routes,
}

impl ResourceKind {
    /// The type URL under which xDS transports it.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::ScopedRoutes => "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }
}

/// One Envoy resource. Equal inputs give equal bytes, on any machine.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Its xDS type.
    pub kind: ResourceKind,
    /// Its xDS name, equal to the name inside the message.
    pub name: Arc<str>,
    /// The encoded message (not wrapped in `Any`).
    pub body: Bytes,
    /// The objects that made it as it is, ordered, without duplicates. Mesh-wide settings are not listed: they are behind
    /// every resource.
    pub origins: Vec<Origin>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} ({} bytes) from {:?}", self.kind, self.name, self.body.len(), self.origins)
    }
}

/// A message that is an xDS resource: ties the Rust type to the xDS type and to where its name is.
pub(crate) trait ResourceMessage: Message + Name {
    const KIND: ResourceKind;

    fn resource_name(&self) -> &str;
}

macro_rules! resource_message {
    ($message:ty, $kind:ident, $name:ident) => {
        impl ResourceMessage for $message {
            const KIND: ResourceKind = ResourceKind::$kind;

            fn resource_name(&self) -> &str {
                &self.$name
            }
        }
    };
}

resource_message!(Cluster, Cluster, name);
resource_message!(ClusterLoadAssignment, Endpoints, cluster_name);
resource_message!(Listener, Listener, name);
resource_message!(ScopedRouteConfiguration, ScopedRoutes, name);
resource_message!(RouteConfiguration, Routes, name);

impl Resource {
    /// Encodes `message`.
    pub(crate) fn new<M: ResourceMessage>(message: &M, origins: impl IntoIterator<Item = Origin>) -> Self {
        let mut origins: Vec<Origin> = origins.into_iter().collect();
        origins.sort();
        origins.dedup();
        Self { kind: M::KIND, name: message.resource_name().into(), body: message.encode_to_vec().into(), origins }
    }
}

/// The Service object as the origin of what is translated from it. The vocabulary does not carry its generation.
pub(crate) fn service_origin(service: &ServiceId) -> Origin {
    Origin {
        object: ObjectId::new("service", service.namespace.as_str(), &service.name),
        field: "spec".into(),
        generation: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_urls_are_those_of_the_messages() {
        assert_eq!(ResourceKind::Cluster.type_url(), Cluster::type_url());
        assert_eq!(ResourceKind::Endpoints.type_url(), ClusterLoadAssignment::type_url());
        assert_eq!(ResourceKind::Listener.type_url(), Listener::type_url());
        assert_eq!(ResourceKind::ScopedRoutes.type_url(), ScopedRouteConfiguration::type_url());
        assert_eq!(ResourceKind::Routes.type_url(), RouteConfiguration::type_url());
    }
}
