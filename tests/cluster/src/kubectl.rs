//! Runs kubectl.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// For one run, unless kubectl was told another time limit. Waiting for a roll-out on a loaded machine is the longest.
const LIMIT: Duration = Duration::from_secs(300);

/// kubectl, with a kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf, folder: &Path) -> Self {
        Self { program, kubeconfig, cache: folder.join("kubectl-cache") }
    }

    /// The same, as another user.
    #[must_use]
    pub fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), ..self.clone() }
    }

    /// The program, for those who run it by themselves.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs `kubectl arguments…` to its end, whether good or bad.
    ///
    /// # Errors
    /// It cannot be started, or has not ended after five minutes.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_with_input(arguments, "").await
    }

    /// Runs `kubectl arguments…` with `input` on its standard input, for `-f -`.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        // What was discovered of one cluster must not be believed of another.
        command.env("KUBECACHEDIR", &self.cache).env_remove("KUBECONFIG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("standard input is a pipe")?;
        let run = async {
            // kubectl may end without reading; how it ended says enough.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(LIMIT, run).await;
        Ok(output.with_context(|| format!("kubectl {} has not ended within {LIMIT:?}", arguments.join(" ")))??)
    }

    /// Runs `kubectl arguments…` and gives its standard output.
    ///
    /// # Errors
    /// It fails; the message holds its words.
    pub async fn output(&self, arguments: &[&str]) -> Result<String> {
        succeeded(arguments, &self.run(arguments).await?)
    }

    /// Applies manifests (YAML or JSON), server-side, and gives what kubectl says.
    ///
    /// # Errors
    /// The API server refuses one; the message holds its words.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        succeeded(&arguments, &self.run_with_input(&arguments, manifests).await?)
    }
}

fn succeeded(arguments: &[&str], output: &Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "kubectl {} failed ({}): {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
