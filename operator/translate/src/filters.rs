//! HTTP filters, in the order in which requests pass them. The order is decided here and nowhere else.
//!
//! Each connection manager gets lists of its own, so a filter of one port can never leak into another.

use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, GrpcService,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{BufferSettings, ExtAuthz, ext_authz::Services};
use envoy_types::pb::envoy::extensions::filters::http::on_demand::v3::{OnDemand, OnDemandCds};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter::ConfigType,
};
use envoy_types::pb::google::protobuf::Any;
use osm_model::{ExternalAuthorization, MeshSettings};

use crate::message::{ads, any, duration, on_demand_timeout};
use crate::naming::EXTERNAL_AUTHORIZATION_CLUSTER;
use crate::rbac;

/// Name of the access control filter, under which virtual hosts override its configuration.
pub(crate) const RBAC: &str = "envoy.filters.http.rbac";

/// How much of a request's body the authorizer sees (OSM's figure), in bytes.
const AUTHORIZER_BODY: u32 = 8192;

/// Filters of requests that an application sends.
pub(crate) fn outbound() -> Vec<HttpFilter> {
    vec![
        // Fetches the cluster that the route names when this is its first use.
        filter("envoy.filters.http.on_demand", any(&on_demand())),
        // Must be last: it ends the chain.
        router(),
    ]
}

/// Filters of requests that an application receives.
pub(crate) fn inbound(settings: &MeshSettings) -> Vec<HttpFilter> {
    let mut filters = vec![
        // First, so that nobody without a grant can make later filters work.
        filter(RBAC, rbac::http_default()),
    ];
    if let Some(authorization) = &settings.external_authorization {
        filters.push(filter("envoy.filters.http.ext_authz", any(&external_authorization(authorization))));
    }
    filters.push(router());
    filters
}

/// Filters of requests for Envoy's own metrics.
pub(crate) fn metrics() -> Vec<HttpFilter> {
    vec![router()]
}

fn filter(name: &str, typed_config: Any) -> HttpFilter {
    HttpFilter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(typed_config)), ..Default::default() }
}

fn router() -> HttpFilter {
    filter("envoy.filters.http.router", any(&Router::default()))
}

fn on_demand() -> OnDemand {
    OnDemand {
        odcds: Some(OnDemandCds { source: Some(ads()), timeout: Some(on_demand_timeout()), ..Default::default() }),
    }
}

fn external_authorization(authorization: &ExternalAuthorization) -> ExtAuthz {
    let service = GrpcService {
        timeout: Some(duration(authorization.timeout)),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: EXTERNAL_AUTHORIZATION_CLUSTER.to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    };
    ExtAuthz {
        transport_api_version: ApiVersion::V3.into(),
        failure_mode_allow: authorization.failure_mode_allow,
        with_request_body: Some(BufferSettings {
            max_request_bytes: AUTHORIZER_BODY,
            allow_partial_message: true,
            ..Default::default()
        }),
        stat_prefix: authorization.stat_prefix.to_string(),
        services: Some(Services::GrpcService(service)),
        ..Default::default()
    }
}
