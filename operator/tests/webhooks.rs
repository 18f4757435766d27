//! The webhooks as an API server meets them: over TLS, with good and with bad requests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use osm_admission::World;
use osm_api::{ObjectRef, Strictness, decode};
use osm_engine::Options;
use osm_issuer::{
    CertificateStore, Clock, LeafCertificate, PeerIdentity, TrustBundle, TrustDomain, anonymous_client_config,
};
use osm_operator::{
    MAX_REQUEST_BYTES, MUTATING_PATH, VALIDATING_PATH, WebhookArgs, WebhookMetrics, WebhookTls, Webhooks,
    control_plane_identity, open_store, serve_webhooks,
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Long enough for a machine under load.
const DEADLINE: Duration = Duration::from_secs(60);

/// An authority of its own, with the control plane's certificate.
struct Authority {
    _folder: tempfile::TempDir,
    leaf: Arc<LeafCertificate>,
    bundle: Arc<TrustBundle>,
}

impl Authority {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: CertificateStore = open_store(folder.path(), Clock::system()).unwrap();
        let name = control_plane_identity(&TrustDomain::new("cluster.local").unwrap(), "osm-system").unwrap();
        let leaf = store.certificate(&PeerIdentity::ControlPlane(name)).await.unwrap();
        let bundle = store.trust_bundle().await.unwrap();
        Self { _folder: folder, leaf, bundle }
    }
}

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    webhooks: WebhookArgs,
}

/// Webhooks that are served, and what they answer from.
struct Served {
    address: SocketAddr,
    tls: WebhookTls,
    authority: Authority,
    world: watch::Sender<Option<Arc<World>>>,
    registry: Registry,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn served(world: Option<World>) -> Served {
    let authority = Authority::new().await;
    let tls = WebhookTls::new(&authority.leaf, &authority.bundle).unwrap();
    let (world, watched) = watch::channel(world.map(Arc::new));
    let mut registry = Registry::with_prefix("osm");
    let options = Options {
        mesh_name: "osm".into(),
        control_plane_namespace: "osm-system".into(),
        trust_domain: osm_model::TrustDomain::new("cluster.local").unwrap(),
        cluster_domain: "cluster.local".into(),
        service_ranges: Vec::new(),
    };
    let defaults = CommandLine::parse_from(["run"]).webhooks.injector(&options);
    let metrics = WebhookMetrics::register(&mut registry);
    let webhooks = Webhooks { world: watched, defaults: Arc::new(defaults), metrics };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve_webhooks(listener, tls.clone(), webhooks, async {
        // Dropping the sender is no order to stop.
        if stopped.await.is_err() {
            pending::<()>().await;
        }
    }));
    Served { address, tls, authority, world, registry, stop, server }
}

fn with(world: &mut World, object: Value) {
    let object = decode(object, Strictness::Strict).unwrap();
    let metadata = object.metadata();
    let (namespace, name) = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap());
    world.apply(&ObjectRef::new(object.kind(), namespace, name), Some(&object));
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": { "openservicemesh.io/monitored-by": "osm" },
            "annotations": { "openservicemesh.io/sidecar-injection": "enabled" },
        },
    })
}

/// A cluster with the Namespace `shop` in the mesh.
fn cluster() -> World {
    let mut world = World::new("osm", "osm-system");
    with(&mut world, namespace("shop"));
    world
}

/// How a client comes.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// The name that an API server calls the webhooks by.
const SERVER_NAME: &str = "osm-controller.osm-system.svc";

async fn connect(
    address: SocketAddr,
    trusted: &TrustBundle,
    protocol: Protocol,
) -> anyhow::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let mut config = anonymous_client_config(trusted)?;
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    let stream = TcpStream::connect(address).await?;
    Ok(TokioIo::new(TlsConnector::from(Arc::new(config)).connect(SERVER_NAME.to_owned().try_into()?, stream).await?))
}

async fn connect_http2(
    address: SocketAddr,
    trusted: &TrustBundle,
) -> anyhow::Result<hyper::client::conn::http2::SendRequest<Full<Bytes>>> {
    let io = connect(address, trusted, Protocol::Http2).await?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(connection);
    sender.ready().await?;
    Ok(sender)
}

