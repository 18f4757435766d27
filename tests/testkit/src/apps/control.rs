//! The control socket's server side, in every application.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::Mutex;

use super::attempt::{Attempter, TryRequest};
use super::checks::{Checks, Health};
use super::counters::{Counters, CountersReport};
use super::load::{Load, LoadRequest};
use super::report::Report;

/// What the control socket acts on.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    /// Which application this is.
    pub(crate) name: String,
    /// What it counts.
    pub(crate) counters: Counters,
    /// Headers that its requests carry.
    pub(crate) headers: BTreeMap<String, String>,
    /// How healthy it is to say it is.
    pub(crate) checks: Checks,
    loads: Arc<Mutex<Loads>>,
}

#[derive(Debug, Default)]
struct Loads {
    last: u64,
    running: BTreeMap<u64, Load>,
}

impl Control {
    pub(crate) fn new(name: String, counters: Counters, headers: BTreeMap<String, String>, checks: Checks) -> Self {
        Self { name, counters, headers, checks, loads: Arc::default() }
    }

    /// Serves until the process ends. A file at `socket` that an earlier process left is replaced.
    pub(crate) async fn serve(self, socket: &Path) -> Result<()> {
        if socket.exists() {
            fs::remove_file(socket).with_context(|| format!("replacing {}", socket.display()))?;
        }
        let listener = UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
        let router = Router::new()
            .route("/counters", get(counters))
            .route("/counters/reset", post(reset))
            .route("/checks/{check}", get(ask_check).put(set_check))
            .route("/try", post(try_series))
            .route("/load", post(start_load))
            .route("/load/{id}", get(look_at_load))
            .route("/load/{id}/finish", post(finish_load))
            .with_state(self);
        axum::serve(listener, router).await?;
        Ok(())
    }
}

async fn counters(State(control): State<Control>) -> Json<CountersReport> {
    Json(CountersReport { name: control.name.clone(), counters: control.counters.all() })
}

async fn reset(State(control): State<Control>) {
    control.counters.reset();
}

async fn ask_check(State(control): State<Control>, UrlPath(check): UrlPath<String>) -> Json<bool> {
    Json(control.checks.ask(&check).await)
}

async fn set_check(State(control): State<Control>, UrlPath(check): UrlPath<String>, Json(health): Json<Health>) {
    control.checks.set(&check, health);
}

async fn try_series(State(control): State<Control>, Json(request): Json<TryRequest>) -> Json<Report> {
    let attempter = Attempter::new(control.headers.clone(), request.connections);
    let report = attempter.series(&request).await;
    for (identity, count) in &report.identities {
        control.counters.add_many(&format!("answers-from-{identity}"), *count);
    }
    control.counters.add_many("unsuccessful", report.unsuccessful());
    Json(report)
}

async fn start_load(State(control): State<Control>, Json(request): Json<LoadRequest>) -> Json<u64> {
    let mut loads = control.loads.lock().await;
    loads.last += 1;
    let id = loads.last;
    loads.running.insert(id, Load::start(&control.headers, &request));
    Json(id)
}

async fn look_at_load(State(control): State<Control>, UrlPath(id): UrlPath<u64>) -> Result<Json<Report>, StatusCode> {
    let loads = control.loads.lock().await;
    loads.running.get(&id).map(|load| Json(load.report())).ok_or(StatusCode::NOT_FOUND)
}

async fn finish_load(State(control): State<Control>, UrlPath(id): UrlPath<u64>) -> Result<Json<Report>, StatusCode> {
    let load = control.loads.lock().await.running.remove(&id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(load.finish().await))
}
