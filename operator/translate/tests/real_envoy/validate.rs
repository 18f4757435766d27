//! Every resource, in every variant, is accepted by `envoy --mode validate`.

use std::time::Duration;

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
use osm_model::{
    AccessLog, Addressing, Egress, ExternalAuthorization, HeaderMatch, HttpMatch, InboundPolicy, LocalProxyMode,
    MeshSettings, PathMatch, Protocol, TlsVersion, Tracing, TrafficRouting,
};
use osm_translate::{Resource, ResourceKind, SecretResource};
use prost::{Message as _, Name as _};

use crate::certificates::Authority;
use crate::envoy::{VERSIONS, bootstrap, validate};
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

/// Policies that use every kind of condition, some hard to write down.
fn every_condition() -> InboundPolicy {
    let long = "(".to_owned() + &["/some/longer/alternative/[a-z0-9]+"; 40].join("|") + ")";
    let conditions = [
        HttpMatch::any(),
        http_match(PathMatch::Exact("/exact".into()), &["GET"]),
        http_match(PathMatch::Prefix("/prefix".into()), &["GET", "POST", "X.Y*Z"]),
        http_match(PathMatch::Prefix("/prefix/with/slash/".into()), &[]),
        http_match(PathMatch::Prefix("/".into()), &["DELETE"]),
        http_match(PathMatch::Regex("/books/[0-9]+(\\?.*)?".into()), &[]),
        http_match(PathMatch::Regex(long.into()), &["PUT"]),
        HttpMatch {
            headers: vec![
                HeaderMatch { name: ":authority".into(), value: "bookstore.*".into() },
                HeaderMatch { name: "user-agent".into(), value: ".*-http-client/1\\.[01]".into() },
            ],
            ..HttpMatch::any()
        },
    ];
    let rules = conditions.into_iter().enumerate();
    let mut rules: Vec<_> = rules
        .map(|(index, condition)| {
            http_rule(&format!("target-{index}"), &format!("group-{index}"), condition, &["buyer", "api.v1"])
        })
        .collect();
    rules.push(http_rule("nobody", "nobody", HttpMatch::any(), &[]));
    http_policy(rules)
}

/// A mesh that has one of everything.
fn everything(settings: &MeshSettings) -> Vec<Resource> {
    let cluster_ip = || Addressing::ClusterIp(vec!["10.96.0.5".parse().unwrap(), "fd00:96::5".parse().unwrap()]);
    let apex = service("bookstore", cluster_ip(), 14001, Protocol::Http);
    let v1 = service("v1", cluster_ip(), 14002, Protocol::Grpc);
    let stateful = service("stateful", Addressing::Headless, 14003, Protocol::Http);
    let ledger =
        service("ledger", Addressing::ClusterIp(vec!["10.96.0.6".parse().unwrap()]), 3306, Protocol::TcpServerFirst);
    let queue = service("queue", Addressing::Headless, 5672, Protocol::Tcp);
    let conditional = osm_model::SplitRule {
        matches: vec![http_match(PathMatch::Prefix("/new".into()), &["GET", "PUT"])],
        ..split("conditional", &[(&v1, 1), (&stateful, u32::MAX), (&apex, u32::MAX)])
    };
    let splits = TrafficRouting::Split([conditional, split("always", &[(&v1, 30), (&apex, 70)])].into());
    let pods = ["10.1.0.1".parse().unwrap(), "fd00:10::1".parse().unwrap()];

    let mut all = vec![
        osm_translate::outbound_listener(settings),
        osm_translate::outbound_http_listener(14001, settings),
        osm_translate::shared_route_table(),
        osm_translate::outside_route_table(),
        osm_translate::passthrough_cluster(),
    ];
    all.extend(settings.tracing.as_ref().map(osm_translate::tracing_cluster));
    all.extend(settings.external_authorization.as_ref().map(osm_translate::external_authorization_cluster));
    for (service, routing) in [
        (&apex, splits.clone()),
        (&v1, TrafficRouting::Direct),
        (&stateful, splits.clone()),
        (&ledger, splits),
        (&queue, TrafficRouting::Direct),
    ] {
        let destination = destination(service, &["v1", "v2"]);
        let addresses: Vec<_> = match &service.addressing {
            Addressing::ClusterIp(addresses) => addresses.clone(),
            Addressing::Headless => pods.to_vec(),
        };
        all.extend(osm_translate::clusters(&destination, settings).iter().cloned());
        all.extend(osm_translate::exact_listener(&destination, &addresses, &routing, settings));
        all.extend(osm_translate::route_table(&routes(service, routing)));
    }
    let nobody = destination(&service("empty", cluster_ip(), 14009, Protocol::Http), &[]);
    all.push(osm_translate::clusters(&nobody, settings).by_name);
    all.extend(osm_translate::outside_listener(&ledger.id, &pods, 14001, settings));

    let mut server = view("v1", 14001, Protocol::Http, every_condition());
    for (port, protocol, policy) in [
        (14002, Protocol::Grpc, InboundPolicy::Permissive),
        (14003, Protocol::Http, http_policy(vec![])),
        (14004, Protocol::Tcp, InboundPolicy::Permissive),
        (14005, Protocol::TcpServerFirst, InboundPolicy::Tcp([tcp_rule("tcp", &["buyer"])].into())),
        (14006, Protocol::Tcp, InboundPolicy::Tcp([].into())),
        (14007, Protocol::Tcp, every_condition()),
    ] {
        server.ports.extend(view("v1", port, protocol, policy).ports);
    }
    all.extend(osm_translate::inbound(&server, settings));
    all
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
    let mut settings = settings();
    settings.permissive = false;
    settings.local_proxy_mode = LocalProxyMode::PodIp;
    settings.tls.minimum = TlsVersion::V1_2;
    settings.tls.cipher_suites = vec!["ECDHE-ECDSA-AES128-GCM-SHA256".into(), "ECDHE-RSA-AES128-GCM-SHA256".into()];
    settings.tls.ecdh_curves = vec!["X25519".into(), "P-256".into()];
    settings.tracing =
        Some(Tracing { address: "jaeger.osm.svc.cluster.local".into(), port: 9411, endpoint: "/api/v2/spans".into() });
    settings.external_authorization = Some(ExternalAuthorization {
        address: "authorizer.osm.svc.cluster.local".into(),
        port: 9191,
        stat_prefix: "inboundExtAuthz".into(),
        timeout: Duration::from_secs(1),
        failure_mode_allow: true,
    });
    check(&settings).await;
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
