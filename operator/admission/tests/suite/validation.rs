//! Which objects are refused, and what their authors are told.

use std::collections::BTreeMap;

use osm_admission::{ObjectAdmission, Operation, RoleChange, Verdict, World, validate};
use osm_api::{Role, Strictness, decode};
use serde_json::{Value, json};

fn world(objects: &[Value]) -> World {
    let mut world = World::new("osm", "osm-system");
    for object in objects {
        let object = decode(object.clone(), Strictness::Strict).unwrap();
        let metadata = object.metadata();
        let (namespace, name) = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap());
        world.apply(&osm_api::ObjectRef::new(object.kind(), namespace, name), Some(&object));
    }
    world
}

fn everything_goes(_: &BTreeMap<&str, Role>, _: RoleChange<'_>) -> Result<(), String> {
    Ok(())
}

fn judge(operation: Operation, namespace: &str, old: Option<&Value>, new: Option<&Value>) -> Verdict {
    let (object, old_object) = (new.cloned(), old.cloned());
    let review = ObjectAdmission { operation, namespace: namespace.to_owned(), object, old_object };
    validate(&review, &world(&[]), &everything_goes)
}

fn created(namespace: &str, object: &Value) -> Verdict {
    judge(Operation::Create, namespace, None, Some(object))
}

fn denied(verdict: Verdict) -> String {
    match verdict {
        Verdict::Deny { message } => message,
        Verdict::Allow { warnings } => panic!("allowed with {warnings:?}"),
    }
}

fn warnings(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Allow { warnings } => warnings,
        Verdict::Deny { message } => panic!("denied: {message}"),
    }
}

fn target(destination: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": { "name": "buyer", "namespace": "shop" },
        "spec": {
            "destination": { "kind": "ServiceAccount", "name": "web", "namespace": destination },
            "sources": [{ "kind": "ServiceAccount", "name": "buyer", "namespace": "other" }],
            "rules": [{ "kind": kind, "name": "routes" }],
        },
    })
}

fn root(name: &str, role: &str) -> Value {
    json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshRootCertificate",
        "metadata": { "name": name, "namespace": "osm-system" },
        "spec": { "role": role, "provider": { "tresor": { "ca": { "secretRef": { "name": name, "namespace": "osm-system" } } } } },
    })
}

#[test]
fn a_traffic_target_is_refused_where_osm_refused_it() {
    assert_eq!(warnings(created("shop", &target("shop", "HTTPRouteGroup"))), Vec::<String>::new());
    let message = denied(created("shop", &target("elsewhere", "HTTPRouteGroup")));
    assert!(
        message.starts_with("traffictarget/shop/buyer: spec.destination.namespace: \"elsewhere\" is not"),
        "{message}"
    );
    assert!(denied(created("shop", &target("shop", "UDPRoute"))).contains("use HTTPRouteGroup or TCPRoute"));
    let unknown = denied(created("shop", &target("shop", "GRPCRoute")));
    assert!(unknown.contains("spec.rules[0].kind") && unknown.contains("GRPCRoute"), "{unknown}");
}

#[test]
fn what_osm_let_pass_is_a_warning_with_the_words_of_render() {
    let mut nobody = target("shop", "HTTPRouteGroup");
    nobody["spec"]["sources"] = json!([]);
    let said = warnings(created("shop", &nobody));
    assert_eq!(said, ["spec.sources: no source is named, so nobody is admitted; name who may call"]);
    let group = json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
        "metadata": { "generateName": "routes-" },
        "spec": { "matches": [{ "name": "all", "pathRegex": "(", "methods": ["*"] }] },
    });
    let said = warnings(created("shop", &group));
    assert!(said[0].starts_with("spec.matches[0].pathRegex: "), "{said:?}");
    let split = json!({
        "apiVersion": "split.smi-spec.io/v1alpha2", "kind": "TrafficSplit", "metadata": { "name": "split" },
        "spec": { "service": "web", "backends": [{ "service": "web-v1", "weight": 0 }] },
    });
    assert!(warnings(created("shop", &split))[0].contains("the weights of the usable backends sum to 0"));
}

