use serde_json::json;

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "callers build the value in place")]
fn traffic_target(spec: Value) -> Value {
    json!({
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": "buyer", "namespace": "bookstore"},
        "spec": spec,
    })
}

#[allow(clippy::needless_pass_by_value, reason = "callers build the value in place")]
fn mesh_config(version: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("config.openservicemesh.io/{version}"),
        "kind": "MeshConfig",
        "metadata": {"name": "osm-mesh-config", "namespace": "osm-system"},
        "spec": spec,
    })
}

fn strict_error(value: Value) -> String {
    decode(value, Strictness::Strict).unwrap_err().to_string()
}

#[test]
fn kinds_that_are_not_read_are_told_apart_from_bad_objects() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
    assert!(decode(deployment, Strictness::Strict).unwrap_err().is_unknown_kind());
    let other_group = json!({"apiVersion": "example.com/v1", "kind": "TrafficTarget", "metadata": {"name": "a"}});
    assert!(decode(other_group, Strictness::Strict).unwrap_err().is_unknown_kind());
}

#[test]
fn a_version_that_is_not_served_names_those_that_are() {
    let mut value = traffic_target(json!({}));
    value["apiVersion"] = "access.smi-spec.io/v1alpha1".into();
    assert_eq!(
        strict_error(value),
        "TrafficTarget \"buyer\": apiVersion \"access.smi-spec.io/v1alpha1\" is not supported; \
         use access.smi-spec.io/v1alpha3"
    );
}

#[test]
fn values_that_are_no_objects_are_named() {
    assert_eq!(
        strict_error(json!([1])),
        "a list is not a Kubernetes object; write one with apiVersion, kind and metadata"
    );
    for value in [
        json!({}),
        json!({"apiVersion": "v1"}),
        json!({"apiVersion": 1, "kind": "Pod"}),
        json!({"apiVersion": "v1", "kind": "Pod"}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": []}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": ""}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": 1}}),
    ] {
        let error = decode(value.clone(), Strictness::Lenient).unwrap_err();
        assert!(matches!(error, DecodeError::NotIdentified { .. }), "{value}: {error}");
        assert!(error.field().is_some(), "{value}");
    }
}

#[test]
fn an_unknown_field_is_refused_by_its_path_in_files_and_ignored_from_an_api_server() {
    let value = traffic_target(json!({
        "destination": {"kind": "ServiceAccount", "name": "a"},
        "rules": [{"kind": "HTTPRouteGroup", "name": "r", "match": ["x"]}],
        "sources": [],
        "comment": {"a": 1},
    }));
    assert_eq!(
        strict_error(value.clone()),
        "traffictarget/bookstore/buyer: spec.comment: there is no such field; remove it; \
         spec.rules[0].match: there is no such field; remove it"
    );
    decode(value, Strictness::Lenient).unwrap();
}

#[test]
fn a_slip_of_the_pen_gets_a_suggestion() {
    assert_eq!(
        strict_error(mesh_config("v1alpha2", json!({"sidecar": {"loglevel": "debug"}}))),
        "meshconfig/osm-system/osm-mesh-config: spec.sidecar.loglevel: there is no such field; did you mean logLevel?"
    );
    let mut value = mesh_config("v1alpha2", json!({}));
    value["metadata"]["lables"] = json!({});
    value["Spec"] = json!({});
    assert_eq!(
        strict_error(value),
        "meshconfig/osm-system/osm-mesh-config: Spec: there is no such field; did you mean spec?; \
         metadata.lables: there is no such field; did you mean labels?"
    );
}

#[test]
fn a_field_of_a_newer_version_names_that_version() {
    let spec = json!({"traffic": {"networkInterfaceExclusionList": ["eth1"]}});
    assert_eq!(
        strict_error(mesh_config("v1alpha1", spec.clone())),
        "meshconfig/osm-system/osm-mesh-config: spec.traffic.networkInterfaceExclusionList: \
         this version has no such field; write apiVersion: config.openservicemesh.io/v1alpha2"
    );
    decode(mesh_config("v1alpha2", spec), Strictness::Strict).unwrap();
}

#[test]
fn any_name_may_stand_where_the_schema_has_a_map() {
    let value = json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "r", "namespace": "n", "labels": {"any/label": "x"}},
        "spec": {"matches": [{"name": "m", "headers": [{"x-any": ".*"}]}]},
    });
    decode(value, Strictness::Strict).unwrap();
}

#[test]
fn a_missing_field_is_named_in_full() {
    let value = traffic_target(json!({"destination": {"kind": "ServiceAccount"}, "rules": [], "sources": []}));
    let error = decode(value, Strictness::Lenient).unwrap_err();
    assert_eq!(error.field(), Some("spec.destination.name"));
    assert_eq!(
        error.to_string(),
        "traffictarget/bookstore/buyer: spec.destination.name: the field is required; add it"
    );
    let mut without_spec = traffic_target(json!({}));
    without_spec.as_object_mut().unwrap().remove("spec");
    let error = decode(without_spec, Strictness::Lenient).unwrap_err();
    assert_eq!(error.field(), Some("spec.destination"));
}

