//! What a change costs does not depend on the size of the mesh. Counted, not timed.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use osm_api::{Object, Strictness, decode};
use osm_engine::{MeshEngine, Work};
use osm_golden::CaseOptions;
use serde_json::{Value, json};

fn read(value: Value) -> Object {
    decode(value, Strictness::Strict).unwrap()
}

fn slice(number: usize, last_byte: usize) -> Object {
    read(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("s{number}-1"), "namespace": "shop", "labels": { "kubernetes.io/service-name": format!("s{number}") },
        },
        "ports": [{ "port": 8080 }],
        "endpoints": [{ "addresses": [format!("10.244.1.{last_byte}")], "targetRef": { "kind": "Pod", "name": format!("s{number}-0") } }],
    }))
}

/// A service with a pod of its own identity, which one client was granted.
fn service(number: usize) -> Vec<Object> {
    let meta = |name: String| json!({ "name": name, "namespace": "shop" });
    let address = format!("10.96.{}.{}", number / 250, 1 + number % 250);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": meta(format!("s{number}-0")),
        "spec": { "serviceAccountName": format!("s{number}"), "containers": [] },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": meta(format!("s{number}")),
        "spec": { "clusterIP": address, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    let grant = json!({
        "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "metadata": meta(format!("s{number}")),
        "spec": {
            "destination": { "kind": "ServiceAccount", "name": format!("s{number}") },
            "sources": [{ "kind": "ServiceAccount", "name": "client" }],
            "rules": [{ "kind": "HTTPRouteGroup", "name": "any" }],
        },
    });
    [pod, service, grant].map(read).into_iter().chain([slice(number, 1)]).collect()
}

/// What it costs that one of `services` pods gets another address.
fn cost_of_an_address(services: usize, permissive: bool) -> Work {
    let common = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "shop", "labels": { "openservicemesh.io/monitored-by": "osm" },
        } }),
        json!({
            "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
            "metadata": { "name": "osm-mesh-config", "namespace": "osm-system" },
            "spec": { "traffic": { "enablePermissiveTrafficPolicyMode": permissive } },
        }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "client", "namespace": "shop" } }),
        json!({
            "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "metadata": { "name": "any", "namespace": "shop" },
            "spec": { "matches": [{ "name": "any" }] },
        }),
    ];
    let objects = common.map(read).into_iter().chain((0..services).flat_map(service));
    let mut engine = MeshEngine::new(CaseOptions::default().engine().unwrap());
    engine.update(objects.map(|object| (object.reference(), Some(object))));
    let changed = slice(7, 2);
    let changes = engine.update([(changed.reference(), Some(changed))]);
    assert_eq!(changes.resources.len(), 1, "just the endpoints of one service: {:?}", changes.resources);
    changes.work
}

#[test]
fn an_address_costs_the_same_in_a_small_and_in_a_large_permissive_mesh() {
    assert_eq!(cost_of_an_address(100, true), cost_of_an_address(2000, true));
}

#[test]
fn an_address_costs_the_same_in_a_small_and_in_a_large_mesh_by_policy() {
    assert_eq!(cost_of_an_address(100, false), cost_of_an_address(2000, false));
}
