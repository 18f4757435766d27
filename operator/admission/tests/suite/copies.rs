//! Pods that were injected before.

use osm_admission::{Injection, PodAdmission, inject};
use serde_json::{Value, json};

use crate::support::{apply, config, enabled_namespace};

fn inject_as(uid: &str, pod: &Value) -> Value {
    let review = PodAdmission { uid: uid.to_owned(), namespace: "shop".to_owned(), pod: pod.clone() };
    match inject(&review, &enabled_namespace(), &config(None)) {
        Injection::Patch { patch, .. } => apply(pod, &patch),
        other => panic!("{other:?}"),
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "containers": [{
            "name": "web", "image": "web:1",
            "livenessProbe": { "httpGet": { "path": "/live", "port": 8080 } },
            "readinessProbe": { "tcpSocket": { "port": 8080 } },
        }] },
    })
}

fn init_arguments(pod: &Value) -> String {
    pod["spec"]["initContainers"][0]["args"].to_string()
}

#[test]
fn a_copy_without_probes_loses_their_routes_and_gets_a_label_of_its_own() {
    let mut copy = inject_as("first", &pod());
    assert!(init_arguments(&copy).contains("/live"));
    copy["metadata"] = json!({ "name": "web-debug" });
    let container = copy["spec"]["containers"][0].as_object_mut().unwrap();
    container.retain(|key, _| !key.ends_with("Probe"));
    let injected = inject_as("second", &copy);
    assert!(!init_arguments(&injected).contains("/live"));
    assert_eq!(injected["metadata"]["labels"]["osm-proxy-uuid"], "second");
    let names: Vec<_> = injected["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["name"].clone())
        .collect();
    assert_eq!(names, ["osm-init", "envoy"], "nothing needs the container that answers probes any more");
}

#[test]
fn what_another_webhook_added_meanwhile_joins_the_mesh() {
    let mut pod = inject_as("first", &pod());
    // The API server's own part of admission, and a webhook that puts a container in front and one beside.
    let token = json!({ "name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" });
    for container in pod["spec"]["initContainers"].as_array_mut().unwrap() {
        if let Some(mounts) = container["volumeMounts"].as_array_mut() {
            mounts.push(token.clone());
        }
        container["resources"] = json!({ "limits": { "cpu": "1" } });
    }
    let first = json!({ "name": "fetch", "image": "fetch:1" });
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, first);
    let beside =
        json!({ "name": "api", "image": "api:1", "startupProbe": { "httpGet": { "path": "/up", "port": 9090 } } });
    pod["spec"]["containers"].as_array_mut().unwrap().push(beside);

    let again = inject_as("first", &pod);
    assert_eq!(again["spec"]["containers"][0], pod["spec"]["containers"][0], "rewritten probes stay as they are");
    assert_eq!(again["spec"]["containers"][1]["startupProbe"]["httpGet"]["path"], "/osm-startup-probe/api");
    let arguments = init_arguments(&again);
    assert!(arguments.contains("/live") && arguments.contains("/up"), "{arguments}");
    let init = again["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<_> = init.iter().map(|container| container["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["osm-init", "envoy", "osm-healthcheck", "fetch"]);
    assert!(init[1]["volumeMounts"].as_array().unwrap().contains(&token));
    assert_eq!(init[1]["resources"]["limits"]["cpu"], "1");
}