#[test]
fn a_wrong_value_is_named_with_its_field() {
    let value = traffic_target(json!({
        "destination": {"kind": "ServiceAccount", "name": "a"},
        "rules": [{"kind": "TCPRoute", "name": "r"}, {"kind": "HTTPRoute", "name": "r"}],
        "sources": [],
    }));
    assert_eq!(
        strict_error(value),
        "traffictarget/bookstore/buyer: spec.rules[1].kind: \"HTTPRoute\": unknown variant `HTTPRoute`, \
         expected one of `HTTPRouteGroup`, `TCPRoute`, `UDPRoute`"
    );
    let error = strict_error(mesh_config("v1alpha2", json!({"traffic": {"inboundPortExclusionList": [80, 70000]}})));
    assert_eq!(
        error,
        "meshconfig/osm-system/osm-mesh-config: spec.traffic.inboundPortExclusionList[1]: 70000: \
         70000 is not a port; use a number from 1 to 65535"
    );
    let long = strict_error(mesh_config("v1alpha2", json!({"traffic": {"enableEgress": "x".repeat(10_000)}})));
    assert!(long.len() < 10_500 && long.contains('…'), "{}", long.len());
}

#[test]
fn a_bare_off_is_told_to_be_quoted() {
    let value: Value = serde_saphyr::from_str("{sidecar: {logLevel: off}}").unwrap();
    let error = strict_error(mesh_config("v1alpha2", value));
    assert!(error.contains("spec.sidecar.logLevel: false"), "{error}");
    assert!(error.contains("put it in quotes"), "{error}");
}

#[test]
fn null_counts_as_absent() {
    let value = mesh_config(
        "v1alpha2",
        json!({"sidecar": null, "traffic": {"enableEgress": null, "inboundExternalAuthorization": {"port": null}}}),
    );
    decode(value, Strictness::Strict).unwrap();
    let value = mesh_config("v1alpha2", Value::Null);
    decode(value, Strictness::Strict).unwrap();
}

#[test]
fn an_object_without_a_namespace_is_in_default() {
    let mut value = mesh_config("v1alpha2", json!({}));
    value["metadata"].as_object_mut().unwrap().remove("namespace");
    let object = decode(value, Strictness::Strict).unwrap();
    assert_eq!(object.reference().to_string(), "meshconfig/default/osm-mesh-config");
    assert_eq!(object.metadata().namespace.as_deref(), Some("default"));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "namespace": "b"}});
    let object = decode(namespace, Strictness::Strict).unwrap();
    assert_eq!(object.reference().to_string(), "namespace/a");
    assert_eq!(object.metadata().namespace, None);
}

#[test]
fn a_status_that_cannot_be_read_does_not_make_the_object_unreadable() {
    let mut value = mesh_config("v1alpha2", json!({"traffic": {"enableEgress": true}}));
    value["status"] = json!({"conditions": "none", "somethingElse": 1});
    match decode(value, Strictness::Strict).unwrap() {
        Object::MeshConfig(config) => {
            assert!(config.spec.traffic.enable_egress());
            assert_eq!(config.status, None);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_older_mesh_config_is_converted_without_loss() {
    let spec = json!({
        "sidecar": {"logLevel": "warn", "maxDataPlaneConnections": 7, "resources": {"limits": {"cpu": "1"}}},
        "traffic": {"enableEgress": true, "outboundIPRangeExclusionList": ["10.0.0.0/8"]},
        "observability": {"tracing": {"enable": true}},
        "certificate": {"serviceCertValidityDuration": "24h", "certKeyBitSize": 2048},
        "featureFlags": {"enableWASMStats": true},
    });
    let object = decode(mesh_config("v1alpha1", spec.clone()), Strictness::Strict).unwrap();
    let value = object.to_value().unwrap();
    assert_eq!(value["apiVersion"], "config.openservicemesh.io/v1alpha2");
    assert_eq!(value["spec"], spec);
}

#[test]
fn kubernetes_own_kinds_are_read_leniently() {
    let value = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "namespace": "b", "newField": 1},
        "spec": {"newField": {}, "ports": [{"port": 80}]},
        "newField": [],
    });
    match decode(value, Strictness::Strict).unwrap() {
        Object::Service(service) => {
            let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).unwrap();
            assert_eq!(ports[0].port, 80);
        }
        other => panic!("{other:?}"),
    }
    let bad = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "b"},
        "spec": {"ports": [{"port": "http"}]},
    });
    let error = decode(bad, Strictness::Strict).unwrap_err();
    assert_eq!(error.field(), Some("spec.ports[0].port"), "{error}");
}

#[test]
fn bottomless_objects_are_refused() {
    let mut bottomless = Value::Null;
    for _ in 0..3_000 {
        bottomless = Value::Array(vec![bottomless]);
    }
    let mut value = mesh_config("v1alpha2", json!({}));
    value["spec"] = bottomless;
    let error = decode(value, Strictness::Lenient).unwrap_err();
    assert!(matches!(error, DecodeError::TooDeep { .. }), "{error}");
}

#[test]
fn a_pod_whose_status_cannot_be_read_is_an_error_because_its_address_is_there() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}, "status": {"podIP": 1},
    });
    let error = decode(pod, Strictness::Lenient).unwrap_err();
    assert_eq!(error.field(), Some("status.podIP"), "{error}");
}
