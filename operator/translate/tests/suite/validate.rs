//! Every resource, in every variant, is accepted by `envoy --mode validate`.

use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    Secret, UpstreamTlsContext, common_tls_context::ValidationContextType,
};
use envoy_types::pb::google::protobuf::Any;
use osm_model::{AccessLog, Egress, MeshSettings, PathMatch, Protocol, TlsVersion};
use osm_translate::{Resource, ResourceKind, SecretResource};
use prost::{Message as _, Name as _};

use crate::certificates::Authority;
use crate::envoy::{VERSIONS, bootstrap, validate};
use crate::everything::everything;
use crate::fixture::*;

/// Everything, as one static configuration. Route tables, which cannot stand alone, are put into listeners of their own.
fn static_resources(resources: &[Resource], secrets: &[SecretResource]) -> StaticResources {
    let mut all = StaticResources::default();
    for resource in resources {
        let body = resource.body.clone();
        match resource.kind {
            ResourceKind::Cluster => all.clusters.push(with_static_secrets(Cluster::decode(body).unwrap())),
            ResourceKind::Listener => all.listeners.push(Listener::decode(body).unwrap()),
            ResourceKind::Routes => all.listeners.push(listener_of(RouteConfiguration::decode(body).unwrap())),
            // These have no static form; they are accepted live.
            ResourceKind::Endpoints | ResourceKind::ScopedRoutes => {}
        }
    }
    all.secrets = secrets.iter().map(|secret| Secret::decode(secret.expose_body().clone()).unwrap()).collect();
    all
}

/// Envoy initializes a static cluster that is not of EDS before its ADS stream exists, and crashes on secrets that come
/// by it. Such a cluster gets its secrets from the static configuration here; over CDS there is no such order.
fn with_static_secrets(mut cluster: Cluster) -> Cluster {
    let eds = cluster.eds_cluster_config.is_some();
    if let Some(SocketConfig::TypedConfig(config)) =
        cluster.transport_socket.as_mut().and_then(|socket| socket.config_type.as_mut()).filter(|_| !eds)
    {
        let mut context = UpstreamTlsContext::decode(config.value.as_slice()).unwrap();
        let common = context.common_tls_context.as_mut().unwrap();
        common.tls_certificate_sds_secret_configs[0].sds_config = None;
        let Some(ValidationContextType::CombinedValidationContext(validation)) = &mut common.validation_context_type
        else {
            panic!("no peer names")
        };
        validation.validation_context_sds_secret_config.as_mut().unwrap().sds_config = None;
        config.value = context.encode_to_vec();
    }
    cluster
}

fn listener_of(table: RouteConfiguration) -> Listener {
    let any_listener = osm_translate::inbound(&view("v1", 1, Protocol::Http, http_policy(vec![])), &settings());
    let inbound = any_listener.iter().find(|resource| &*resource.name == "inbound-listener").unwrap();
    let chain = Listener::decode(inbound.body.clone()).unwrap().filter_chains.remove(0);
    let Some(ConfigType::TypedConfig(config)) = chain.filters[0].config_type.clone() else { panic!("no filter") };
    let mut manager = HttpConnectionManager::decode(config.value.as_slice()).unwrap();
    let name = format!("listener of {}", table.name);
    manager.route_specifier = Some(RouteSpecifier::RouteConfig(table));
    let config = Any { type_url: HttpConnectionManager::type_url(), value: manager.encode_to_vec() };
    let filter = Filter { config_type: Some(ConfigType::TypedConfig(config)), ..chain.filters[0].clone() };
    let listener = Listener {
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    };
    let resource = Resource {
        kind: ResourceKind::Listener,
        name: name.clone().into(),
        body: Listener { name, ..listener }.encode_to_vec().into(),
        origins: Vec::new(),
    };
    Listener::decode(moved(&resource, &[(loopback(), free_port()).into()]).body).unwrap()
}

async fn check(settings: &MeshSettings) {
    let authority = Authority::new();
    let leaf = authority.workload(&identity("v1"), &settings.trust_domain);
    let resources = static_resources(&everything(settings), &authority.secrets(&leaf));
    assert!(resources.listeners.len() > 10 && resources.clusters.len() > 15, "everything is there");
    for version in VERSIONS {
        let verdict = validate(version, &bootstrap(1, resources.clone())).await;
        assert_eq!(verdict, Ok(()), "Envoy {version}");
    }
}

#[tokio::test]
async fn defaults_are_accepted() {
    check(&settings()).await;
}

#[tokio::test]
async fn everything_switched_on_is_accepted() {
    check(&everything_switched_on()).await;
}

#[tokio::test]
async fn a_closed_mesh_is_accepted() {
    let mut settings = settings();
    settings.egress = Egress::Refuse;
    settings.access_log = AccessLog::Off;
    settings.tls.minimum = TlsVersion::Auto;
    settings.tls.maximum = TlsVersion::Auto;
    check(&settings).await;
}

/// The check above can fail.
#[tokio::test]
async fn a_wrong_expression_is_refused() {
    let policy = http_policy(vec![http_rule("t", "g", http_match(PathMatch::Regex("(".into()), &[]), &["buyer"])]);
    let resources = osm_translate::inbound(&view("v1", 14001, Protocol::Http, policy), &settings());
    for version in VERSIONS {
        let verdict = validate(version, &bootstrap(1, static_resources(&resources, &[]))).await.unwrap_err();
        assert!(verdict.contains("missing )"), "{verdict}");
    }
}
