//! A generator of small worlds: few names, so that objects meet, and of every kind also what is wrong.

use osm_api::{Object, ObjectRef, Strictness, decode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// A change to the objects.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    /// One is added or replaced.
    Set(Box<Object>),
    /// One is removed, if it is there.
    Remove(ObjectRef),
}

/// Changes, of which one in four removes.
pub(crate) fn edits(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Edit>> {
    let edit = (object(), 0..4u8).prop_map(|(object, dice)| match dice {
        0 => Edit::Remove(object.reference()),
        _ => Edit::Set(Box::new(object)),
    });
    vec(edit, count)
}

/// A namespace of the mesh with a workload that nobody knows, by policy.
pub(crate) fn stranger() -> Vec<Object> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "stranger",
        "labels": { "openservicemesh.io/monitored-by": "osm" },
        "annotations": { "openservicemesh.io/permissive": "no" },
    } });
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "hermit", "namespace": "stranger" } });
    [namespace, account].map(read).into()
}

fn read(value: Value) -> Object {
    decode(value, Strictness::Lenient).expect("the generator writes decodable objects")
}

/// An object of any kind.
pub(crate) fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        2 => namespace(),
        1 => mesh_config(),
        2 => service_account(),
        4 => service(),
        5 => endpoint_slice(),
        5 => pod(),
        4 => traffic_target(),
        3 => route_group(),
        1 => tcp_route(),
        3 => traffic_split(),
    ]
    .prop_map(read)
}

fn space() -> impl Strategy<Value = &'static str> {
    select(&["one", "two", "three"][..])
}

fn account() -> impl Strategy<Value = &'static str> {
    select(&["a", "b", "c.v1"][..])
}

fn service_name() -> impl Strategy<Value = &'static str> {
    select(&["web", "db", "api", "peers"][..])
}

fn pod_address() -> impl Strategy<Value = &'static str> {
    select(&["10.244.0.1", "10.244.0.2", "10.244.0.3", "fd00:10::1"][..])
}

fn meta(name: &str, namespace: &str) -> Value {
    json!({ "name": name, "namespace": namespace })
}

fn namespace() -> impl Strategy<Value = Value> {
    let mesh = select(&["osm", "osm", "osm", "other"][..]);
    let permissive = select(&["", "", "enabled", "no", "perhaps"][..]);
    (space(), mesh, permissive).prop_map(|(name, mesh, permissive)| {
        let mut metadata = json!({ "name": name, "labels": { "openservicemesh.io/monitored-by": mesh } });
        if !permissive.is_empty() {
            metadata["annotations"] = json!({ "openservicemesh.io/permissive": permissive });
        }
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })
    })
}

fn mesh_config() -> impl Strategy<Value = Value> {
    let name = select(&["osm-mesh-config", "osm-mesh-config", "mine"][..]);
    (name, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(name, permissive, egress, tracing)| {
        json!({
            "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig", "metadata": meta(name, "osm-system"),
            "spec": {
                "traffic": { "enablePermissiveTrafficPolicyMode": permissive, "enableEgress": egress },
                "observability": { "tracing": { "enable": tracing, "port": 49411 } },
            },
        })
    })
}

fn service_account() -> impl Strategy<Value = Value> {
    (space(), account()).prop_map(
        |(namespace, name)| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name, namespace) }),
    )
}

fn port_name() -> impl Strategy<Value = &'static str> {
    select(&["http", "tcp-db", "grpc", "tcp-server-first-db"][..])
}

fn service() -> impl Strategy<Value = Value> {
    let address = select(&["10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00:96::1", "None", "None", "", "nonsense"][..]);
    let port = (port_name(), select(&[80, 8080, 443, 70_000][..]), select(&[80, 8080, 8081][..]));
    (space(), service_name(), address, vec(port, 0..3)).prop_map(|(namespace, name, address, ports)| {
        let ports: Vec<Value> = ports
            .into_iter()
            .map(|(name, port, target)| json!({ "name": name, "port": port, "targetPort": target }))
            .collect();
        let mut spec = json!({ "ports": ports });
        if !address.is_empty() {
            spec["clusterIP"] = json!(address);
        }
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": meta(name, namespace), "spec": spec })
    })
}