#[test]
fn deletions_and_changes_of_metadata_pass_whatever_the_spec_is() {
    let old = target("elsewhere", "UDPRoute");
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!([]);
    assert_eq!(judge(Operation::Delete, "shop", Some(&old), None), Verdict::Allow { warnings: vec![] });
    assert_eq!(judge(Operation::Update, "shop", Some(&old), Some(&new)), Verdict::Allow { warnings: vec![] });
    let undecodable = json!({ "kind": "TrafficTarget", "spec": 1 });
    assert_eq!(judge(Operation::Delete, "shop", Some(&undecodable), None), Verdict::Allow { warnings: vec![] });
    denied(judge(Operation::Update, "shop", Some(&target("shop", "TCPRoute")), Some(&new)));
}

#[test]
fn a_mesh_config_is_never_refused_and_one_that_nobody_reads_says_so() {
    let mut config = json!({
        "apiVersion": "config.openservicemesh.io/v1alpha1", "kind": "MeshConfig",
        "metadata": { "name": "osm-mesh-config", "namespace": "osm-system" },
        "spec": { "traffic": { "outboundIPRangeExclusionList": ["999.0.0.0/8"] } },
    });
    let said = warnings(created("osm-system", &config));
    assert!(said.len() == 1 && said[0].contains("999.0.0.0/8"), "{said:?}");
    config["metadata"]["name"] = "second".into();
    assert!(warnings(created("osm-system", &config))[0].contains("change osm-mesh-config in Namespace osm-system"));
}

#[test]
fn roots_are_judged_together_by_the_rules_of_rotation() {
    let world = world(&[root("a", "active"), root("b", "passive")]);
    let asked = std::cell::RefCell::new(Vec::new());
    let rules = |before: &BTreeMap<&str, Role>, change: RoleChange<'_>| {
        asked.borrow_mut().push(format!("{before:?} {change:?}"));
        Err("no".to_owned())
    };
    let review = |operation, old: Option<Value>, new: Value| ObjectAdmission {
        operation,
        namespace: "osm-system".to_owned(),
        object: Some(new),
        old_object: old,
    };
    let message = denied(validate(&review(Operation::Create, None, root("c", "active")), &world, &rules));
    assert_eq!(message, "meshrootcertificate/osm-system/c: no");
    // The watch is behind: `b` has become active already.
    denied(validate(&review(Operation::Update, Some(root("b", "active")), root("b", "passive")), &world, &rules));
    assert_eq!(
        *asked.borrow(),
        [
            r#"{"a": Active, "b": Passive} Create("c", Active)"#.to_owned(),
            r#"{"a": Active, "b": Active} Update("b", Passive)"#.to_owned(),
        ]
    );
}

#[test]
fn a_root_keeps_its_provider_and_names_what_it_uses() {
    let old = root("a", "active");
    for (pointer, value, field) in [
        ("/spec/provider/tresor/ca/secretRef/name", json!("other"), "spec.provider cannot be changed"),
        ("/spec/trustDomain", json!("other.example"), "spec.trustDomain cannot be changed"),
        ("/spec/spiffeEnabled", json!(true), "spec.spiffeEnabled cannot be changed"),
    ] {
        let mut new = old.clone();
        match new.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => new["spec"][pointer.trim_start_matches("/spec/")] = value,
        }
        let message = denied(judge(Operation::Update, "osm-system", Some(&old), Some(&new)));
        assert!(message.contains(field), "{message}");
    }
    let mut empty = old.clone();
    empty["spec"]["provider"]["tresor"]["ca"]["secretRef"]["name"] = "".into();
    let message = denied(created("osm-system", &empty));
    assert!(message.contains("spec.provider.tresor.ca.secretRef.name is empty"), "{message}");
    let mut none = old.clone();
    none["spec"]["provider"] = json!({});
    assert!(denied(created("osm-system", &none)).contains("no provider is set"));
    let mut domain = old.clone();
    domain["spec"]["trustDomain"] = "".into();
    assert!(denied(created("osm-system", &domain)).contains("spec.trustDomain is empty"));
    let mut elsewhere = old;
    elsewhere["metadata"]["namespace"] = "shop".into();
    assert!(warnings(created("shop", &elsewhere))[0].contains("has no effect"));
}

#[test]
fn kinds_that_the_mesh_does_not_read_pass_and_other_json_does_not() {
    let egress =
        json!({ "apiVersion": "policy.openservicemesh.io/v1alpha1", "kind": "Unheard", "metadata": { "name": "a" } });
    assert!(warnings(created("shop", &egress))[0].contains("does not read this kind"));
    for bad in [json!(1), json!([]), json!(null), json!({}), json!({ "apiVersion": 1, "kind": "TrafficTarget" })] {
        denied(created("shop", &bad));
    }
}
