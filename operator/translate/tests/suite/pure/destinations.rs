//! What clients are given of a destination.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::ScopedRouteConfiguration;
use osm_model::{
    Addressing, Destination, EndpointReadiness, MeshPort, MeshService, Protocol, Reachable, ServiceId, TrafficRouting,
};
use osm_translate::{Resource, naming};
use prost::Message as _;

use crate::fixture::*;

fn cluster_ips() -> Addressing {
    Addressing::ClusterIp(vec!["10.96.0.5".parse().unwrap(), "fd00:96::5".parse().unwrap()])
}

fn names(resources: impl IntoIterator<Item = Resource>) -> Vec<String> {
    resources.into_iter().map(|resource| resource.name.to_string()).collect()
}

/// Names that users and dashboards know from OSM.
#[test]
fn names_are_osms() {
    let bookstore = service("bookstore", cluster_ips(), 14001, Protocol::Http);
    let clusters = osm_translate::clusters(&destination(&bookstore, &["v1"]), &settings());
    assert_eq!(&*clusters.by_name.name, "shop/bookstore|14001");
    for cluster in clusters.iter() {
        let cluster = Cluster::decode(cluster.body.clone()).unwrap();
        assert_eq!(cluster.alt_stat_name.is_empty(), cluster.name == "shop/bookstore|14001");
        assert!(["", "shop/bookstore|14001"].contains(&cluster.alt_stat_name.as_str()));
        assert_eq!(cluster.eds_cluster_config.unwrap().service_name, "shop/bookstore|14001");
    }
    let inbound = osm_translate::inbound(&view("v1", 14001, Protocol::Http, http_policy(vec![])), &settings());
    let names: BTreeSet<String> = names(inbound).into_iter().collect();
    let expected = [
        "inbound-listener",
        "inbound-prometheus-listener",
        "envoy-metrics-cluster",
        "rds-inbound.14001",
        "shop/bookstore|14001|local",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
}

#[test]
fn a_destination_has_a_scope_and_a_cluster_per_address_under_one_name() {
    let bookstore = service("bookstore", cluster_ips(), 14001, Protocol::Grpc);
    let clusters = osm_translate::clusters(&destination(&bookstore, &["v1"]), &settings());
    let direct = routes(&bookstore, TrafficRouting::Direct);
    let scopes = osm_translate::scopes(&direct);
    assert_eq!(names(scopes.clone()), ["10.96.0.5:14001", "[fd00:96::5]:14001"]);
    assert_eq!(names(clusters.by_address.clone()), names(scopes.clone()));
    assert_eq!(osm_translate::route_table(&direct), None);

    let table =
        |scope: &Resource| ScopedRouteConfiguration::decode(scope.body.clone()).unwrap().route_configuration_name;
    assert!(scopes.iter().all(|scope| table(scope) == *osm_translate::shared_route_table().name));
    let split = routes(&bookstore, TrafficRouting::Split([split("s", &[(&bookstore, 1)])].into()));
    let own = osm_translate::route_table(&split).unwrap();
    assert!(osm_translate::scopes(&split).iter().all(|scope| table(scope) == *own.name));
    assert!(own.origins.contains(&origin("TrafficSplit", "s")));

    let used = |routing| clusters.used_by(Protocol::Grpc, routing);
    assert_eq!(used(&TrafficRouting::Direct), clusters.by_address.iter().collect::<Vec<_>>());
    assert_eq!(used(&split.routing), [&clusters.by_name]);
}

/// Which identities are behind it, and nothing else about the client, makes a difference.
#[test]
fn rights_narrow_endpoints_and_accepted_identities_together() {
    let bookstore = service("bookstore", cluster_ips(), 14001, Protocol::Http);
    let all = destination(&bookstore, &["v1", "v2"]);
    let some =
        Destination { reachable: Reachable::Only(identities(&["v1"])), identities: identities(&["v1"]), ..all.clone() };
    let none = Destination { reachable: Reachable::Nothing, identities: identities(&[]), ..all.clone() };
    let pods = [ready(at("10.1.0.1:14001"), "v1"), ready(at("10.1.0.2:14001"), "v2")];
    assert_eq!(assigned(&all, &pods), ["10.1.0.1:14001", "10.1.0.2:14001"]);
    assert_eq!(assigned(&some, &pods), ["10.1.0.1:14001"]);
    assert_eq!(assigned(&none, &pods), Vec::<String>::new());
    let bodies: BTreeSet<_> = [&all, &some, &none]
        .map(|destination| osm_translate::clusters(destination, &settings()).by_name)
        .into_iter()
        .map(|cluster| (cluster.name, cluster.body))
        .collect();
    assert_eq!(bodies.len(), 3, "one name, three sets of identities");
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The addresses that clients of `destination` are given.
fn assigned(destination: &Destination, endpoints: &[osm_model::Endpoint]) -> Vec<String> {
    use envoy_types::pb::envoy::config::core::v3::{address::Address, socket_address::PortSpecifier};
    use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;

    let resource = osm_translate::endpoints(destination, endpoints);
    let assignment = ClusterLoadAssignment::decode(resource.body).unwrap();
    let endpoints = assignment.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let socket = |endpoint: envoy_types::pb::envoy::config::endpoint::v3::LbEndpoint| {
        let Some(HostIdentifier::Endpoint(endpoint)) = endpoint.host_identifier else { panic!("no endpoint") };
        let Some(Address::SocketAddress(socket)) = endpoint.address.unwrap().address else { panic!("no socket") };
        let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { panic!("no port") };
        format!("{}:{port}", socket.address)
    };
    endpoints.map(socket).collect()
}

#[test]
fn endpoints_that_shut_down_are_a_last_resort_and_strangers_are_none() {
    let bookstore = service("bookstore", cluster_ips(), 14001, Protocol::Http);
    let destination = destination(&bookstore, &["v1"]);
    let with = |address: &str, readiness| osm_model::Endpoint { readiness, ..ready(at(address), "v1") };
    let up = with("10.1.0.1:1", EndpointReadiness::Ready);
    let down = with("10.1.0.2:1", EndpointReadiness::Draining);
    let starting = with("10.1.0.3:1", EndpointReadiness::NotReady);
    let stranger = osm_model::Endpoint { identity: None, ..ready(at("10.1.0.4:1"), "v1") };
    assert_eq!(assigned(&destination, &[starting.clone(), down.clone(), up]), ["10.1.0.1:1"]);
    assert_eq!(assigned(&destination, &[starting.clone(), down]), ["10.1.0.2:1"]);
    assert_eq!(assigned(&destination, &[starting, stranger]), Vec::<String>::new());
}

/// Ports of a service that lead to one port of its pods share a cluster by name, so its bytes must not depend on which.
#[test]
fn ports_with_one_target_port_agree_about_its_cluster() {
    let port = |port, protocol| MeshPort { port, target_port: 8080, protocol };
    let ports = vec![port(80, Protocol::Http), port(81, Protocol::Tcp)];
    let id = ServiceId::new("shop", "bookstore").unwrap();
    let service = Arc::new(MeshService { id, addressing: cluster_ips(), ports });
    let clusters = [0, 1].map(|index| {
        let destination = Destination { port: service.ports[index].clone(), ..destination(&service, &["v1"]) };
        osm_translate::clusters(&destination, &settings())
    });
    assert_eq!(clusters[0].by_name, clusters[1].by_name);
    assert_eq!(names(clusters[0].by_address.clone()), ["10.96.0.5:80", "[fd00:96::5]:80"]);
    assert!(clusters[1].by_address.is_empty());
}

#[test]
fn exact_listeners_are_for_what_has_no_listener_by_port() {
    let addresses = ["10.1.0.1".parse().unwrap(), "fd00:10::1".parse().unwrap()];
    let listener = |addressing, protocol, addresses: &[_]| {
        let service = service("ledger", addressing, 3306, protocol);
        let routing = TrafficRouting::Direct;
        osm_translate::exact_listener(&destination(&service, &["v1"]), addresses, &routing, &settings())
    };
    assert_eq!(listener(cluster_ips(), Protocol::Http, &addresses), None);
    assert_eq!(listener(cluster_ips(), Protocol::Tcp, &[]), None);
    for (addressing, protocol) in [
        (cluster_ips(), Protocol::Tcp),
        (cluster_ips(), Protocol::TcpServerFirst),
        (Addressing::Headless, Protocol::Grpc),
        (Addressing::Headless, Protocol::Tcp),
    ] {
        let listener = listener(addressing, protocol, &addresses).unwrap();
        let listener = Listener::decode(listener.body).unwrap();
        assert_eq!(listener.additional_addresses.len(), 1);
        assert!(!listener.bind_to_port.unwrap().value);
        assert!(listener.listener_filters.is_empty(), "nothing waits for the client to speak");
    }
}

/// A headless service answers on its own port number and on that of its pods, unless that is another port's.
#[test]
fn headless_services_answer_where_clients_dial() {
    let ports = [(80, 8080), (8080, 9090), (81, 81)];
    let ports = ports.map(|(port, target_port)| MeshPort { port, target_port, protocol: Protocol::Http });
    let id = ServiceId::new("shop", "stateful").unwrap();
    let service = Arc::new(MeshService { id, addressing: Addressing::Headless, ports: ports.to_vec() });
    let answered =
        ports.map(|port| osm_translate::exact_listener_ports(&Destination { port, ..destination(&service, &["v1"]) }));
    assert_eq!(answered, [vec![80], vec![8080, 9090], vec![81]]);
}

#[test]
fn secrets_are_named_the_same_for_everybody() {
    let bookstore = service("bookstore", cluster_ips(), 14001, Protocol::Http);
    let clusters = osm_translate::clusters(&destination(&bookstore, &["v1"]), &settings());
    for cluster in clusters.iter() {
        let body = String::from_utf8_lossy(&cluster.body);
        assert!(body.contains(naming::SERVICE_CERTIFICATE_SECRET) && body.contains(naming::TRUST_BUNDLE_SECRET));
    }
}

/// To Envoy, no ranges would be every address, and requests out of the cluster would find no scope.
#[test]
fn without_service_ranges_nothing_is_taken_for_a_service() {
    let listener = |ranges: &[&str]| {
        let service_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let settings = osm_model::MeshSettings { service_ranges, ..settings() };
        Listener::decode(osm_translate::outbound_http_listener(80, &settings).body).unwrap()
    };
    assert!(listener(&[]).filter_chains.is_empty() && listener(&[]).default_filter_chain.is_some());
    let chain = listener(&["10.96.0.0/12", "fd00:96::/112"]).filter_chains.remove(0);
    let ranges = chain.filter_chain_match.unwrap().prefix_ranges;
    let ranges: Vec<_> =
        ranges.iter().map(|range| (range.address_prefix.as_str(), range.prefix_len.unwrap().value)).collect();
    assert_eq!(ranges, [("10.96.0.0", 12), ("fd00:96::", 112)]);
}