/// One request on a connection of its own; gives status and body.
async fn send(
    address: SocketAddr,
    trusted: &TrustBundle,
    protocol: Protocol,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<(u16, String)> {
    let request = Request::builder()
        .method(method)
        .uri(match protocol {
            Protocol::Http1 => path.to_owned(),
            Protocol::Http2 => format!("https://{SERVER_NAME}{path}"),
        })
        .header("host", SERVER_NAME)
        .body(Full::new(Bytes::from(body)))?;
    let response = match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(connect(address, trusted, protocol).await?).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        }
        Protocol::Http2 => connect_http2(address, trusted).await?.send_request(request).await?,
    };
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec())?))
}

impl Served {
    async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> (u16, String) {
        let request = send(self.address, &self.authority.bundle, Protocol::Http1, "POST", path, body.into());
        timeout(DEADLINE, request).await.expect("an answer in time").unwrap()
    }

    /// `response` of the answer to a request.
    async fn ask(&self, path: &str, request: &Value) -> Value {
        let (status, body) = self.post(path, review(request).to_string()).await;
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], request["uid"]);
        answer["response"].clone()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn review(request: &Value) -> Value {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
}

fn pod_request(namespace: &str, pod: &Value) -> Value {
    json!({
        "uid": "7f0b2891-916f-4ed6-b7cd-27bff1815a8c",
        "kind": { "group": "", "version": "v1", "kind": "Pod" },
        "resource": { "group": "", "version": "v1", "resource": "pods" },
        "operation": "CREATE", "namespace": namespace, "object": pod, "dryRun": true,
        "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "generateName": "web-", "labels": { "osm-proxy-uuid": "somebody-else" } },
        "spec": { "serviceAccountName": "web", "containers": [{ "name": "web", "image": "web:1" }] },
    })
}

