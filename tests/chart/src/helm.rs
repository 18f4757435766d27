//! The package manager, as users run it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use osm_cluster::Tool;
use tempfile::TempDir;

/// Helm, with configuration and caches of its own.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: TempDir,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// Helm without a cluster. Builds it if it is not in the cache, which takes minutes once.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn prepare() -> Result<Self> {
        let program = Tool::Helm.prepare()?.program().to_path_buf();
        let home = tempfile::tempdir().context("a folder for helm's configuration")?;
        Ok(Self { program, home, kubeconfig: None })
    }

    /// Helm for the cluster of this kubeconfig.
    ///
    /// # Errors
    /// As for [`prepare`](Self::prepare).
    pub fn for_cluster(kubeconfig: &Path) -> Result<Self> {
        Ok(Self { kubeconfig: Some(kubeconfig.to_path_buf()), ..Self::prepare()? })
    }

    /// Runs `helm arguments…` to its end, whether good or bad.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.home.path());
        }
        match &self.kubeconfig {
            Some(kubeconfig) => command.env("KUBECONFIG", kubeconfig),
            None => command.env("KUBECONFIG", self.home.path().join("no-cluster")),
        };
        command.args(arguments).output().with_context(|| format!("starting {}", self.program.display()))
    }

    /// Runs `helm arguments…` and gives what it prints.
    ///
    /// # Errors
    /// It cannot be started, or fails; the message holds what it said.
    pub fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = self.run(arguments)?;
        let command = || arguments.iter().map(|it| it.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
        ensure!(
            output.status.success(),
            "helm {} failed: {}{}",
            command(),
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stdout).context("helm prints UTF-8")
    }

    /// What the chart renders to as release `osm-operator` in namespace `osm-system`, with further arguments such as `--set`.
    ///
    /// # Errors
    /// The chart does not render.
    pub fn template(&self, chart: &Path, arguments: &[&str]) -> Result<String> {
        let chart = chart.to_str().context("the repository's folder is UTF-8")?;
        let mut all = vec!["template", "osm-operator", chart, "--namespace", "osm-system"];
        all.extend(arguments);
        self.output(&all)
    }
}
