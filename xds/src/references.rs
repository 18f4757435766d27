//! Names that resources refer to, to check that a snapshot is closed under reference.

use std::collections::BTreeSet;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::core::v3::{ConfigSource, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, RequestMirrorPolicy};
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::scoped_routes::ConfigSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier as TcpCluster;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::type_url::TypeUrl;

/// A name that a resource refers to and that the snapshot does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DanglingReference {
    /// The type of the resource that refers.
    pub from_type: TypeUrl,
    /// Its name.
    pub from: Arc<str>,
    /// The type of what is missing.
    pub type_url: TypeUrl,
    /// The name of what is missing.
    pub name: String,
}

impl Snapshot {
    /// What resources of this snapshot refer to and it does not hold: endpoints of EDS clusters, secrets fetched over
    /// the same stream, route tables of listeners and scopes, clusters of routes and TCP proxies. Those of a TCP proxy
    /// that fetches its cluster on demand do not count. Decodes every resource: meant for tests.
    #[must_use]
    pub fn dangling(&self) -> BTreeSet<DanglingReference> {
        let mut dangling = BTreeSet::new();
        for entry in self.iter() {
            let resource = &entry.resource;
            for (type_url, name) in references(resource) {
                if self.get(&type_url, &name).is_none() {
                    dangling.insert(DanglingReference {
                        from_type: resource.type_url().clone(),
                        from: Arc::clone(resource.name()),
                        type_url,
                        name,
                    });
                }
            }
        }
        dangling
    }
}

type References = BTreeSet<(TypeUrl, String)>;

/// What a resource refers to. Parts that do not decode refer to nothing.
fn references(resource: &Resource) -> References {
    let mut found = References::new();
    let bytes = resource.any_bytes();
    match resource.type_url() {
        TypeUrl::Cluster => {
            if let Some(name) = resource.endpoints_name() {
                found.insert((TypeUrl::ClusterLoadAssignment, name.to_string()));
            }
            if let Ok(cluster) = Cluster::decode(bytes) {
                let matches = cluster.transport_socket_matches.into_iter();
                let sockets = matches.filter_map(|each| each.transport_socket);
                for socket in sockets.chain(cluster.transport_socket) {
                    of_transport_socket(&socket, &mut found);
                }
            }
        }
        TypeUrl::Listener => {
            if let Ok(listener) = Listener::decode(bytes) {
                for chain in listener.filter_chains.iter().chain(&listener.default_filter_chain) {
                    of_filter_chain(chain, &mut found);
                }
            }
        }
        TypeUrl::ScopedRouteConfiguration => {
            if let Ok(scope) = ScopedRouteConfiguration::decode(bytes) {
                of_scope(&scope, &mut found);
            }
        }
        TypeUrl::RouteConfiguration => {
            if let Ok(table) = RouteConfiguration::decode(bytes) {
                of_route_table(&table, &mut found);
            }
        }
        TypeUrl::VirtualHost => {
            if let Ok(host) = VirtualHost::decode(bytes) {
                of_virtual_host(&host, &mut found);
            }
        }
        TypeUrl::ClusterLoadAssignment
        | TypeUrl::Secret
        | TypeUrl::ExtensionConfig
        | TypeUrl::Runtime
        | TypeUrl::Other(_) => {}
    }
    found
}

/// The message in an `Any` if it is of this type.
fn unpack<M: Message + Name + Default>(any: &Any) -> Option<M> {
    if any.type_url == M::type_url() { M::decode(any.value.as_slice()).ok() } else { None }
}

/// Whether a resource comes over the stream that delivers the snapshot.
fn is_from_here(source: Option<&ConfigSource>) -> bool {
    matches!(
        source.and_then(|source| source.config_source_specifier.as_ref()),
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_))
    )
}

