//! Something in front of an API server that passes requests on, or fails as it is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How requests fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// With this status.
    Status(u16),
    /// There is no answer until this is over.
    Hang,
    /// Answers take that long.
    Slow(Duration),
}

#[derive(Clone)]
struct Passing {
    client: kube::Client,
    fault: watch::Receiver<Option<Fault>>,
    failed: Arc<AtomicUsize>,
}

/// The front of an API server, by plain HTTP, for whoever may do everything.
pub(crate) struct Front {
    kubeconfig: PathBuf,
    fault: watch::Sender<Option<Fault>>,
    failed: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Front {
    /// Before the API server of this kubeconfig; its own is written into `folder`.
    pub(crate) async fn start(kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let (fault, watched) = watch::channel(None);
        let failed: Arc<AtomicUsize> = Arc::default();
        let client = osm_kubernetes::client(Some(kubeconfig)).await?;
        let passing = Passing { client, fault: watched, failed: Arc::clone(&failed) };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = folder.join("front.kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "front",
            "clusters": [{ "name": "front", "cluster": { "server": format!("http://{}", listener.local_addr()?) } }],
            "users": [{ "name": "front", "user": {} }],
            "contexts": [{ "name": "front", "context": { "cluster": "front", "user": "front" } }],
        });
        std::fs::write(&own, config.to_string())?;
        let router = axum::Router::new().fallback(pass).with_state(passing);
        let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { kubeconfig: own, fault, failed, task })
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// From now on requests fail so, and watches that are open end.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        self.failed.store(0, Ordering::Relaxed);
        self.fault.send_replace(fault);
    }

    /// How many have failed since.
    pub(crate) fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }
}

async fn pass(State(passing): State<Passing>, request: Request) -> Response {
    let mut fault = passing.fault.clone();
    let current = *fault.borrow_and_update();
    if current.is_some() {
        passing.failed.fetch_add(1, Ordering::Relaxed);
    }
    match current {
        None => {}
        Some(Fault::Status(code)) => return status(code),
        Some(Fault::Hang) => drop(fault.changed().await),
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
    }
    match passed(passing.client, request).await {
        Ok(answer) => {
            let (parts, body) = answer.into_parts();
            // What happens from here on is not seen by it any more.
            let ended = async move { drop(fault.changed().await) };
            Response::from_parts(parts, Body::from_stream(body.into_data_stream().take_until(ended)))
        }
        Err(error) => (axum::http::StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn passed(client: kube::Client, request: Request) -> Result<axum::http::Response<kube::client::Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes().to_vec();
    Ok(client.send(axum::http::Request::from_parts(parts, kube::client::Body::from(body))).await?)
}

fn status(code: u16) -> Response {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": "Trouble",
        "message": format!("the test says {code}"),
    });
    let code = axum::http::StatusCode::from_u16(code).unwrap();
    (code, [("content-type", "application/json")], status.to_string()).into_response()
}
