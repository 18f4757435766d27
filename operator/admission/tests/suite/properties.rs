//! What holds for every Pod.

use osm_admission::{Injection, PodAdmission, inject};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{apply, config, enabled_namespace};

/// Members of a container that injection may change.
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![(1u16..).prop_map(Value::from), Just(json!("http")), Just(json!("nowhere")), Just(json!("8080"))]
}

fn probe() -> impl Strategy<Value = Option<Value>> {
    let path = prop_oneof![Just(json!("/healthz")), Just(json!("ready?a=b")), Just(json!("/a$(B)#c d"))];
    let scheme = prop_oneof![Just("HTTP"), Just("HTTPS")];
    let http = (path, port(), scheme)
        .prop_map(|(path, port, scheme)| json!({ "httpGet": { "path": path, "port": port, "scheme": scheme } }));
    let tcp = port().prop_map(|port| json!({ "tcpSocket": { "port": port } }));
    let grpc = (1u16..).prop_map(|port| json!({ "grpc": { "port": port, "service": "" } }));
    let exec = Just(json!({ "exec": { "command": ["true"] } }));
    let timeout = proptest::option::of(1u32..100);
    let action = prop_oneof![http, tcp, grpc, exec];
    proptest::option::of((action, timeout).prop_map(|(mut probe, timeout)| {
        if let Some(timeout) = timeout {
            probe["timeoutSeconds"] = timeout.into();
        }
        probe
    }))
}

fn container(prefix: &'static str, native: bool) -> impl Strategy<Value = Value> {
    (0u8..9, probe(), probe(), probe(), any::<bool>()).prop_map(move |(name, live, ready, start, sidecar)| {
        let mut container = json!({ "name": format!("{prefix}-{name}"), "image": "a:1", "ports": [{ "name": "http", "containerPort": 8080 }] });
        if native && sidecar {
            container["restartPolicy"] = "Always".into();
        }
        for (field, probe) in PROBES.into_iter().zip([live, ready, start]) {
            if let Some(probe) = probe {
                container[field] = probe;
            }
        }
        container
    })
}

fn containers(prefix: &'static str, native: bool, most: usize) -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(container(prefix, native), 0..most).prop_map(|mut containers| {
        let mut names = std::collections::BTreeSet::new();
        containers.retain(|container| names.insert(container["name"].to_string()));
        containers
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let containers = (containers("app", false, 5), containers("init", true, 4));
    (containers, any::<[bool; 4]>()).prop_map(|((apps, inits), [labels, annotations, volumes, null])| {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "a" },
            "spec": { "containers": apps, "serviceAccountName": "a", "unknownField": { "kept": true } },
        });
        if !inits.is_empty() {
            pod["spec"]["initContainers"] = inits.into();
        } else if null {
            pod["spec"]["initContainers"] = Value::Null;
        }
        if labels {
            pod["metadata"]["labels"] = json!({ "app": "a" });
        }
        if annotations {
            pod["metadata"]["annotations"] = json!({ "openservicemesh.io/outbound-port-exclusion-list": "5432" });
        }
        if volumes {
            pod["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
        }
        pod
    })
}

fn injected(pod: &Value) -> Value {
    let review = PodAdmission { uid: "u".to_owned(), namespace: "shop".to_owned(), pod: pod.clone() };
    match inject(&review, &enabled_namespace(), &config(None)) {
        Injection::Patch { patch, .. } => apply(pod, &patch),
        other => panic!("{other:?}"),
    }
}

/// The Pod without what injection adds.
fn stripped(mut pod: Value) -> Value {
    let own = ["osm-init", "envoy", "osm-healthcheck", "osm-bootstrap", "osm-token", "osm-trust-bundle"];
    for list in ["containers", "initContainers", "volumes"] {
        let Some(entries) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        entries.retain(|entry| !own.contains(&entry["name"].as_str().unwrap()));
        for entry in entries.iter_mut() {
            PROBES.iter().for_each(|field| drop(entry.as_object_mut().unwrap().remove(*field)));
        }
        if entries.is_empty() {
            pod["spec"].as_object_mut().unwrap().remove(list);
        }
    }
    let spec = pod["spec"].as_object_mut().unwrap();
    spec.retain(|_, value| !value.is_null());
    let ours = ["osm-proxy-uuid", "openservicemesh.io/injection-version"];
    for map in ["labels", "annotations"] {
        let Some(entries) = pod["metadata"].get_mut(map).and_then(Value::as_object_mut) else { continue };
        entries.retain(|key, _| !ours.contains(&key.as_str()));
        if entries.is_empty() {
            pod["metadata"].as_object_mut().unwrap().remove(map);
        }
    }
    pod
}

proptest! {
    #[test]
    fn nothing_of_the_application_changes_but_its_probes(pod in pod()) {
        prop_assert_eq!(stripped(injected(&pod)), stripped(pod));
    }

    #[test]
    fn the_second_injection_changes_nothing(pod in pod()) {
        let once = injected(&pod);
        prop_assert_eq!(injected(&once), once);
    }

    #[test]
    fn no_probe_reaches_a_port_that_is_redirected(pod in pod()) {
        for list in ["containers", "initContainers"] {
            for container in injected(&pod)["spec"][list].as_array().into_iter().flatten() {
                for probe in PROBES.iter().filter_map(|field| container.get(*field)) {
                    let unresolvable = |port: &Value| *port == json!("nowhere");
                    let port = probe.pointer("/httpGet/port").or(probe.pointer("/tcpSocket/port"));
                    let good = port.is_none_or(|port| {
                        unresolvable(port) || port.as_u64().is_some_and(|port| (15901..=15905).contains(&port))
                    });
                    prop_assert!(good, "{}", probe);
                    prop_assert!(probe.get("grpc").is_none());
                }
            }
        }
    }

    #[test]
    fn no_json_makes_injection_panic(pod in any_json()) {
        let review = PodAdmission { uid: "u".to_owned(), namespace: "shop".to_owned(), pod };
        let _ = inject(&review, &enabled_namespace(), &config(None));
    }
}

/// JSON that looks somewhat like a Pod.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/$]{0,8}".prop_map(Value::from),
    ];
    let key = proptest::sample::select(vec![
        "metadata",
        "spec",
        "containers",
        "initContainers",
        "volumes",
        "name",
        "labels",
        "annotations",
        "livenessProbe",
        "httpGet",
        "port",
        "path",
        "args",
        "env",
        "restartPolicy",
        "securityContext",
        "runAsUser",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Value>()),
        ]
    })
}
