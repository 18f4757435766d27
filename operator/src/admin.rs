//! The admin endpoint: health, metrics, a dump of every stage, and the renewal of certificates on demand. It listens on loopback
//! unless told otherwise: whoever reaches it needs no credential.

mod debug_access;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::future::BoxFuture;
use osm_api::Kind;
use osm_issuer::Renewed;
use osm_model::Identity;
use osm_xds::Cache;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::debug_access::DebugAccess;
use crate::driver::Dump;
use crate::metrics::Metrics;
use crate::replicas::{self, TELLS_PATH, Telling};

/// A question to the driver, with where the answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub dump: Dump,
    /// Receives the answer; `None` when what is asked about does not exist.
    pub answer: oneshot::Sender<Option<Value>>,
}

/// Answers pages of `/debug` that the driver knows nothing of, by name.
pub(crate) type ExtraPages = Arc<dyn Fn(&str) -> Option<Value> + Send + Sync>;

/// Renews every workload's certificate now, whatever its age.
pub(crate) type RotateCertificates = Arc<dyn Fn() -> BoxFuture<'static, Renewed> + Send + Sync>;

/// How far a process has come between its start and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It waits for this.
    Starting(String),
    /// It serves, as soon as its inputs are read.
    Serving,
    /// It is about to end, and sends proxies away.
    Stopping,
}

/// The phase of the process, as whoever asks whether it is ready sees it. A handle: clones are the same.
#[derive(Debug, Clone)]
pub struct Readiness {
    phase: Arc<ArcSwap<Phase>>,
    cache: Cache,
}

impl Readiness {
    /// Ready when `phase` is [`Phase::Serving`] and the inputs of `cache` were read.
    pub fn new(phase: Phase, cache: Cache) -> Self {
        Self { phase: Arc::new(ArcSwap::from_pointee(phase)), cache }
    }

    /// The process has come this far.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(Arc::new(phase));
    }

    /// Why the process is not ready; `None` when it is.
    pub fn obstacle(&self) -> Option<String> {
        match &**self.phase.load() {
            Phase::Starting(waits_for) => Some(waits_for.clone()),
            Phase::Stopping => Some("the control plane is stopping".to_owned()),
            Phase::Serving if self.cache.is_ready() => None,
            Phase::Serving => Some("the inputs are not read yet".to_owned()),
        }
    }
}

/// What the endpoint reads from.
#[derive(Clone)]
pub struct Admin {
    /// Questions to the driver.
    pub questions: mpsc::Sender<Question>,
    /// Readiness.
    pub readiness: Readiness,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Problems of the source, and the state of certificates.
    pub extra: ExtraPages,
    /// What `POST /certificates/rotate` does.
    pub rotate: RotateCertificates,
    /// What other replicas are told; `None` where there are none.
    pub(crate) telling: Option<Telling>,
    /// Who may see the pages below `/debug`.
    pub(crate) debug: DebugAccess,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// What `/debug` lists.
const INDEX: &[(&str, &str)] = &[
    ("/livez", "whether the process runs"),
    ("/readyz", "whether the inputs were read and snapshots are served"),
    ("/version", "version of the control plane"),
    ("/smi/version", "versions of the SMI kinds that are read"),
    ("/metrics", "metrics for Prometheus"),
    ("/debug/problems", "problems of the source that keep the last good state in force"),
    ("/debug/objects", "objects the mesh is made of"),
    ("/debug/findings", "what is wrong with them"),
    ("/debug/mesh", "settings, open services, workloads"),
    ("/debug/mesh/{namespace}/{service account}", "what a workload serves and reaches, and why"),
    ("/debug/engine", "size and cost of the computation"),
    ("/debug/snapshots", "names and versions of all resources by workload"),
    ("/debug/snapshots/{namespace}/{service account}", "all resources of a workload, secrets hidden"),
    ("/debug/proxies", "streams and what they acknowledged"),
    (
        "/debug/certificates",
        "certificates by identity, without keys; POST /certificates/rotate renews those of workloads",
    ),
    (
        "/debug/roots",
        "roots of trust: who signs, who is trusted, and what a change of them waits for (of several replicas the holder of the Lease knows)",
    ),
    ("/debug/status", "status of objects and workloads"),
];

impl Admin {
    /// The routes. To be served with the address of whoever asks (`into_make_service_with_connect_info::<SocketAddr>`).
    pub fn router(self) -> Router {
        let guard = axum::middleware::from_fn_with_state(self.debug.clone(), debug_access::guard);
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/health/alive", get(|| async { "ok\n" }))
            .route("/health/ready", get(readyz))
            .route("/version", get(version))
            .route("/smi/version", get(smi_version))
            .route("/metrics", get(metrics))
            .route(TELLS_PATH, get(replica_tells))
            .route("/debug", get(index))
            .route("/debug/{page}", get(page))
            .route("/debug/mesh/{namespace}/{account}", get(workload))
            .route("/debug/snapshots/{namespace}/{account}", get(snapshot))
            .route("/certificates/rotate", post(rotate))
            .with_state(self)
            .layer(guard)
    }