fn of_transport_socket(socket: &TransportSocket, found: &mut References) {
    let Some(SocketConfig::TypedConfig(any)) = &socket.config_type else {
        return;
    };
    let common = unpack::<UpstreamTlsContext>(any)
        .and_then(|context| context.common_tls_context)
        .or_else(|| unpack::<DownstreamTlsContext>(any).and_then(|context| context.common_tls_context));
    if let Some(common) = common {
        of_tls(&common, found);
    }
}

fn of_tls(context: &CommonTlsContext, found: &mut References) {
    let validation = match &context.validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => Some(config),
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.validation_context_sds_secret_config.as_ref()
        }
        _ => None,
    };
    let secrets: Vec<&SdsSecretConfig> = context.tls_certificate_sds_secret_configs.iter().chain(validation).collect();
    for secret in secrets {
        if is_from_here(secret.sds_config.as_ref()) {
            found.insert((TypeUrl::Secret, secret.name.clone()));
        }
    }
}

fn of_filter_chain(chain: &FilterChain, found: &mut References) {
    if let Some(socket) = &chain.transport_socket {
        of_transport_socket(socket, found);
    }
    for filter in &chain.filters {
        let Some(FilterConfig::TypedConfig(any)) = &filter.config_type else {
            continue;
        };
        if let Some(manager) = unpack::<HttpConnectionManager>(any) {
            of_connection_manager(&manager, found);
        } else if let Some(proxy) = unpack::<TcpProxy>(any) {
            of_tcp_proxy(&proxy, found);
        }
    }
}

fn of_connection_manager(manager: &HttpConnectionManager, found: &mut References) {
    match &manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) if is_from_here(rds.config_source.as_ref()) => {
            found.insert((TypeUrl::RouteConfiguration, rds.route_config_name.clone()));
        }
        Some(RouteSpecifier::RouteConfig(table)) => of_route_table(table, found),
        Some(RouteSpecifier::ScopedRoutes(scoped)) => {
            if let Some(ConfigSpecifier::ScopedRouteConfigurationsList(list)) = &scoped.config_specifier {
                for scope in &list.scoped_route_configurations {
                    of_scope(scope, found);
                }
            }
        }
        Some(RouteSpecifier::Rds(_)) | None => {}
    }
}

fn of_scope(scope: &ScopedRouteConfiguration, found: &mut References) {
    if !scope.route_configuration_name.is_empty() {
        found.insert((TypeUrl::RouteConfiguration, scope.route_configuration_name.clone()));
    }
    if let Some(table) = &scope.route_configuration {
        of_route_table(table, found);
    }
}

fn of_tcp_proxy(proxy: &TcpProxy, found: &mut References) {
    if proxy.on_demand.is_some() {
        return;
    }
    match &proxy.cluster_specifier {
        Some(TcpCluster::Cluster(name)) => of_cluster(name, found),
        Some(TcpCluster::WeightedClusters(weighted)) => {
            for cluster in &weighted.clusters {
                of_cluster(&cluster.name, found);
            }
        }
        None => {}
    }
}

fn of_route_table(table: &RouteConfiguration, found: &mut References) {
    of_mirrors(&table.request_mirror_policies, found);
    for host in &table.virtual_hosts {
        of_virtual_host(host, found);
    }
}

fn of_virtual_host(host: &VirtualHost, found: &mut References) {
    of_mirrors(&host.request_mirror_policies, found);
    for route in &host.routes {
        let Some(Action::Route(action)) = &route.action else {
            continue;
        };
        of_mirrors(&action.request_mirror_policies, found);
        match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => of_cluster(name, found),
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                for cluster in &weighted.clusters {
                    of_cluster(&cluster.name, found);
                }
            }
            _ => {}
        }
    }
}

fn of_mirrors(mirrors: &[RequestMirrorPolicy], found: &mut References) {
    for mirror in mirrors {
        of_cluster(&mirror.cluster, found);
    }
}

fn of_cluster(name: &str, found: &mut References) {
    if !name.is_empty() {
        found.insert((TypeUrl::Cluster, name.to_owned()));
    }
}