fn target_request(destination: &str) -> Value {
    json!({
        "uid": "a", "kind": { "group": "access.smi-spec.io", "version": "v1alpha3", "kind": "TrafficTarget" },
        "operation": "CREATE", "namespace": "shop", "name": "t",
        "object": {
            "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "metadata": { "name": "t", "namespace": "shop" },
            "spec": {
                "destination": { "kind": "ServiceAccount", "name": "web", "namespace": destination }, "sources": [],
                "rules": [{ "kind": "TCPRoute", "name": "routes" }],
            },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_its_patch_by_either_protocol() {
    let served = served(Some(cluster())).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let body = review(&pod_request("shop", &pod())).to_string().into_bytes();
        let request = send(served.address, &served.authority.bundle, protocol, "POST", MUTATING_PATH, body);
        let (status, body) = timeout(DEADLINE, request).await.unwrap().unwrap();
        assert_eq!(status, 200, "{protocol:?}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let response = &answer["response"];
        assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
        let patch = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let mut injected = pod();
        json_patch::patch(&mut injected, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
        assert_eq!(injected["spec"]["initContainers"][1]["name"], "envoy");
        assert_eq!(
            injected["metadata"]["labels"]["osm-proxy-uuid"], answer["response"]["uid"],
            "what a pod claims is replaced"
        );
    }
    let metrics = served.metrics();
    assert!(metrics.contains(r#"osm_admission_webhook_response_total{kind="Pod",success="true"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"osm_admission_outcomes_total{webhook="mutating",outcome="injected"} 2"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_refused_in_words_and_hurts_nobody() {
    let served = served(Some(cluster())).await;
    let good = || pod_request("shop", &pod());
    let changed = |pointer: &str, value: Value| {
        let mut review = review(&good());
        *review.pointer_mut(pointer).unwrap() = value;
        review.to_string()
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        (String::new(), "EOF"),
        ("{".to_owned(), "EOF"),
        ("null".to_owned(), "invalid type: null"),
        ("[]".to_owned(), "no AdmissionReview"),
        ("{}".to_owned(), "missing field `apiVersion`"),
        (format!("{} x", review(&good())), "trailing characters"),
        (deep, "invalid type"),
        (
            format!(
                r#"{{"apiVersion":"a","kind":"b","request":{{"uid":"a","kind":{{"kind":"Pod"}},"operation":"CREATE","object":{}1{}}}}}"#,
                "[".repeat(100_000),
                "]".repeat(100_000)
            ),
            "recursion limit",
        ),
        (
            changed("/apiVersion", json!("admission.k8s.io/v1beta1")),
            "v1beta1 AdmissionReview, not an admission.k8s.io/v1",
        ),
        (changed("/kind", json!("Pod")), "v1 Pod, not an"),
        (changed("/request", json!(null)), "request is missing"),
        (changed("/request", json!(1)), "request: invalid type: integer"),
        (changed("/request/uid", json!("")), "request.uid is empty"),
        (changed("/request/uid", json!({})), "request.uid: invalid type: map"),
        (changed("/request/operation", json!("PATCH")), r#"request.operation: "PATCH" is none of"#),
        (changed("/request/kind", json!([])), "request.kind"),
        (changed("/request/namespace", json!(7)), "request.namespace"),
    ];
    for path in [MUTATING_PATH, VALIDATING_PATH] {
        for (body, expected) in &cases {
            let (status, answer) = served.post(path, body.as_str()).await;
            assert_eq!(status, 400, "{answer}");
            assert!(answer.contains(expected), "{answer} does not say {expected}");
        }
    }
    let not_utf8 = served.post(MUTATING_PATH, vec![0xff, 0xfe, 0x00]).await;
    assert_eq!(not_utf8.0, 400);
    let metrics = served.metrics();
    assert!(
        metrics.contains(r#"osm_admission_outcomes_total{webhook="validating",outcome="invalid"} 17"#),
        "{metrics}"
    );
    assert_eq!(served.ask(MUTATING_PATH, &good()).await["allowed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_makes_no_sense_is_denied_with_what_is_wrong() {
    let served = served(Some(cluster())).await;
    for (pod, expected) in [
        (json!("a text"), "Pod shop/* cannot be read"),
        (
            json!({ "metadata": { "name": "web" }, "spec": { "containers": 1 } }),
            "Pod shop/web cannot be read: spec.containers",
        ),
        (json!({ "metadata": { "name": "web" } }), "spec"),
        (
            json!({ "metadata": { "name": "web", "annotations": { "openservicemesh.io/sidecar-injection": "perhaps" } }, "spec": { "containers": [] } }),
            "annotation openservicemesh.io/sidecar-injection: \"perhaps\"",
        ),
        (json!(null), "request.object of the Pod is missing"),
    ] {
        let response = served.ask(MUTATING_PATH, &pod_request("shop", &pod)).await;
        assert_eq!(response["allowed"], false, "{response}");
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message} does not say {expected}");
        assert_eq!(response.get("patch"), None);
    }
    let response = served.ask(VALIDATING_PATH, &target_request("elsewhere")).await;
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("spec.destination.namespace"), "{response}");
    let response = served.ask(VALIDATING_PATH, &target_request("shop")).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("spec.sources"), "{response}");
    let mut old_schema = target_request("shop");
    old_schema["object"]["spec"]["rules"] = json!("all");
    let response = served.ask(VALIDATING_PATH, &old_schema).await;
    assert!(response["status"]["message"].as_str().unwrap().contains("spec.rules"), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_new_pod_passes_and_says_what_to_correct() {
    let served = served(Some(cluster())).await;
    let mut request = pod_request("shop", &pod());
    request["kind"] = json!({ "group": "apps", "version": "v1", "kind": "Deployment" });
    let response = served.ask(MUTATING_PATH, &request).await;
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
    assert!(response["warnings"][0].as_str().unwrap().contains("MutatingWebhookConfiguration"), "{response}");
    for (field, value) in [("operation", "UPDATE"), ("subResource", "ephemeralcontainers")] {
        let mut request = pod_request("shop", &pod());
        request[field] = value.into();
        let response = served.ask(MUTATING_PATH, &request).await;
        assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None), "{field}");
    }
    for (method, path, expected) in [("GET", MUTATING_PATH, 405), ("POST", "/elsewhere", 404)] {
        let request = send(served.address, &served.authority.bundle, Protocol::Http2, method, path, Vec::new());
        assert_eq!(timeout(DEADLINE, request).await.unwrap().unwrap().0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_request_is_refused_with_the_limit() {
    let served = served(Some(cluster())).await;
    // A good request of 3 MiB, the API server's own limit, twice over: it holds an old and a new object.
    let mut large = target_request("shop");
    large["operation"] = "UPDATE".into();
    large["object"]["metadata"]["annotations"] = json!({ "filler": "x".repeat(3 * 1024 * 1024 - 4096) });
    large["oldObject"] = large["object"].clone();
    assert_eq!(served.ask(VALIDATING_PATH, &large).await["allowed"], true);
    let (status, message) = served.post(MUTATING_PATH, vec![b' '; MAX_REQUEST_BYTES + 1]).await;
    assert_eq!(status, 413);
    assert!(message.contains(&MAX_REQUEST_BYTES.to_string()), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_cluster_is_read_nothing_is_decided() {
    let served = served(None).await;
    for path in [MUTATING_PATH, VALIDATING_PATH] {
        let (status, message) = served.post(path, review(&pod_request("shop", &pod())).to_string()).await;
        assert_eq!(status, 503);
        assert!(message.contains("try again"), "{message}");
    }
    served.world.send_replace(Some(Arc::new(cluster())));
    assert_eq!(served.ask(MUTATING_PATH, &pod_request("shop", &pod())).await["allowed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_a_namespace_that_the_watch_has_not_shown_waits_for_it() {
    let served = served(Some(cluster())).await;
    let unknown = served.ask(MUTATING_PATH, &pod_request("new", &pod())).await;
    assert_eq!((&unknown["allowed"], &unknown["status"]["code"]), (&json!(false), &json!(503)));
    assert!(
        unknown["status"]["message"].as_str().unwrap().contains("\"new\" is not known to the mesh yet"),
        "{unknown}"
    );
    // The Namespace appears while the request waits, or has just appeared: the answer is the same.
    let mut world = cluster();
    with(&mut world, namespace("new"));
    let request = pod_request("new", &pod());
    let (response, _) = tokio::join!(served.ask(MUTATING_PATH, &request), async {
        served.world.send_replace(Some(Arc::new(world)));
    });
    assert!(response["patch"].is_string(), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_the_certificate_is_replaced() {
    let served = served(Some(cluster())).await;
    let next = Authority::new().await;
    // As in a rotation: the API server is told of both roots first.
    let both = served.authority.bundle.union(&next.bundle);
    let body = review(&pod_request("shop", &pod())).to_string().into_bytes();
    let mut shown_next = false;
    for round in 0..40 {
        if round % 4 == 2 {
            let authority = if round % 8 == 2 { &next } else { &served.authority };
            served.tls.replace(&authority.leaf, &authority.bundle).unwrap();
        }
        let protocol = if round % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
        let requests = (0..4).map(|_| send(served.address, &both, protocol, "POST", MUTATING_PATH, body.clone()));
        let answers = timeout(DEADLINE, futures::future::try_join_all(requests)).await.unwrap().unwrap();
        assert!(answers.iter().all(|(status, _)| *status == 200));
        let only_next = send(served.address, &next.bundle, protocol, "POST", MUTATING_PATH, body.clone());
        shown_next |= timeout(DEADLINE, only_next).await.unwrap().is_ok();
    }
    assert!(shown_next, "the new certificate was in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_or_nonsense_hold_nobody_up() {
    let served = served(Some(cluster())).await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(served.address).await.unwrap());
    }
    let mut nonsense = TcpStream::connect(served.address).await.unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(served.ask(MUTATING_PATH, &pod_request("shop", &pod())).await["allowed"], true);
    // A client that trusts another root is not served.
    let stranger = Authority::new().await;
    let request = send(served.address, &stranger.bundle, Protocol::Http2, "POST", MUTATING_PATH, Vec::new());
    assert!(timeout(DEADLINE, request).await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_requests_under_way_are_answered() {
    let Served { address, authority, stop, server, world, .. } = served(Some(cluster())).await;
    let request = |namespace: &str| {
        let body = review(&pod_request(namespace, &pod())).to_string().into_bytes();
        let request = Request::post(format!("https://{SERVER_NAME}{MUTATING_PATH}"));
        request.body(Full::new(Bytes::from(body))).unwrap()
    };
    let mut sender = connect_http2(address, &authority.bundle).await.unwrap();
    // The connection is in use: what is new from here on is the request.
    assert_eq!(sender.send_request(request("shop")).await.unwrap().status(), 200);
    let idle = world.receiver_count();
    // It waits for its Namespace, and is under way when the end comes.
    let answer = tokio::spawn(sender.send_request(request("new")));
    let waits = async {
        while world.receiver_count() <= idle {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, waits).await.expect("the request arrives");
    stop.send(()).unwrap();
    let mut known = cluster();
    with(&mut known, namespace("new"));
    world.send_replace(Some(Arc::new(known)));
    assert_eq!(timeout(DEADLINE, answer).await.unwrap().unwrap().unwrap().status(), 200);
    drop(sender);
    timeout(DEADLINE, server).await.expect("the server ends").unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
