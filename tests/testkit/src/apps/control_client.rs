//! The control socket's client side, for the runner.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::attempt::{Target, TryRequest};
use super::checks::Health;
use super::counters::CountersReport;
use super::load::LoadRequest;
use super::report::Report;
use crate::process::eventually;

/// Asks one application to do things, and what it saw.
#[derive(Debug, Clone)]
pub struct ControlClient {
    socket: PathBuf,
}

/// Load that an application is making.
#[derive(Debug)]
#[must_use = "load goes on until it is finished"]
pub struct RunningLoad {
    client: ControlClient,
    id: u64,
}

impl ControlClient {
    /// For the application whose socket this is.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until the application answers.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn ready(&self, limit: Duration) -> Result<CountersReport> {
        eventually("the application's control socket answers", limit, || self.counters()).await
    }

    /// What the application has counted.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn counters(&self) -> Result<CountersReport> {
        self.ask("GET", "/counters", &()).await
    }

    /// Sets the application's counters to zero.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn reset_counters(&self) -> Result<()> {
        self.send("POST", "/counters/reset", &()).await.map(drop)
    }

    /// Lets the application answer a check so from now on: see the application `health`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn set_check(&self, check: &str, health: Health) -> Result<()> {
        self.send("PUT", &format!("/checks/{check}"), &health).await.map(drop)
    }

    /// Asks a check, as a probe does.
    pub(crate) async fn asks(&self, check: &str) -> Result<bool> {
        self.ask("GET", &format!("/checks/{check}"), &()).await
    }

    /// Makes a series of attempts.
    ///
    /// # Errors
    /// The application does not answer; that attempts fail is in the report.
    pub async fn attempt(&self, request: &TryRequest) -> Result<Report> {
        self.ask("POST", "/try", request).await
    }

    /// `count` GETs on new connections.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn get(&self, url: &str, count: u32) -> Result<Report> {
        self.attempt(&TryRequest::new(Target::get(url), count)).await
    }

    /// Starts making load. It goes on, whatever fails, until [`RunningLoad::finish`].
    ///
    /// # Errors
    /// The application does not answer.
    pub async fn start_load(&self, request: &LoadRequest) -> Result<RunningLoad> {
        let id = self.ask("POST", "/load", request).await?;
        Ok(RunningLoad { client: self.clone(), id })
    }

    async fn ask<Answer: DeserializeOwned>(&self, method: &str, path: &str, body: &impl Serialize) -> Result<Answer> {
        let bytes = self.send(method, path, body).await?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading the answer to {method} {path}"))
    }

    async fn send(&self, method: &str, path: &str, body: &impl Serialize) -> Result<Bytes> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .with_context(|| format!("connecting to {}", self.socket.display()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "control")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(body)?)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "{method} {path} on {}: status {status}: {}",
            self.socket.display(),
            String::from_utf8_lossy(&bytes)
        );
        Ok(bytes)
    }
}

impl RunningLoad {
    /// What has come so far.
    ///
    /// # Errors
    /// The application does not answer.
    pub async fn report(&self) -> Result<Report> {
        self.client.ask("GET", &format!("/load/{}", self.id), &()).await
    }

    /// Waits until `count` attempts have ended, so that something is under way when a test changes the world.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn reach(&self, count: u64, limit: Duration) -> Result<Report> {
        eventually(&format!("{count} attempts have ended"), limit, || async {
            let report = self.report().await?;
            ensure!(report.attempts >= count, "so far {} attempts", report.attempts);
            Ok(report)
        })
        .await
    }

    /// Lets the attempts under way end, and reports.
    ///
    /// # Errors
    /// The application does not answer.
    pub async fn finish(self) -> Result<Report> {
        self.client.ask("POST", &format!("/load/{}/finish", self.id), &()).await
    }
}
