//! cert-manager's controllers beside an API server.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::{Kubectl, Tool};

/// cert-manager as a process; it ends with this value.
#[derive(Debug)]
pub struct CertManager {
    process: Child,
}

impl CertManager {
    /// A root that signs itself (Secret `root`), and an Issuer `osm-ca` and a ClusterIssuer `osm-cluster-ca` that sign with it, for a
    /// control plane in `osm-system`.
    pub const ISSUERS: &str = r"
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: self-signed}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: root, namespace: osm-system}
spec:
  isCA: true
  commonName: root of the mesh
  secretName: root
  duration: 87600h
  privateKey: {algorithm: ECDSA, size: 256}
  issuerRef: {name: self-signed, kind: ClusterIssuer, group: cert-manager.io}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: osm-ca, namespace: osm-system}
spec: {ca: {secretName: root}}
---
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: osm-cluster-ca}
spec: {ca: {secretName: root}}
";

    /// Makes an API server know cert-manager's kinds.
    ///
    /// # Errors
    /// cert-manager cannot be built, or the API server refuses.
    pub async fn install_crds(kubectl: &Kubectl) -> Result<()> {
        let tool = tokio::task::spawn_blocking(|| Tool::CertManager.prepare()).await??;
        let crds = tool.folder().join("crds");
        let crds = crds.to_str().context("a path of text")?;
        kubectl.output(&["apply", "--server-side", "-f", crds]).await?;
        kubectl.output(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]).await?;
        Ok(())
    }

    /// Starts the controllers for the API server of a kubeconfig. Secrets of ClusterIssuers are in `namespace`.
    ///
    /// # Errors
    /// cert-manager cannot be built or started.
    pub async fn start(kubeconfig: &Path, namespace: &str) -> Result<Self> {
        let tool = tokio::task::spawn_blocking(|| Tool::CertManager.prepare()).await??;
        // Ends with this thread, should the test be killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(tool.program())
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--cluster-resource-namespace", namespace])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start cert-manager by setpriv (Debian package util-linux)")?;
        Ok(Self { process })
    }
}

impl Drop for CertManager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
