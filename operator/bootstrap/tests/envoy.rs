//! Real Envoys, oldest and newest, accept every kind of bootstrap.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

use osm_bootstrap::{
    ControlPlaneAddress, PodBootstrap, PodFiles, ProbeKind, ProbeProtocol, ProbeRoute, Probes,
    STANDALONE_CERTIFICATE_FILE, STANDALONE_ROOTS_FILE, StandaloneBootstrap, names,
};
use osm_model::{Identity, TlsParameters, TlsVersion, TrustDomain};
use osm_testkit::EnvoyBinary;
use serde_json::Value;

fn tls() -> TlsParameters {
    TlsParameters {
        minimum: TlsVersion::V1_2,
        maximum: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
        ecdh_curves: Vec::new(),
    }
}

fn probe(kind: ProbeKind, container: &str, protocol: ProbeProtocol) -> ProbeRoute {
    ProbeRoute { kind, container: container.into(), protocol, port: 8080, timeout_seconds: 3 }
}

fn http() -> ProbeProtocol {
    ProbeProtocol::Http { path: "/healthz?deep=1".into() }
}

fn pod(folder: &Path) -> PodBootstrap {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    PodBootstrap {
        workload: Identity::new("bookstore", "api.v1").unwrap(),
        node: names::node_id("bookstore-0", "7f0c6a52-9a43-4a0c-8f37-6a5b1a2f3c4d"),
        addresses: vec!["10.244.0.7".parse().unwrap()],
        control_plane: ControlPlaneAddress {
            host: names::control_plane_host("osm-system", "cluster.local"),
            ads_port: names::ADS_PORT,
            identity_port: names::IDENTITY_PORT,
        },
        trust_domain: TrustDomain::new("mesh.example").unwrap(),
        tls: tls(),
        probes: Probes::default(),
        files: PodFiles {
            token: path("token"),
            trust_bundle: path("trust-bundle"),
            configuration: path("configuration"),
        },
    }
}

/// Everything a pod can be, by name.
fn pods(folder: &Path) -> Vec<(&'static str, PodBootstrap)> {
    let with = |routes: Vec<ProbeRoute>| PodBootstrap { probes: Probes::new(routes).unwrap(), ..pod(folder) };
    let every_kind = |protocol: &ProbeProtocol, container: &str| {
        ProbeKind::ALL.map(|kind| probe(kind, container, protocol.clone())).to_vec()
    };
    let both = [every_kind(&http(), "web"), every_kind(&http(), "admin"), every_kind(&ProbeProtocol::Https, "tls")];
    let old = TlsParameters { minimum: TlsVersion::Auto, maximum: TlsVersion::V1_1, ..tls() };
    let chosen = TlsParameters {
        cipher_suites: vec!["ECDHE-ECDSA-AES128-GCM-SHA256".into(), "ECDHE-RSA-AES256-GCM-SHA384".into()],
        ecdh_curves: vec!["P-256".into(), "X25519".into()],
        ..tls()
    };
    let addresses = |given: &[&str]| given.iter().map(|text| text.parse().unwrap()).collect();
    vec![
        ("plain", pod(folder)),
        ("http probes", with(every_kind(&http(), "web"))),
        ("https probes", with(every_kind(&ProbeProtocol::Https, "web"))),
        ("every probe of three containers", with(both.concat())),
        ("dual stack", PodBootstrap { addresses: addresses(&["10.244.0.7", "fd00:244::7"]), ..pod(folder) }),
        ("IPv6", PodBootstrap { addresses: addresses(&["fd00:244::7"]), ..pod(folder) }),
        ("old TLS", PodBootstrap { tls: old, ..pod(folder) }),
        ("chosen ciphers and curves", PodBootstrap { tls: chosen, ..pod(folder) }),
    ]
}

fn write(folder: &Path, files: &[(&str, Value)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, content) in files {
        std::fs::write(folder.join(name), content.to_string()).unwrap();
    }
}

async fn accepted(name: &str, file: &Path) {
    for envoy in EnvoyBinary::claimed().unwrap() {
        if let Err(error) = envoy.validate(file).await {
            panic!("{name}: {error:#}");
        }
    }
}

#[tokio::test]
async fn every_kind_of_pod() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["token", "trust-bundle"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("token/token"), "a-token").unwrap();
    for (name, pod) in pods(folder.path()) {
        let configuration = folder.path().join("configuration");
        write(&configuration, &pod.files());
        accepted(name, &configuration.join(names::BOOTSTRAP_FILE)).await;
    }
}

#[tokio::test]
async fn a_machine_outside_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = StandaloneBootstrap {
        workload: Identity::new("bookbuyer", "bookbuyer").unwrap(),
        node: "vm-1".into(),
        control_plane: "10.0.0.1:15128".parse().unwrap(),
        trust_domain: TrustDomain::new("cluster.local").unwrap(),
        certificates: folder.path().to_str().unwrap().to_owned(),
        admin_port: 15000,
    };
    // Envoy looks whether the files are there; what is in them it reads when it runs.
    let nothing = serde_json::json!({});
    let (certificate, roots) = (STANDALONE_CERTIFICATE_FILE, STANDALONE_ROOTS_FILE);
    write(folder.path(), &[("bootstrap.json", bootstrap.envoy()), (certificate, nothing.clone()), (roots, nothing)]);
    accepted("standalone", &folder.path().join("bootstrap.json")).await;
}

#[test]
fn a_bootstrap_that_envoy_refuses_is_noticed() {
    // Without it the tests above could not fail.
    let folder = tempfile::tempdir().unwrap();
    let mut envoy = pod(folder.path()).envoy();
    envoy["static_resources"]["clusters"][0]["type"] = "NOWHERE".into();
    write(folder.path(), &[("bootstrap.json", envoy)]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for envoy in EnvoyBinary::claimed().unwrap() {
        runtime.block_on(envoy.validate(&folder.path().join("bootstrap.json"))).unwrap_err();
    }
}

#[test]
fn nothing_in_it_is_secret_and_the_token_is_named_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("token")).unwrap();
    std::fs::write(folder.path().join("token/token"), "a-token-that-is-secret").unwrap();
    let text = format!("{:?}", pod(folder.path()).files());
    assert!(!text.contains("a-token-that-is-secret"));
    assert!(!text.contains("metadata"));
}

#[test]
fn old_tls_of_the_mesh_does_not_lock_the_sidecar_out_of_the_control_plane() {
    let old = TlsParameters { minimum: TlsVersion::V1_0, maximum: TlsVersion::V1_0, ..tls() };
    let envoy = PodBootstrap { tls: old, ..pod(Path::new("/")) }.envoy();
    for cluster in &envoy["static_resources"]["clusters"].as_array().unwrap()[..2] {
        let parameters = &cluster["transport_socket"]["typed_config"]["common_tls_context"]["tls_params"];
        assert_eq!(parameters["tls_minimum_protocol_version"], "TLSv1_0");
        assert_eq!(parameters["tls_maximum_protocol_version"], "TLSv1_2");
    }
}
