use std::time::Duration;

use super::*;

fn spec(yaml: &str) -> MeshConfigSpec {
    serde_saphyr::from_str(yaml).unwrap()
}

fn fields(spec: &MeshConfigSpec) -> Vec<String> {
    spec.complaints().into_iter().map(|complaint| complaint.field).collect()
}

#[test]
fn an_empty_spec_has_osms_defaults() {
    let spec = spec("{}");
    assert_eq!(spec, MeshConfigSpec::default());
    let sidecar = &spec.sidecar;
    assert!(!sidecar.enable_privileged_init_container());
    assert_eq!(sidecar.log_level(), SidecarLogLevel::Error);
    assert_eq!(sidecar.max_data_plane_connections(), None);
    assert_eq!(sidecar.envoy_image(), None);
    assert_eq!(sidecar.envoy_windows_image(), None);
    assert_eq!(sidecar.init_container_image(), None);
    assert_eq!(sidecar.config_resync_interval().value, None);
    assert_eq!(sidecar.tls_min_protocol_version().as_str(), "TLSv1_2");
    assert_eq!(sidecar.tls_max_protocol_version().as_str(), "TLSv1_3");
    assert_eq!(sidecar.local_proxy_mode(), LocalProxyMode::Localhost);
    assert!(!spec.traffic.enable_egress());
    assert!(!spec.traffic.enable_permissive_traffic_policy_mode());
    assert_eq!(spec.traffic.inbound_external_authorization(), None);
    assert_eq!(spec.observability.osm_log_level(), "info");
    assert!(!spec.observability.enable_debug_server());
    let tracing = &spec.observability.tracing;
    assert!(!tracing.enable());
    assert_eq!(tracing.port().value.get(), 9411);
    assert_eq!(tracing.address("osm-system"), "jaeger.osm-system.svc.cluster.local");
    assert_eq!(tracing.endpoint(), "/api/v2/spans");
    assert_eq!(spec.service_certificate_validity().value, Duration::from_secs(86_400));
    assert_eq!(spec.rsa_key_bits().value, None);
    assert!(!spec.feature_flags.enable_wasm_stats());
    assert!(!spec.feature_flags.enable_ingress_backend_policy());
    assert!(!spec.feature_flags.enable_envoy_active_health_checks());
    assert!(!spec.feature_flags.enable_retry_policy());
    assert!(!spec.feature_flags.enable_mesh_root_certificate());
    assert_eq!(fields(&spec), [""; 0]);
}

#[test]
fn external_authorization_has_osms_defaults() {
    let spec = spec("traffic: {inboundExternalAuthorization: {enable: true, address: a, port: 80}}");
    let authorization = spec.traffic.inbound_external_authorization().unwrap();
    assert_eq!(authorization.stat_prefix(), "inboundExtAuthz");
    assert_eq!(authorization.timeout().value, Duration::from_secs(1));
    assert!(!authorization.failure_mode_allow());
    assert_eq!(fields(&spec), [""; 0]);
}

/// OSM's defect: the text off was refused.
#[test]
fn log_level_off_is_accepted() {
    assert_eq!(spec("sidecar: {logLevel: \"off\"}").sidecar.log_level().as_str(), "off");
    assert_eq!(serde_json::to_value(SidecarLogLevel::Off).unwrap(), "off");
}

/// OSM's defect: ports above 32767 overflowed.
#[test]
fn tracing_ports_use_the_whole_range() {
    for (number, expected) in [(0, 9411), (1, 1), (32_768, 32_768), (65_535, 65_535)] {
        let spec = spec(&format!("observability: {{tracing: {{port: {number}}}}}"));
        assert_eq!(spec.observability.tracing.port().value.get(), expected);
        assert_eq!(fields(&spec), [""; 0]);
    }
    let spec = spec("observability: {tracing: {port: 65536}}");
    assert_eq!(spec.observability.tracing.port().value.get(), 9411);
    assert_eq!(fields(&spec), ["spec.observability.tracing.port"]);
}

#[test]
fn values_that_cannot_be_used_are_replaced_and_complained_of() {
    let spec = spec(
        "
        sidecar: {configResyncInterval: 29s, tlsMinProtocolVersion: TLSv1_3, tlsMaxProtocolVersion: TLSv1_1}
        traffic: {inboundExternalAuthorization: {enable: true, timeout: soon}}
        observability: {tracing: {port: -1}}
        certificate:
          serviceCertValidityDuration: 9m
          certKeyBitSize: 1024
          ingressGateway: {subjectAltNames: [a], validityDuration: a day, secret: {name: n, namespace: m}}
        ",
    );
    assert_eq!(
        fields(&spec),
        [
            "spec.sidecar.configResyncInterval",
            "spec.sidecar.tlsMinProtocolVersion",
            "spec.traffic.inboundExternalAuthorization.address",
            "spec.traffic.inboundExternalAuthorization.port",
            "spec.traffic.inboundExternalAuthorization.timeout",
            "spec.observability.tracing.port",
            "spec.certificate.serviceCertValidityDuration",
            "spec.certificate.certKeyBitSize",
            "spec.certificate.ingressGateway.validityDuration",
        ]
    );
    assert_eq!(spec.sidecar.config_resync_interval().value, None);
    assert_eq!(spec.service_certificate_validity().value, Duration::from_secs(600));
    assert_eq!(spec.rsa_key_bits().value, Some(2048));
    let gateway = spec.certificate.unwrap().ingress_gateway.unwrap();
    let validity = gateway.validity();
    assert_eq!(validity.value, Duration::from_secs(86_400));
    assert_eq!(
        validity.complaint.unwrap().to_string(),
        "spec.certificate.ingressGateway.validityDuration: \"a day\" is not a duration; \
         write a duration such as 24h; 24h is used until then"
    );
}

#[test]
fn values_at_the_edges_are_used() {
    let spec = spec(
        "
        sidecar: {configResyncInterval: 30s, maxDataPlaneConnections: 1}
        certificate: {serviceCertValidityDuration: 10m, certKeyBitSize: 4096}
        ",
    );
    assert_eq!(fields(&spec), [""; 0]);
    assert_eq!(spec.sidecar.config_resync_interval().value, Some(Duration::from_secs(30)));
    assert_eq!(spec.sidecar.max_data_plane_connections(), Some(1));
    assert_eq!(spec.service_certificate_validity().value, Duration::from_secs(600));
    assert_eq!(spec.rsa_key_bits().value, Some(4096));
    for unlimited in [0, -1] {
        let spec = self::spec(&format!("sidecar: {{maxDataPlaneConnections: {unlimited}}}"));
        assert_eq!(spec.sidecar.max_data_plane_connections(), None);
    }
}

#[test]
fn switching_tls_to_automatic_is_no_contradiction() {
    assert_eq!(fields(&spec("sidecar: {tlsMaxProtocolVersion: TLS_AUTO}")), [""; 0]);
    assert_eq!(fields(&spec("sidecar: {tlsMinProtocolVersion: TLS_AUTO}")), [""; 0]);
}
