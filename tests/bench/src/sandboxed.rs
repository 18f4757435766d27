//! Measures of the whole mesh run in a sandbox: this program starts itself there, and the figures come back as JSON.

use std::process::Stdio;

use anyhow::Context;
use osm_testkit::EnvoyBinary;

use crate::figure::Figure;
use crate::measure::{Effort, api_server, envoy, footprint, operator, requests};
use crate::subject::Programs;

/// What is measured in a sandbox of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scene {
    /// A changed file until a real Envoy has it.
    Propagation,
    /// Memory of a real Envoy by size of the mesh.
    EnvoyMemory,
    /// Requests through sidecars.
    Requests,
    /// A changed object at an API server until a real Envoy has it, and what policies write.
    ApiServer,
    /// Memory and idle requests in a mesh of 1,600 Pods.
    Footprint,
}

impl Scene {
    fn name(self) -> &'static str {
        match self {
            Self::Propagation => "propagation",
            Self::EnvoyMemory => "envoy-memory",
            Self::Requests => "requests",
            Self::ApiServer => "api-server",
            Self::Footprint => "footprint",
        }
    }

    /// Takes the measure in a sandbox.
    ///
    /// # Errors
    /// A program or a permission is missing, or the measure failed; the message says which.
    pub async fn measure(self, programs: &Programs, effort: Effort) -> anyhow::Result<Vec<Figure>> {
        // Said here, where the sandbox has not been made yet.
        crate::operator::program()?;
        EnvoyBinary::find(osm_testkit::NEWEST_ENVOY)?;
        let quick = (effort == Effort::QUICK).then_some("--quick");
        let child = tokio::process::Command::new(&programs.own)
            .args(["scene", self.name()])
            .args(quick)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start this program again")?;
        let output = child.wait_with_output().await?;
        anyhow::ensure!(output.status.success(), "scene {} failed ({})", self.name(), output.status);
        serde_json::from_slice(&output.stdout).context("figures of the sandbox")
    }

    /// Takes the measure; to be called inside the sandbox.
    ///
    /// # Errors
    /// Something does not start, or what is measured is wrong.
    pub async fn play(self, effort: Effort) -> anyhow::Result<Vec<Figure>> {
        match self {
            Self::Propagation => operator::measure(effort).await,
            Self::EnvoyMemory => envoy::measure(effort).await,
            Self::Requests => requests::measure(effort).await,
            Self::ApiServer => api_server::measure(effort).await,
            Self::Footprint => footprint::measure(effort).await,
        }
    }
}
