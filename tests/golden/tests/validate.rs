//! Every case is accepted by the newest and the oldest Envoy that is supported.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use osm_golden::envoy::{StaticConfiguration, VERSIONS, validate};
use osm_golden::{Case, Mesh};

fn all_cases() -> StaticConfiguration {
    let mut all = StaticConfiguration::default();
    for case in Case::all().unwrap() {
        let mesh = Mesh::new(case.options.engine().unwrap(), case.objects);
        for workload in mesh.workloads() {
            all.add(&case.name, &mesh, &workload).unwrap();
        }
    }
    assert!(all.listeners() > 200 && all.clusters() > 200, "everything is there");
    all
}

fn accepted_by(version: &str) {
    validate(version, &all_cases().bootstrap().unwrap()).unwrap();
}

#[test]
fn the_newest_envoy_accepts_every_case() {
    accepted_by(VERSIONS[0]);
}

#[test]
fn the_oldest_envoy_accepts_every_case() {
    accepted_by(VERSIONS[1]);
}

/// The check can fail, and then tells case, proxy and resource.
#[test]
fn a_wrong_expression_is_refused_by_name() {
    let text = serde_json::to_string(&all_cases().bootstrap().unwrap()).unwrap();
    assert!(text.contains("/buy/[0-9]+"), "the case http-grant has an expression");
    let broken = serde_json::from_str(&text.replace("/buy/[0-9]+", "/buy/([0-9]+")).unwrap();
    for version in VERSIONS {
        let refusal = validate(version, &broken).unwrap_err().to_string();
        assert!(refusal.contains("missing )") && refusal.contains("/buy/([0-9]+"), "{refusal}");
    }
}
