//! Installation by helm, as a user does it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use osm_cluster::{Cluster, Tool};

use super::Images;

/// Namespace of the control plane.
pub(crate) const NAMESPACE: &str = "osm-system";

/// helm for one cluster.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Helm {
    pub(super) async fn new(cluster: &Cluster) -> Result<Self> {
        let prepared = tokio::task::spawn_blocking(|| Tool::Helm.prepare());
        let prepared = prepared.await.context("preparing helm does not panic")??;
        Ok(Self { program: prepared.program().to_owned(), kubeconfig: cluster.kubeconfig() })
    }

    /// Runs helm; gives what it says.
    ///
    /// # Errors
    /// It fails; the message has its words.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = tokio::process::Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .await
            .context("running helm")?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "helm {}: {words}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Installs or upgrades both charts; `values` are of the form `key=value`.
    pub(super) async fn install(&self, images: &Images, values: &[String]) -> Result<()> {
        let crds = chart("osm-operator-crds");
        let operator = chart("osm-operator");
        let common = ["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s"];
        self.run(&[&["upgrade", "--install", "osm-operator-crds", &crds][..], &common].concat()).await?;
        let image = images.operator.reference();
        let (registry, tag) = image.split_once("/osm-operator:").context("an operator's image has a tag")?;
        let settings = [
            format!("osm.image.registry={registry}"),
            format!("osm.image.tag={tag}"),
            format!("osm.sidecarImage={}", images.envoy.reference()),
            // This cluster's kubelet looks for new ConfigMaps often.
            "osm.trustBundleDelaySeconds=20".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().chain(values).flat_map(|value| ["--set", value]).collect();
        let arguments = [&["upgrade", "--install", "osm-operator", &operator][..], &common, &settings].concat();
        self.run(&arguments).await.map(drop)
    }
}

fn chart(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm").join(name).to_string_lossy().into_owned()
}
