//! What inbound resources say about who may.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::listener::v3::{Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::rbac::v3::Rbac;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use osm_model::{HttpMatch, Identity, InboundPolicy, InboundView, PathMatch, Protocol};
use osm_translate::{Resource, ResourceKind};
use prost::Message as _;

use crate::everything::every_condition;
use crate::fixture::*;

fn resources(policy: InboundPolicy) -> Vec<Resource> {
    osm_translate::inbound(&view("server", 14001, Protocol::Http, policy), &settings())
}

fn table(policy: InboundPolicy) -> (Resource, RouteConfiguration) {
    let resource = resources(policy).into_iter().find(|resource| resource.kind == ResourceKind::Routes).unwrap();
    let table = RouteConfiguration::decode(resource.body.clone()).unwrap();
    (resource, table)
}

fn rules(table: &RouteConfiguration) -> Option<Rbac> {
    let configuration = table.virtual_hosts[0].typed_per_filter_config.values().next()?;
    RbacPerRoute::decode(configuration.value.as_slice()).unwrap().rbac.unwrap().rules
}

#[test]
fn policies_and_routes_bear_the_names_of_the_objects_behind_them() {
    let books = || http_match(PathMatch::Exact("/books".into()), &["GET"]);
    let policy = http_policy(vec![
        http_rule("buyer", "books", books(), &["buyer"]),
        http_rule("buyer", "all", HttpMatch::any(), &["buyer"]),
        http_rule("auditor", "books", books(), &["auditor"]),
    ]);
    let (resource, table) = table(policy);
    let names: Vec<&str> = table.virtual_hosts[0].routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["httproutegroup/shop/books/match", "httproutegroup/shop/all/match"], "the specific one first");
    let policies = rules(&table).unwrap().policies;
    let names: BTreeSet<&str> = policies.keys().map(String::as_str).collect();
    assert_eq!(names, ["traffictarget/shop/buyer", "traffictarget/shop/auditor"].into());
    assert_eq!(policies["traffictarget/shop/buyer"].permissions.len(), 2);
    for object in ["traffictarget/shop/buyer", "traffictarget/shop/auditor", "httproutegroup/shop/books"] {
        assert!(resource.origins.iter().any(|origin| origin.object.to_string() == object), "{object}");
    }
}

/// To Envoy an empty list of principals is an error or everybody.
#[test]
fn no_callers_means_nobody() {
    let (_, table) = table(http_policy(vec![http_rule("nobody", "all", HttpMatch::any(), &[])]));
    assert_eq!(table.virtual_hosts[0].routes.len(), 1, "known, so that the answer is 403");
    assert!(rules(&table).unwrap().policies.is_empty());
}

#[test]
fn permissive_ports_enforce_nothing_but_mutual_tls() {
    let (_, table) = table(InboundPolicy::Permissive);
    assert_eq!(rules(&table), None);
    assert_eq!(table.virtual_hosts[0].routes.len(), 1);
}

/// A ServiceAccount's name may contain dots, and a principal is never put together from parts of one.
#[test]
fn service_accounts_with_dots_are_named_exactly() {
    let (_, table) = table(every_condition());
    let policies = rules(&table).unwrap().policies;
    let expected = Identity::new("shop", "api.v1").unwrap().spiffe_id(&settings().trust_domain);
    assert_eq!(expected, "spiffe://mesh.example/ns/shop/sa/api.v1");
    let printed = format!("{:?}", policies["traffictarget/shop/target-0"].principals);
    assert!(printed.contains(&format!("Exact({expected:?})")), "{printed}");
}

/// OSM built the filters of all HTTP ports with one builder, so later ports had those of earlier ones, too.
#[test]
fn every_port_has_filters_of_its_own() {
    let mut view = view("server", 14001, Protocol::Http, every_condition());
    for port in 14002..14006 {
        view.ports.extend(crate::fixture::view("server", port, Protocol::Http, http_policy(vec![])).ports);
    }
    let resources = osm_translate::inbound(&view, &everything_switched_on());
    let listener = resources.iter().find(|resource| &*resource.name == "inbound-listener").unwrap();
    let listener = Listener::decode(listener.body.clone()).unwrap();
    let filters: BTreeSet<Vec<String>> = listener
        .filter_chains
        .iter()
        .map(|chain| {
            let Some(ConfigType::TypedConfig(config)) = &chain.filters[0].config_type else { panic!("no filter") };
            let manager = HttpConnectionManager::decode(config.value.as_slice()).unwrap();
            manager.http_filters.into_iter().map(|filter| filter.name).collect()
        })
        .collect();
    let expected = ["envoy.filters.http.rbac", "envoy.filters.http.ext_authz", "envoy.filters.http.router"];
    assert_eq!(filters, [expected.map(str::to_owned).to_vec()].into());
    assert_eq!(listener.filter_chains.len(), 5);
}

/// Grants of requests change route tables only: the listener, and so every open connection, stays as it is.
#[test]
fn a_new_grant_of_requests_does_not_touch_the_listener() {
    let listener =
        |policy| resources(policy).into_iter().find(|resource| &*resource.name == "inbound-listener").unwrap();
    assert_eq!(listener(http_policy(vec![])).body, listener(every_condition()).body);
}

#[test]
fn a_grant_of_connections_names_its_object() {
    let policy = InboundPolicy::Tcp([tcp_rule("ledger", &["warehouse"]), tcp_rule("nobody", &[])].into());
    let resources = osm_translate::inbound(&view("server", 3306, Protocol::Tcp, policy), &settings());
    let resource = resources.iter().find(|resource| &*resource.name == "inbound-listener").unwrap();
    let listener = Listener::decode(resource.body.clone()).unwrap();
    let Some(ConfigType::TypedConfig(config)) = &listener.filter_chains[0].filters[0].config_type else {
        panic!("no filter")
    };
    let rules = NetworkRbac::decode(config.value.as_slice()).unwrap().rules.unwrap();
    assert_eq!(rules.policies.keys().collect::<Vec<_>>(), ["traffictarget/shop/ledger"]);
    assert!(resource.origins.contains(&origin("TCPRoute", "tcp")));
}

#[test]
fn a_workload_without_ports_has_no_inbound_listener() {
    let view = InboundView { identity: identity("idle"), ports: Vec::new() };
    let resources = osm_translate::inbound(&view, &settings());
    assert_eq!(resources.len(), 2, "{resources:?}");
}
