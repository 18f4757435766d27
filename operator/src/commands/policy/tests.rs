use osm_engine::{MeshEngine, Options};
use osm_source::{Folder, Hint};

use super::*;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}
---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}
---
apiVersion: v1
kind: Service
metadata: {name: store, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  selector: {app: store}
  ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}, {name: db, port: 5432, targetPort: 5432, appProtocol: tcp}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: store-1, namespace: shop, labels: {kubernetes.io/service-name: store}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2], conditions: {ready: true}, targetRef: {kind: Pod, name: store-1, namespace: shop}}]
ports: [{name: http, port: 8080, protocol: TCP}, {name: db, port: 5432, protocol: TCP}]
---
apiVersion: v1
kind: Pod
metadata: {name: store-1, namespace: shop, labels: {app: store}}
spec: {serviceAccountName: store, containers: [{name: app, image: app}]}
status: {phase: Running, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: buyer-1, namespace: shop}
spec: {serviceAccountName: buyer, containers: [{name: app, image: app}]}
status: {phase: Running, podIP: 10.0.0.3, podIPs: [{ip: 10.0.0.3}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: routes, namespace: shop}
spec: {matches: [{name: books, pathRegex: /books, methods: [GET]}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: buyers, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: store, namespace: shop}
  rules: [{kind: HTTPRouteGroup, name: routes, matches: [books]}]
  sources: [{kind: ServiceAccount, name: buyer, namespace: shop}]
"#;

fn mesh(objects: &str) -> MeshEngine {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), objects).unwrap();
    let refresh = Folder::new(folder.path()).refresh(&Hint::Everything);
    assert_eq!(refresh.problems, []);
    let mut mesh = MeshEngine::new(Options {
        mesh_name: "osm".into(),
        control_plane_namespace: "osm-system".into(),
        trust_domain: osm_model::TrustDomain::new("cluster.local").unwrap(),
        cluster_domain: "cluster.local".into(),
        service_ranges: Vec::new(),
    });
    mesh.update(refresh.changes);
    mesh
}

fn peer(account: &str, has_proxy: bool) -> Peer {
    Peer { pod: format!("shop/{account}-1"), identity: Identity::new("shop", account).unwrap(), has_proxy }
}

#[test]
fn the_object_that_allows_is_named_port_by_port() {
    let answer = check(&mesh(OBJECTS), &peer("buyer", true), &peer("store", true));
    assert!(answer.allowed());
    assert_eq!(answer.obstacles(), [] as [String; 0]);
    let of_port = |number: u16| answer.ports.iter().find(|port| port.port == number).unwrap();
    let http = of_port(8080);
    assert!(http.allowed);
    assert_eq!(http.because, ["traffictarget/shop/buyers"]);
    assert_eq!(http.routes, ["httproutegroup/shop/routes/books"]);
    assert_eq!(http.services, ["shop/store:80"]);
    let tcp = of_port(5432);
    assert!(!tcp.allowed, "an HTTPRouteGroup opens no TCP port");
    assert_eq!(tcp.because, ["no TrafficTarget allows shop/buyer"]);
    let text = answer.table();
    assert!(text.starts_with("shop/buyer-1 -> shop/store-1: allowed\n"), "{text}");
    assert!(text.contains("traffictarget/shop/buyers"), "{text}");
}

#[test]
fn a_caller_that_nobody_names_is_denied() {
    let answer = check(&mesh(OBJECTS), &peer("store", true), &peer("store", true));
    assert!(!answer.allowed());
    assert!(answer.ports.iter().all(|port| !port.allowed));
}

#[test]
fn permissive_mode_allows_every_workload() {
    let open = OBJECTS.replace("Mode: false", "Mode: true");
    let answer = check(&mesh(&open), &peer("store", true), &peer("store", true));
    assert!(answer.ports.iter().all(|port| port.allowed));
    assert_eq!(answer.ports[0].because, ["permissive mode: every workload of the mesh"]);
}

#[test]
fn a_pod_outside_the_mesh_or_without_a_proxy_is_named_with_the_remedy() {
    let mesh = mesh(OBJECTS);
    let outside = Peer { pod: "other/x".to_owned(), identity: Identity::new("other", "x").unwrap(), has_proxy: false };
    let answer = check(&mesh, &outside, &peer("store", true));
    assert!(!answer.allowed());
    assert_eq!(answer.obstacles().len(), 1);
    assert!(answer.obstacles()[0].contains("namespace add other"), "{answer:?}");
    let answer = check(&mesh, &peer("buyer", false), &peer("store", true));
    assert!(answer.obstacles()[0].contains("shop/buyer-1 has no proxy"), "{answer:?}");
}

#[test]
fn pods_are_named_with_their_namespace() {
    assert_eq!(parse_pod("shop/store-1"), Ok(PodName { namespace: "shop".to_owned(), name: "store-1".to_owned() }));
    assert!(parse_pod("store-1").is_err());
    assert!(parse_pod("/store-1").is_err());
}
