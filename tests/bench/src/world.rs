//! The synthetic mesh that every server under measurement holds: numbered services, each an EDS cluster and its
//! endpoints, each at a *revision* that can be read back from the resource.
//!
//! The go-control-plane peer builds the same resources from the same numbers, so the bytes on the wire have equal size.

use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint_pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls_pb;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http_pb;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher_pb;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use prost::{Message, Name};

use cluster_pb::circuit_breakers::Thresholds;
use core_pb::config_source::ConfigSourceSpecifier;
use core_pb::socket_address::PortSpecifier;
use endpoint_pb::lb_endpoint::HostIdentifier;

/// Type URL of clusters.
pub const CLUSTER_TYPE: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type URL of the endpoints of a cluster.
pub const ENDPOINTS_TYPE: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// Endpoints of each service.
pub const ENDPOINTS_PER_SERVICE: u32 = 10;

/// How often a service's resource was changed since it was created. Zero is the state after `load`.
pub type Revision = u32;

/// The name of service `index`, which is also the name of its cluster and of its endpoints.
#[must_use]
pub fn service_name(index: u32) -> String {
    format!("namespace-{:02}/service-{index:05}|14001", index % 50)
}

fn ads() -> core_pb::ConfigSource {
    core_pb::ConfigSource {
        resource_api_version: core_pb::ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(core_pb::AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn secret(name: String) -> tls_pb::SdsSecretConfig {
    tls_pb::SdsSecretConfig { name, sds_config: Some(ads()) }
}

fn upstream_tls(index: u32) -> tls_pb::UpstreamTlsContext {
    let subject = tls_pb::SubjectAltNameMatcher {
        san_type: tls_pb::subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(matcher_pb::StringMatcher {
            match_pattern: Some(matcher_pb::string_matcher::MatchPattern::Exact(format!(
                "spiffe://cluster.local/ns/namespace-{:02}/sa/service-{index:05}",
                index % 50
            ))),
            ..Default::default()
        }),
        ..Default::default()
    };
    let validation = tls_pb::common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(tls_pb::CertificateValidationContext {
            match_typed_subject_alt_names: vec![subject],
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret("root-cert-for-mtls-outbound".to_owned())),
        ..Default::default()
    };
    tls_pb::UpstreamTlsContext {
        sni: format!("service-{index:05}.namespace-{:02}.svc.cluster.local", index % 50),
        common_tls_context: Some(tls_pb::CommonTlsContext {
            alpn_protocols: vec!["osm".to_owned(), "h2".to_owned()],
            tls_certificate_sds_secret_configs: vec![secret("service-cert".to_owned())],
            validation_context_type: Some(
                tls_pb::common_tls_context::ValidationContextType::CombinedValidationContext(validation),
            ),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The cluster's HTTP options, as the one entry of its map (so that the encoding has only one order).
fn http_options() -> (String, Any) {
    use upstream_http_pb::http_protocol_options::{self as options_pb, explicit_http_config::ProtocolConfig};
    let explicit = options_pb::ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(core_pb::Http2ProtocolOptions::default())),
    };
    let options = upstream_http_pb::HttpProtocolOptions {
        upstream_protocol_options: Some(options_pb::UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    let config = Any { type_url: upstream_http_pb::HttpProtocolOptions::type_url(), value: options.encode_to_vec() };
    ("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), config)
}

/// The EDS cluster of service `index`; `alt_stat_name` carries the revision.
#[must_use]
pub fn cluster(index: u32, revision: Revision) -> cluster_pb::Cluster {
    let name = service_name(index);
    let tls = upstream_tls(index);
    cluster_pb::Cluster {
        alt_stat_name: format!("{name}@{revision}"),
        name: name.clone(),
        cluster_discovery_type: Some(cluster_pb::cluster::ClusterDiscoveryType::Type(
            cluster_pb::cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cluster_pb::cluster::EdsClusterConfig { eds_config: Some(ads()), service_name: name }),
        connect_timeout: Some(Duration { seconds: 1, nanos: 0 }),
        circuit_breakers: Some(cluster_pb::CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: Some(UInt32Value { value: 4096 }),
                max_requests: Some(UInt32Value { value: 8192 }),
                ..Default::default()
            }],
            ..Default::default()
        }),
        typed_extension_protocol_options: [http_options()].into(),
        transport_socket: Some(core_pb::TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(core_pb::transport_socket::ConfigType::TypedConfig(Any {
                type_url: tls_pb::UpstreamTlsContext::type_url(),
                value: tls.encode_to_vec(),
            })),
        }),
        ..Default::default()
    }
}

fn endpoint(index: u32, number: u32, port: u32) -> endpoint_pb::LbEndpoint {
    let address = core_pb::SocketAddress {
        address: format!("10.{}.{}.{}", index / 250, index % 250, number + 1),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    endpoint_pb::LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint_pb::Endpoint {
            address: Some(core_pb::Address { address: Some(core_pb::address::Address::SocketAddress(address)) }),
            ..Default::default()
        })),
        load_balancing_weight: Some(UInt32Value { value: 1 }),
        ..Default::default()
    }
}

/// Port of a service's endpoints at revision 0; the first endpoint's port is this plus the revision.
const FIRST_PORT: u32 = 1024;

/// The endpoints of service `index`; the first endpoint's port carries the revision, which stays below 64,512.
#[must_use]
pub fn endpoints(index: u32, revision: Revision) -> endpoint_pb::ClusterLoadAssignment {
    let lb_endpoints = (0..ENDPOINTS_PER_SERVICE)
        .map(|number| endpoint(index, number, FIRST_PORT + if number == 0 { revision } else { 0 }))
        .collect();
    endpoint_pb::ClusterLoadAssignment {
        cluster_name: service_name(index),
        endpoints: vec![endpoint_pb::LocalityLbEndpoints {
            lb_endpoints,
            load_balancing_weight: Some(UInt32Value { value: 1 }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What a resource of this world says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name inside the message, which must equal the name on the wrapper.
    pub name: String,
    /// The revision written into it.
    pub revision: Revision,
}

/// Reads a resource of either type in full.
///
/// # Errors
/// When the bytes are not a message of `type_url`, or not one that this module builds.
pub fn identify(type_url: &str, body: &[u8]) -> Result<Identity, String> {
    match type_url {
        CLUSTER_TYPE => {
            let cluster = cluster_pb::Cluster::decode(body).map_err(|error| format!("cluster: {error}"))?;
            let revision = cluster
                .alt_stat_name
                .strip_prefix(cluster.name.as_str())
                .and_then(|rest| rest.strip_prefix('@'))
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| format!("cluster {:?}: no revision in {:?}", cluster.name, cluster.alt_stat_name))?;
            Ok(Identity { name: cluster.name, revision })
        }
        ENDPOINTS_TYPE => {
            let assignment =
                endpoint_pb::ClusterLoadAssignment::decode(body).map_err(|error| format!("endpoints: {error}"))?;
            let revision = first_port(&assignment)
                .and_then(|port| port.checked_sub(FIRST_PORT))
                .ok_or_else(|| format!("endpoints of {:?}: no revision", assignment.cluster_name))?;
            Ok(Identity { name: assignment.cluster_name, revision })
        }
        other => Err(format!("resource of unexpected type {other:?}")),
    }
}

fn first_port(assignment: &endpoint_pb::ClusterLoadAssignment) -> Option<u32> {
    let endpoint = assignment.endpoints.first()?.lb_endpoints.first()?;
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { return None };
    match endpoint.address.as_ref()?.address.as_ref()? {
        core_pb::address::Address::SocketAddress(core_pb::SocketAddress {
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..
        }) => Some(*port),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_tells_its_name_and_revision() {
        for (index, revision) in [(0, 0), (7, 1), (999, 4321)] {
            let expected = Identity { name: service_name(index), revision };
            assert_eq!(identify(CLUSTER_TYPE, &cluster(index, revision).encode_to_vec()), Ok(expected.clone()));
            assert_eq!(identify(ENDPOINTS_TYPE, &endpoints(index, revision).encode_to_vec()), Ok(expected));
        }
    }

    #[test]
    fn equal_resources_have_equal_bytes() {
        assert_eq!(cluster(5, 2).encode_to_vec(), cluster(5, 2).encode_to_vec());
        assert_eq!(endpoints(5, 2).encode_to_vec(), endpoints(5, 2).encode_to_vec());
        assert_ne!(cluster(5, 2).encode_to_vec(), cluster(5, 3).encode_to_vec());
    }

    #[test]
    fn the_size_is_that_of_a_mesh_resource() {
        assert!((550..650).contains(&cluster(123, 0).encode_to_vec().len()));
        assert!((250..350).contains(&endpoints(123, 0).encode_to_vec().len()));
    }
}
