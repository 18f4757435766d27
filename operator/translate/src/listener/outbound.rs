//! Where all outgoing connections arrive, and the listeners of HTTP services.

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation as Mutation, header_mutation::Action};
use envoy_types::pb::envoy::config::core::v3::{
    CidrRange, HeaderValue, HeaderValueOption, TrafficDirection, TypedExtensionConfig,
    header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    ScopedRds, ScopedRoutes,
    http_connection_manager::RouteSpecifier,
    scoped_routes::{
        ConfigSpecifier, ScopeKeyBuilder,
        scope_key_builder::{
            FragmentBuilder,
            fragment_builder::{HeaderValueExtractor, Type, header_value_extractor::ExtractType},
        },
    },
};
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation;
use osm_model::MeshSettings;

use super::{Socket, listener, original_destination, outside_chain};
use crate::connection_manager::{ConnectionManager, Paths};
use crate::filters;
use crate::message::{ads, any, boolean, cidr_range, every_address};
use crate::naming;
use crate::resource::Resource;

/// The listener to which outgoing connections are redirected. It hands each to the listener of its destination: the exact
/// address, else the port number; what has neither is passed on or closed, as egress says.
pub fn outbound_listener(settings: &MeshSettings) -> Resource {
    let listener = Listener {
        use_original_dst: boolean(true),
        listener_filters: vec![original_destination()],
        default_filter_chain: Some(outside_chain(settings)),
        ..dual_stack(naming::OUTBOUND_LISTENER.to_owned(), naming::OUTBOUND_PORT, Socket::Own)
    };
    Resource::new(&listener, [])
}

/// The listener of all HTTP services on port number `port`. Connections into the cluster's service ranges are HTTP;
/// others, to pods or out of the cluster, are no business of the mesh.
pub fn outbound_http_listener(port: u16, settings: &MeshSettings) -> Resource {
    let name = naming::outbound_http_listener(port);
    let manager = ConnectionManager {
        route_table: format!("{}.{port}", naming::SHARED_ROUTE_TABLE),
        routes: RouteSpecifier::ScopedRoutes(scoped_routes()),
        filters: filters::outbound(),
        header_mutations: vec![note_destination()],
        paths: Paths::AsSent,
    };
    let prefix_ranges: Vec<CidrRange> = settings.service_ranges.iter().map(cidr_range).collect();
    let services = FilterChain {
        name: name.clone(),
        filter_chain_match: Some(FilterChainMatch { prefix_ranges, ..Default::default() }),
        filters: vec![manager.into_filter(settings)],
        ..Default::default()
    };
    // To Envoy a match without ranges matches every address: without ranges there are no services.
    let any_service = !settings.service_ranges.is_empty();
    let listener = Listener {
        filter_chains: any_service.then_some(services).into_iter().collect(),
        default_filter_chain: Some(outside_chain(settings)),
        ..dual_stack(name, port, Socket::HandedOver)
    };
    Resource::new(&listener, [])
}

fn dual_stack(name: String, port: u16, socket: Socket) -> Listener {
    let [first, rest] = every_address().map(|address| (address, port));
    listener(name, (first, [rest]), TrafficDirection::Outbound, socket)
}

/// Writes the connection's original destination into the request, over whatever the application may have put there.
/// Scopes are chosen by it, which happens before any HTTP filter runs.
fn note_destination() -> TypedExtensionConfig {
    let header = HeaderValueOption {
        header: Some(HeaderValue {
            key: naming::DESTINATION_HEADER.to_owned(),
            value: "%DOWNSTREAM_LOCAL_ADDRESS%".to_owned(),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    };
    TypedExtensionConfig {
        name: "envoy.http.early_header_mutation.header_mutation".to_owned(),
        typed_config: Some(any(&HeaderMutation { mutations: vec![Mutation { action: Some(Action::Append(header)) }] })),
    }
}

/// Routes by destination. All scopes are sent ahead: they are small, and Envoy would wait for one on demand without a
/// time limit.
fn scoped_routes() -> ScopedRoutes {
    let destination = HeaderValueExtractor {
        name: naming::DESTINATION_HEADER.to_owned(),
        extract_type: Some(ExtractType::Index(0)),
        ..Default::default()
    };
    ScopedRoutes {
        name: naming::SCOPED_ROUTES.to_owned(),
        scope_key_builder: Some(ScopeKeyBuilder {
            fragments: vec![FragmentBuilder { r#type: Some(Type::HeaderValueExtractor(destination)) }],
        }),
        rds_config_source: Some(ads()),
        config_specifier: Some(ConfigSpecifier::ScopedRds(ScopedRds {
            scoped_rds_config_source: Some(ads()),
            ..Default::default()
        })),
    }
}