fn endpoint_slice() -> impl Strategy<Value = Value> {
    let endpoint = (pod_address(), select(&["", "p", "q", "r"][..]), any::<Option<bool>>(), any::<bool>());
    let port = (port_name(), select(&[80, 8080, 8081, 0][..]));
    let strategy = (space(), service_name(), 0..2u8, vec(port, 0..3), vec(endpoint, 0..4));
    strategy.prop_map(|(namespace, service, number, ports, endpoints)| {
        let ports: Vec<Value> = ports.into_iter().map(|(name, port)| json!({ "name": name, "port": port })).collect();
        let endpoints: Vec<Value> = endpoints
            .into_iter()
            .map(|(address, pod, ready, terminating)| {
                let mut endpoint = json!({
                    "addresses": [address],
                    "conditions": { "ready": ready, "serving": terminating, "terminating": terminating },
                });
                if !pod.is_empty() {
                    endpoint["targetRef"] = json!({ "kind": "Pod", "name": pod });
                }
                endpoint
            })
            .collect();
        let mut metadata = meta(&format!("{service}-{number}"), namespace);
        metadata["labels"] = json!({ "kubernetes.io/service-name": service });
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        })
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let name = select(&["p", "q", "r"][..]);
    let phase = select(&["Running", "Running", "Running", "Failed"][..]);
    (space(), name, account(), vec(pod_address(), 0..3), phase).prop_map(
        |(namespace, name, account, addresses, phase)| {
            let addresses: Vec<Value> = addresses.into_iter().map(|address| json!({ "ip": address })).collect();
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": meta(name, namespace),
                "spec": { "serviceAccountName": account, "containers": [] },
                "status": { "phase": phase, "podIPs": addresses },
            })
        },
    )
}

fn traffic_target() -> impl Strategy<Value = Value> {
    let name = select(&["first", "second", "third"][..]);
    let source = (account(), space(), select(&["ServiceAccount", "ServiceAccount", "ServiceAccount", "Group"][..]));
    let rule = prop_oneof![
        5 => (route_group_name(), vec(match_name(), 0..2))
            .prop_map(|(name, matches)| json!({ "kind": "HTTPRouteGroup", "name": name, "matches": matches })),
        2 => Just(json!({ "kind": "TCPRoute", "name": "ports" })),
        1 => Just(json!({ "kind": "UDPRoute", "name": "ports" })),
    ];
    (space(), name, account(), vec(source, 0..3), vec(rule, 0..3)).prop_map(|(namespace, name, to, sources, rules)| {
        let sources: Vec<Value> = sources
            .into_iter()
            .map(|(name, namespace, kind)| json!({ "kind": kind, "name": name, "namespace": namespace }))
            .collect();
        json!({
            "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "metadata": meta(name, namespace),
            "spec": {
                "destination": { "kind": "ServiceAccount", "name": to, "namespace": namespace },
                "sources": sources,
                "rules": rules,
            },
        })
    })
}

fn route_group_name() -> impl Strategy<Value = &'static str> {
    select(&["books", "films", "nothing"][..])
}

fn match_name() -> impl Strategy<Value = &'static str> {
    select(&["x", "y", "z"][..])
}

fn route_group() -> impl Strategy<Value = Value> {
    let path = select(&["/buy", "/buy/[0-9]+", ".*", "(", ""][..]);
    let methods = vec(select(&["GET", "POST", "*"][..]), 0..3);
    let header = select(&["user-agent", "user agent", "host", ""][..]);
    let entry = (match_name(), path, methods, header);
    (space(), route_group_name(), vec(entry, 0..4)).prop_map(|(namespace, name, entries)| {
        let matches: Vec<Value> = entries
            .into_iter()
            .map(|(name, path, methods, header)| {
                let mut entry = json!({ "name": name, "pathRegex": path, "methods": methods });
                if !header.is_empty() {
                    entry["headers"] = json!([{ header: "curl/.*" }]);
                }
                entry
            })
            .collect();
        json!({
            "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "metadata": meta(name, namespace),
            "spec": { "matches": matches },
        })
    })
}

fn tcp_route() -> impl Strategy<Value = Value> {
    (space(), vec(select(&[80, 8080, 70_000][..]), 0..3)).prop_map(|(namespace, ports)| {
        json!({
            "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "TCPRoute", "metadata": meta("ports", namespace),
            "spec": { "matches": { "ports": ports } },
        })
    })
}

fn traffic_split() -> impl Strategy<Value = Value> {
    let name = select(&["blue", "green"][..]);
    let created = select(&["2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"][..]);
    let backend = (service_name(), 0..3u32);
    let matches = vec(route_group_name(), 0..2);
    let strategy = (space(), name, created, service_name(), vec(backend, 0..4), matches);
    strategy.prop_map(|(namespace, name, created, apex, backends, matches)| {
        let backends: Vec<Value> =
            backends.into_iter().map(|(service, weight)| json!({ "service": service, "weight": weight })).collect();
        let matches: Vec<Value> =
            matches.into_iter().map(|name| json!({ "kind": "HTTPRouteGroup", "name": name })).collect();
        let mut metadata = meta(name, namespace);
        metadata["creationTimestamp"] = json!(created);
        json!({
            "apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": metadata,
            "spec": { "service": apex, "backends": backends, "matches": matches },
        })
    })
}
