//! MeshConfig: settings of the whole mesh.

mod effect;

use std::sync::Arc;

use ipnet::IpNet;
use osm_api::{LocalProxyMode as ApiLocalProxyMode, MeshConfig, MeshConfigReason, TlsProtocolVersion};
use osm_model::{
    AccessLog, Egress, ExternalAuthorization, LocalProxyMode, MeshSettings, Origin, TlsParameters, TlsVersion, Tracing,
    TrustDomain,
};

pub use self::effect::{SETTING_EFFECTS, SettingEffect};
use crate::parsed::{Parsed, Report};

/// What the MeshConfig says about proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfigFacts {
    /// The object and its generation.
    pub origin: Origin,
    permissive: bool,
    egress: Egress,
    local_proxy_mode: LocalProxyMode,
    tls: TlsParameters,
    tracing: Option<Tracing>,
    external_authorization: Option<ExternalAuthorization>,
}

/// Reads the MeshConfig. A bad value costs only itself: its default is used.
pub fn mesh_config(object: &MeshConfig) -> Parsed<MeshConfigFacts> {
    let mut report = Report::of(object);
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let spec = &object.spec;
    for complaint in spec.complaints() {
        report.complain(MeshConfigReason::ValueReplaced, complaint);
    }
    effect::warn_of_no_effect(spec, &mut report);
    let sidecar = &spec.sidecar;
    let (minimum, maximum) =
        (tls_version(sidecar.tls_min_protocol_version()), tls_version(sidecar.tls_max_protocol_version()));
    if minimum != TlsVersion::Auto && maximum != TlsVersion::Auto && minimum > maximum {
        report.warn(
            "spec.sidecar.tlsMinProtocolVersion",
            MeshConfigReason::TlsVersionsConflict,
            "the lowest TLS version is above the highest, so no two sidecars can talk",
            "lower tlsMinProtocolVersion or raise tlsMaxProtocolVersion",
        );
    }
    let texts = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    let tls = TlsParameters {
        minimum,
        maximum,
        cipher_suites: texts(&sidecar.cipher_suites),
        ecdh_curves: texts(&sidecar.ecdh_curves),
    };
    let local_proxy_mode = match sidecar.local_proxy_mode() {
        ApiLocalProxyMode::Localhost => LocalProxyMode::Localhost,
        ApiLocalProxyMode::PodIp => LocalProxyMode::PodIp,
    };
    let tracing = &spec.observability.tracing;
    let tracing = tracing.enable().then(|| Tracing {
        address: tracing.address(namespace).into(),
        port: tracing.port().value.get(),
        endpoint: tracing.endpoint().into(),
    });
    let external_authorization = spec.traffic.inbound_external_authorization().and_then(|authorization| {
        Some(ExternalAuthorization {
            address: authorization.address()?.into(),
            port: authorization.port?.get(),
            stat_prefix: authorization.stat_prefix().into(),
            timeout: authorization.timeout().value,
            failure_mode_allow: authorization.failure_mode_allow(),
        })
    });
    let facts = MeshConfigFacts {
        origin: report.origin("spec"),
        permissive: spec.traffic.enable_permissive_traffic_policy_mode(),
        egress: if spec.traffic.enable_egress() { Egress::Allow } else { Egress::Refuse },
        local_proxy_mode,
        tls,
        tracing,
        external_authorization,
    };
    report.finish(Some(facts))
}

fn tls_version(version: TlsProtocolVersion) -> TlsVersion {
    match version {
        TlsProtocolVersion::Auto => TlsVersion::Auto,
        TlsProtocolVersion::TlsV1_0 => TlsVersion::V1_0,
        TlsProtocolVersion::TlsV1_1 => TlsVersion::V1_1,
        TlsProtocolVersion::TlsV1_2 => TlsVersion::V1_2,
        TlsProtocolVersion::TlsV1_3 => TlsVersion::V1_3,
    }
}

/// The settings that follow. Without a MeshConfig nothing is permitted that an object would have to permit: no permissive
/// mode, no egress (as in OSM).
pub fn settings(
    facts: Option<&MeshConfigFacts>,
    trust_domain: TrustDomain,
    cluster_domain: Arc<str>,
    service_ranges: Vec<IpNet>,
) -> MeshSettings {
    let default_tls = || TlsParameters {
        minimum: TlsVersion::V1_2,
        maximum: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
        ecdh_curves: Vec::new(),
    };
    MeshSettings {
        trust_domain,
        cluster_domain,
        permissive: facts.is_some_and(|facts| facts.permissive),
        egress: facts.map_or(Egress::Refuse, |facts| facts.egress),
        local_proxy_mode: facts.map_or(LocalProxyMode::Localhost, |facts| facts.local_proxy_mode),
        tls: facts.map_or_else(default_tls, |facts| facts.tls.clone()),
        tracing: facts.and_then(|facts| facts.tracing.clone()),
        external_authorization: facts.and_then(|facts| facts.external_authorization.clone()),
        access_log: AccessLog::Stdout,
        service_ranges,
    }
}
