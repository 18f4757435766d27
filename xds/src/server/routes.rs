//! Which method of which service a request's path names.

use crate::policy::{Service, Variant};
use crate::type_url::TypeUrl;

/// Service and form of the protocol behind a path; `None` for a path that is not xDS.
pub(super) fn route(path: &str) -> Option<(Service, Variant)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (service, stem) = match service {
        "envoy.service.discovery.v3.AggregatedDiscoveryService" => (Service::Aggregated, "AggregatedResources"),
        "envoy.service.cluster.v3.ClusterDiscoveryService" => (Service::Single(TypeUrl::Cluster), "Clusters"),
        "envoy.service.endpoint.v3.EndpointDiscoveryService" => {
            (Service::Single(TypeUrl::ClusterLoadAssignment), "Endpoints")
        }
        "envoy.service.listener.v3.ListenerDiscoveryService" => (Service::Single(TypeUrl::Listener), "Listeners"),
        "envoy.service.route.v3.RouteDiscoveryService" => (Service::Single(TypeUrl::RouteConfiguration), "Routes"),
        "envoy.service.route.v3.ScopedRoutesDiscoveryService" => {
            (Service::Single(TypeUrl::ScopedRouteConfiguration), "ScopedRoutes")
        }
        "envoy.service.route.v3.VirtualHostDiscoveryService" => (Service::Single(TypeUrl::VirtualHost), "VirtualHosts"),
        "envoy.service.secret.v3.SecretDiscoveryService" => (Service::Single(TypeUrl::Secret), "Secrets"),
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService" => {
            (Service::Single(TypeUrl::ExtensionConfig), "ExtensionConfigs")
        }
        "envoy.service.runtime.v3.RuntimeDiscoveryService" => (Service::Single(TypeUrl::Runtime), "Runtime"),
        _ => return None,
    };
    let variant = match method.strip_suffix(stem)? {
        // Virtual hosts have no state-of-the-world method.
        "Stream" if service != Service::Single(TypeUrl::VirtualHost) => Variant::StateOfTheWorld,
        "Delta" => Variant::Delta,
        _ => return None,
    };
    Some((service, variant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_service_and_variant() {
        let of = |path| route(path);
        assert_eq!(
            of("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"),
            Some((Service::Aggregated, Variant::Delta))
        );
        assert_eq!(
            of("/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"),
            Some((Service::Single(TypeUrl::ClusterLoadAssignment), Variant::StateOfTheWorld))
        );
        for path in [
            "/envoy.service.route.v3.VirtualHostDiscoveryService/StreamVirtualHosts",
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/FetchEndpoints",
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamClusters",
            "/grpc.health.v1.Health/Check",
            "/",
            "",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