    async fn ask(&self, dump: Dump) -> Response {
        let (answer, answered) = oneshot::channel();
        if self.questions.send(Question { dump, answer }).await.is_err() {
            return (StatusCode::SERVICE_UNAVAILABLE, "the control plane is stopping\n").into_response();
        }
        match answered.await {
            Ok(Some(value)) => pretty(&value),
            Ok(None) => (StatusCode::NOT_FOUND, "there is no such workload\n").into_response(),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the control plane is stopping\n").into_response(),
        }
    }
}

fn pretty(value: &Value) -> Response {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response()
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.readiness.obstacle() {
        None => "ok\n".into_response(),
        Some(obstacle) => (StatusCode::SERVICE_UNAVAILABLE, obstacle + "\n").into_response(),
    }
}

async fn version() -> Response {
    pretty(&json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// Versions of the SMI kinds that are read, by kind, as OSM's command line asks for them.
async fn smi_version() -> Response {
    let smi = Kind::own().filter(|kind| kind.group().ends_with("smi-spec.io"));
    pretty(&Value::Object(smi.map(|kind| (kind.as_str().to_owned(), json!(kind.api_version()))).collect()))
}

async fn replica_tells(State(admin): State<Admin>) -> Response {
    match admin.telling {
        Some(telling) => replicas::tells(telling),
        None => (StatusCode::NOT_FOUND, "this process has no other replicas\n").into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.metrics.text()).into_response()
}

/// Answers when every certificate is issued; proxies get theirs right after.
async fn rotate(State(admin): State<Admin>) -> Response {
    let Renewed { renewed, failed } = (admin.rotate)().await;
    let answer = pretty(&json!({ "renewed": renewed, "failed": failed }));
    if failed == 0 { answer } else { (StatusCode::SERVICE_UNAVAILABLE, answer).into_response() }
}

async fn index() -> Response {
    let pages: Vec<Value> = INDEX.iter().map(|(path, what)| json!({ "path": path, "what": what })).collect();
    pretty(&json!(pages))
}

async fn page(State(admin): State<Admin>, Path(page): Path<String>) -> Response {
    let dump = match page.as_str() {
        "objects" => Dump::Objects,
        "findings" => Dump::Findings,
        "mesh" => Dump::Mesh,
        "engine" => Dump::Engine,
        "snapshots" => Dump::Snapshots,
        "proxies" => Dump::Proxies,
        "status" => Dump::Status,
        other => {
            return match (admin.extra)(other) {
                Some(value) => pretty(&value),
                None => (StatusCode::NOT_FOUND, "see /debug for what there is\n").into_response(),
            };
        }
    };
    admin.ask(dump).await
}

async fn workload(State(admin): State<Admin>, Path((namespace, account)): Path<(String, String)>) -> Response {
    match Identity::new(&namespace, &account) {
        Ok(identity) => admin.ask(Dump::Workload(identity)).await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

async fn snapshot(State(admin): State<Admin>, Path((namespace, account)): Path<(String, String)>) -> Response {
    match Identity::new(&namespace, &account) {
        Ok(identity) => admin.ask(Dump::Snapshot(identity)).await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}
