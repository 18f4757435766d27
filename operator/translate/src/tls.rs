//! Mutual TLS between sidecars.
//!
//! Certificates and trust bundles are referred to by generic SDS names, so nothing here depends on who the client is.
//! Peers are named exactly. "Nobody" is a matcher that cannot match: to Envoy an empty list would mean "anybody".

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, SubjectAltNameMatcher,
    TlsParameters, UpstreamTlsContext,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    subject_alt_name_matcher::SanType,
    tls_parameters::TlsProtocol,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use osm_model::{Identity, MeshSettings, TlsVersion, TrustDomain};

use crate::message::{ads, any, boolean, exact, prefix, regex};
use crate::naming::{MESH_ALPN, SERVICE_CERTIFICATE_SECRET, TRUST_BUNDLE_SECRET};

/// An RE2 expression that matches no text at all: one character that neither is nor is not a space.
const NOTHING: &str = r"[^\s\S]";

/// Whose client certificates a server accepts during the handshake, before any byte is passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Callers<'a> {
    /// Every workload of the trust domain: whoever has a name below a namespace, as the control plane itself has, but not ingress
    /// gateways or whatever else its roots vouch for.
    AnyWorkload,
    /// These. An empty set admits nobody.
    Only(&'a BTreeSet<Identity>),
}

/// The client's side towards a service named `server_name`, which must prove to be one of `identities`. A peer of OSM's,
/// whose certificates carry DNS names only, is recognised by that name.
pub(crate) fn client(identities: &BTreeSet<Identity>, server_name: String, settings: &MeshSettings) -> TransportSocket {
    let names = identities.iter().flat_map(|identity| {
        [
            name(SanType::Uri, exact(identity.spiffe_id(&settings.trust_domain))),
            name(SanType::Dns, exact(identity.dns_name(&settings.trust_domain))),
        ]
    });
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: vec![MESH_ALPN.to_owned()],
            ..common(names.collect(), settings)
        }),
        sni: server_name,
        ..Default::default()
    };
    socket(any(&context))
}

/// The server's side: a certificate of one of `callers` is required. No ALPN is selected: `osm` says nothing about the
/// version of HTTP, and Envoy would take any selected protocol but `h2` for HTTP/1.
pub(crate) fn server(callers: Callers<'_>, settings: &MeshSettings) -> TransportSocket {
    let names = match callers {
        Callers::AnyWorkload => vec![name(SanType::Uri, prefix(workload_prefix(&settings.trust_domain)))],
        Callers::Only(identities) => {
            let spiffe_id = |identity: &Identity| identity.spiffe_id(&settings.trust_domain);
            identities.iter().map(|identity| name(SanType::Uri, exact(spiffe_id(identity)))).collect()
        }
    };
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(names, settings)),
        require_client_certificate: boolean(true),
        ..Default::default()
    };
    socket(any(&context))
}

/// What all SPIFFE IDs of workloads begin with.
fn workload_prefix(trust_domain: &TrustDomain) -> String {
    format!("spiffe://{trust_domain}/ns/")
}

fn socket(context: envoy_types::pb::google::protobuf::Any) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(context)),
    }
}

/// What both sides share: parameters, own certificate, trust bundle, and the names of which the peer must have one.
fn common(mut peer_names: Vec<SubjectAltNameMatcher>, settings: &MeshSettings) -> CommonTlsContext {
    if peer_names.is_empty() {
        peer_names.push(name(SanType::Uri, regex(NOTHING)));
    }
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: peer_names,
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret(TRUST_BUNDLE_SECRET)),
        ..Default::default()
    };
    CommonTlsContext {
        tls_params: Some(parameters(settings)),
        tls_certificate_sds_secret_configs: vec![secret(SERVICE_CERTIFICATE_SECRET)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(validation)),
        ..Default::default()
    }
}

fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) }
}

fn name(san_type: SanType, matcher: StringMatcher) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher { san_type: san_type.into(), matcher: Some(matcher), ..Default::default() }
}

fn parameters(settings: &MeshSettings) -> TlsParameters {
    let tls = &settings.tls;
    TlsParameters {
        tls_minimum_protocol_version: version(tls.minimum).into(),
        tls_maximum_protocol_version: version(tls.maximum).into(),
        cipher_suites: tls.cipher_suites.iter().map(ToString::to_string).collect(),
        ecdh_curves: tls.ecdh_curves.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn version(version: TlsVersion) -> TlsProtocol {
    match version {
        TlsVersion::Auto => TlsProtocol::TlsAuto,
        TlsVersion::V1_0 => TlsProtocol::TlSv10,
        TlsVersion::V1_1 => TlsProtocol::TlSv11,
        TlsVersion::V1_2 => TlsProtocol::TlSv12,
        TlsVersion::V1_3 => TlsProtocol::TlSv13,
    }
}
