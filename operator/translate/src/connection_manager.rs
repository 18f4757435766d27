//! What all HTTP connection managers have in common.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, TypedExtensionConfig};
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::trace::v3::{
    ZipkinConfig,
    tracing::{Http, http::ConfigType},
    zipkin_config::CollectorEndpointVersion,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
    http_connection_manager::{CodecType, RouteSpecifier, Tracing, UpgradeConfig},
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use osm_model::{MeshSettings, Tracing as TracingSetting};

use crate::access_log::access_logs;
use crate::message::{ads, any, boolean, duration, network_filter};
use crate::naming::{TRACING_CLUSTER, http_stat_prefix};

/// Where requests must look the same to applications as without a mesh, their paths are left alone; where access rules
/// read paths, they are normalized first, so that `/public/../private` cannot pass for something below `/public`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paths {
    AsSent,
    Normalized,
}

/// How one connection manager differs from the others.
pub(crate) struct ConnectionManager {
    /// Names the statistics.
    pub(crate) route_table: String,
    pub(crate) routes: RouteSpecifier,
    pub(crate) filters: Vec<HttpFilter>,
    pub(crate) header_mutations: Vec<TypedExtensionConfig>,
    pub(crate) paths: Paths,
}

impl ConnectionManager {
    /// As a network filter with the mesh's tracing and access logs.
    pub(crate) fn into_filter(self, settings: &MeshSettings) -> Filter {
        let mut manager = self.into_message();
        manager.access_log = access_logs(settings);
        manager.tracing = settings.tracing.as_ref().map(tracing);
        network_filter("envoy.filters.network.http_connection_manager", any(&manager))
    }

    /// As a network filter that neither traces nor logs.
    pub(crate) fn into_silent_filter(self) -> Filter {
        network_filter("envoy.filters.network.http_connection_manager", any(&self.into_message()))
    }

    fn into_message(self) -> HttpConnectionManager {
        HttpConnectionManager {
            codec_type: CodecType::Auto.into(),
            stat_prefix: http_stat_prefix(&self.route_table),
            http_filters: self.filters,
            http_protocol_options: Some(http1()),
            http2_protocol_options: Some(http2()),
            // Streams may be silent for as long as they like; a peer that is gone ends its connection.
            stream_idle_timeout: Some(duration(Duration::ZERO)),
            early_header_mutation_extensions: self.header_mutations,
            upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
            normalize_path: boolean(self.paths == Paths::Normalized),
            merge_slashes: self.paths == Paths::Normalized,
            route_specifier: Some(self.routes),
            ..Default::default()
        }
    }
}

/// Routes that are fetched by name.
pub(crate) fn routes_named(route_table: &str) -> RouteSpecifier {
    RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name: route_table.to_owned() })
}

/// HTTP/1 that lets through what applications may use: HTTP/1.0 and trailers.
pub(crate) fn http1() -> Http1ProtocolOptions {
    Http1ProtocolOptions { accept_http_10: true, enable_trailers: true, ..Default::default() }
}

/// HTTP/2 that lets through WebSockets (RFC 8441).
pub(crate) fn http2() -> Http2ProtocolOptions {
    Http2ProtocolOptions { allow_connect: true, ..Default::default() }
}

/// Every request is traced in full, as in OSM.
fn tracing(setting: &TracingSetting) -> Tracing {
    let all = || Some(Percent { value: 100.0 });
    let zipkin = ZipkinConfig {
        collector_cluster: TRACING_CLUSTER.to_owned(),
        collector_endpoint: setting.endpoint.to_string(),
        collector_endpoint_version: CollectorEndpointVersion::HttpJson.into(),
        collector_hostname: setting.address.to_string(),
        ..Default::default()
    };
    Tracing {
        client_sampling: all(),
        random_sampling: all(),
        overall_sampling: all(),
        verbose: true,
        provider: Some(Http {
            name: "envoy.tracers.zipkin".to_owned(),
            config_type: Some(ConfigType::TypedConfig(any(&zipkin))),
        }),
        ..Default::default()
    }
}
