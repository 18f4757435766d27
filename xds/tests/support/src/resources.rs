//! Small Envoy resources whose content is told apart by a revision number.

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
            },
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, SocketAddress,
                TypedExtensionConfig, address, config_source::ConfigSourceSpecifier, data_source::Specifier,
                socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            listener::v3::Listener,
            route::v3::{RouteConfiguration, ScopedRouteConfiguration, VirtualHost},
        },
        extensions::transport_sockets::tls::v3::{GenericSecret, Secret, secret},
        service::runtime::v3::Runtime,
    },
    google::protobuf,
};
use prost::Message;

/// Type URL of clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type URL of cluster load assignments.
pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Type URL of listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type URL of route configurations.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Type URL of scoped route configurations.
pub const SCOPED_ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
/// Type URL of secrets.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Type URL of virtual hosts.
pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
/// Type URL of extension configurations.
pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// Type URL of runtime layers.
pub const RUNTIME: &str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";

/// The types that [`test_resource`] can make, in the order in which a change of all of them must be sent.
pub const TEST_TYPES: [&str; 6] = [CLUSTER, ENDPOINTS, SECRET, LISTENER, SCOPED_ROUTE, ROUTE];

/// The types with a wildcard.
pub const WILDCARD_TYPES: [&str; 3] = [CLUSTER, LISTENER, SCOPED_ROUTE];

/// How many fences a world holds for each type.
pub const FENCES: u32 = 64;

/// Name of a resource that exists only to be asked for, so that its answer proves that nothing came before.
pub fn fence(number: u32) -> String {
    assert!(number < FENCES, "a test may look for silence {FENCES} times on one stream");
    format!("fence-{number}")
}

/// Every resource in these tests: its type, its name and its encoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResource {
    /// Type URL.
    pub type_url: &'static str,
    /// Name by which it is asked for.
    pub name: String,
    /// The encoded message.
    pub value: Bytes,
}

fn resource(type_url: &'static str, name: &str, message: &impl Message) -> TestResource {
    TestResource { type_url, name: name.into(), value: message.encode_to_vec().into() }
}

/// A resource of any type the tests know; `revision` decides its content.
///
/// # Panics
///
/// When the type is not known.
pub fn test_resource(type_url: &str, name: &str, revision: u32) -> TestResource {
    match type_url {
        CLUSTER => static_cluster(name, revision),
        ENDPOINTS => endpoints(name, 1000 + u16::try_from(revision).expect("revisions are small")),
        LISTENER => listener(name, revision),
        ROUTE => route(name, revision),
        SCOPED_ROUTE => scoped_route(name, &format!("route-{revision}")),
        SECRET => generic_secret(name, &format!("secret-{revision}")),
        RUNTIME => runtime(name),
        EXTENSION => extension(name),
        other => panic!("no test resource of type {other}"),
    }
}

/// A cluster without endpoints of its own; the revision is its connect timeout in seconds.
pub fn static_cluster(name: &str, revision: u32) -> TestResource {
    let cluster = Cluster {
        name: name.into(),
        connect_timeout: Some(seconds(revision)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Cluster::default()
    };
    resource(CLUSTER, name, &cluster)
}

/// A cluster whose endpoints come by EDS over ADS under the same name; the revision is its connect timeout in seconds.
pub fn eds_cluster(name: &str, revision: u32) -> TestResource {
    let cluster = Cluster {
        name: name.into(),
        connect_timeout: Some(seconds(revision)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), ..EdsClusterConfig::default() }),
        ..Cluster::default()
    };
    resource(CLUSTER, name, &cluster)
}

/// Endpoints of a cluster: one on loopback at `port`.
pub fn endpoints(name: &str, port: u16) -> TestResource {
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(loopback(port)),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    let assignment = ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..LocalityLbEndpoints::default() }],
        ..ClusterLoadAssignment::default()
    };
    resource(ENDPOINTS, name, &assignment)
}

/// The answer for a cluster that has no endpoint now.
pub fn no_endpoints(name: &str) -> TestResource {
    let assignment = ClusterLoadAssignment { cluster_name: name.into(), ..ClusterLoadAssignment::default() };
    resource(ENDPOINTS, name, &assignment)
}

/// A listener that names no route; the revision is its statistics prefix. For the scripted client only.
pub fn listener(name: &str, revision: u32) -> TestResource {
    let listener = Listener { name: name.into(), stat_prefix: format!("revision-{revision}"), ..Listener::default() };
    resource(LISTENER, name, &listener)
}

/// A route configuration with one virtual host, which is named after the revision.
pub fn route(name: &str, revision: u32) -> TestResource {
    let configuration = RouteConfiguration {
        name: name.into(),
        virtual_hosts: vec![VirtualHost {
            name: format!("revision-{revision}"),
            domains: vec!["*".into()],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    };
    resource(ROUTE, name, &configuration)
}

/// A scope that leads to the route configuration `route`.
pub fn scoped_route(name: &str, route: &str) -> TestResource {
    let scope = ScopedRouteConfiguration {
        name: name.into(),
        route_configuration_name: route.into(),
        ..ScopedRouteConfiguration::default()
    };
    resource(SCOPED_ROUTE, name, &scope)
}

/// A runtime layer without keys.
pub fn runtime(name: &str) -> TestResource {
    resource(RUNTIME, name, &Runtime { name: name.into(), ..Runtime::default() })
}

/// The configuration of a filter that does nothing.
pub fn extension(name: &str) -> TestResource {
    let config = TypedExtensionConfig { name: name.into(), ..TypedExtensionConfig::default() };
    resource(EXTENSION, name, &config)
}

/// A generic secret that holds `text`.
pub fn generic_secret(name: &str, text: &str) -> TestResource {
    let source =
        DataSource { specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())), ..DataSource::default() };
    let secret = Secret {
        name: name.into(),
        r#type: Some(secret::Type::GenericSecret(GenericSecret { secret: Some(source), ..GenericSecret::default() })),
    };
    resource(SECRET, name, &secret)
}

/// A configuration source that means the stream it came on.
pub fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        initial_fetch_timeout: Some(seconds(15)),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// A loopback address.
pub fn loopback(port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: "127.0.0.1".into(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

fn seconds(seconds: u32) -> protobuf::Duration {
    protobuf::Duration { seconds: seconds.into(), nanos: 0 }
}
