//! Real Envoys in pods.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::fabric::Pod;
use crate::process::{Process, ProcessSpec, Uid, eventually};
use crate::sandbox;

/// The user that Envoy runs as, as in an injected pod.
pub const PROXY_UID: Uid = 1500;
/// The newest Envoy that is claimed to work.
pub const NEWEST_ENVOY: &str = "1.40.0";
/// The oldest Envoy that is claimed to work.
pub const OLDEST_ENVOY: &str = "1.36.2";
/// Envoy's admin port in the pod.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);
/// Which of a pod's directories is the proxy's.
const DIRECTORY: &str = "proxy";
const ADMIN_LIMIT: Duration = Duration::from_secs(10);

/// An Envoy executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoyBinary {
    version: String,
    path: PathBuf,
}

impl EnvoyBinary {
    /// `VERSION/envoy` below `OSM_ENVOY_DIR`, or below the cache that `hack/setup` fills.
    ///
    /// # Errors
    /// It is not there; the message says how to get it.
    pub fn find(version: &str) -> Result<Self> {
        let directory = match std::env::var_os("OSM_ENVOY_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => cache_directory()?.join("osm-operator/envoy"),
        };
        let path = directory.join(version).join("envoy");
        ensure!(
            path.is_file(),
            "Envoy {version} is not at {}: run hack/setup, or set OSM_ENVOY_DIR to a directory with {version}/envoy",
            path.display()
        );
        Ok(Self { version: version.to_owned(), path })
    }

    /// Every version that is claimed to work and must be tested: oldest and newest.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn claimed() -> Result<Vec<Self>> {
        [OLDEST_ENVOY, NEWEST_ENVOY].into_iter().map(Self::find).collect()
    }

    /// Which version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether Envoy accepts a static configuration (`--mode validate`). Works outside a sandbox, too.
    ///
    /// # Errors
    /// It does not; the message holds Envoy's words.
    pub async fn validate(&self, configuration: &Path) -> Result<()> {
        let mut command = tokio::process::Command::new(&self.path);
        command.args(["--mode", "validate", "--log-level", "warning", "-c"]).arg(configuration).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        let output = output.context("Envoy did not finish validating within 60 seconds")??;
        ensure!(
            output.status.success(),
            "Envoy {} refuses {}: {}",
            self.version,
            configuration.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

fn cache_directory() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        return Ok(directory.into());
    }
    let home = std::env::var_os("HOME").context("set OSM_ENVOY_DIR, XDG_CACHE_HOME or HOME to find Envoy")?;
    Ok(Path::new(&home).join(".cache"))
}

/// How to run an Envoy.
#[derive(Debug, Clone)]
pub struct EnvoySpec {
    /// Which.
    pub binary: EnvoyBinary,
    /// The bootstrap, YAML or JSON. Its admin address must be 127.0.0.1:15000.
    pub bootstrap: String,
    /// Envoy's `--log-level`.
    pub log_level: String,
    /// Worker threads.
    pub concurrency: u16,
    /// More arguments.
    pub arguments: Vec<OsString>,
}

impl EnvoySpec {
    /// One worker, warnings only.
    pub fn new(binary: EnvoyBinary, bootstrap: impl Into<String>) -> Self {
        Self {
            binary,
            bootstrap: bootstrap.into(),
            log_level: "warning".to_owned(),
            concurrency: 1,
            arguments: Vec::new(),
        }
    }
}

/// A running Envoy. It is killed when this is dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    pod: PodHandle,
    directory: PathBuf,
}

/// What is needed of a pod to reach its Envoy's admin port.
#[derive(Debug, Clone)]
struct PodHandle {
    name: String,
    namespace: PathBuf,
}

impl Envoy {
    /// The directory of a pod's proxy, which it owns: for the certificates and keys that a bootstrap refers to.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn directory_in(pod: &Pod) -> Result<PathBuf> {
        pod.directory(DIRECTORY, PROXY_UID)
    }

    /// Writes a file into that directory which only the proxy can read, such as its key. A file of that name is replaced in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_file_in(pod: &Pod, name: &str, content: &[u8]) -> Result<PathBuf> {
        pod.write_private(DIRECTORY, PROXY_UID, name, content)
    }

    /// Starts Envoy in `pod` as [`PROXY_UID`]. It may not be ready yet: see [`ready`](Self::ready).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(pod: &Pod, spec: &EnvoySpec) -> Result<Self> {
        let directory = Self::directory_in(pod)?;
        let bootstrap = directory.join("bootstrap.yaml");
        fs::write(&bootstrap, &spec.bootstrap)?;
        let process = ProcessSpec::new(format!("envoy-{}", pod.name()), sandbox::install_program(&spec.binary.path)?)
            // Without it Envoy leaves shared memory behind, and two Envoys on one machine would need different base ids.
            .arguments(["--disable-hot-restart", "--log-level", &spec.log_level])
            .arguments(["--concurrency", &spec.concurrency.to_string(), "-c"])
            .arguments([bootstrap])
            .arguments(spec.arguments.iter().cloned())
            .uid(PROXY_UID);
        let handle = PodHandle { name: pod.name().to_owned(), namespace: pod.namespace() };
        Ok(Self { process: pod.spawn(&process)?, pod: handle, directory })
    }

    /// Its process, for its log and for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where its bootstrap is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Asks its admin port. `POST` changes things, `GET` shows them.
    ///
    /// # Errors
    /// No answer within 10 seconds, or an error status.
    pub async fn admin(&self, method: &str, path: &str) -> Result<String> {
        admin(&self.pod, method, path).await
    }

    /// Waits until it is live: its first configuration is complete and its listeners are up.
    ///
    /// # Errors
    /// It ended, or is not ready within `limit`; the message holds the end of its log.
    pub async fn ready(&mut self, limit: Duration) -> Result<()> {
        let looking = eventually("Envoy is ready", limit, || async {
            let answer = admin(&self.pod, "GET", "/ready").await?;
            ensure!(answer.trim() == "LIVE", "Envoy says {}", answer.trim());
            Ok(())
        });
        let ready = tokio::select! {
            ready = looking => ready,
            // It ends when it refuses its bootstrap: no need to wait for the deadline.
            ended = self.process.wait(limit) => Err(anyhow::anyhow!("it ended: {}", ended?)),
        };
        ready.map_err(|error| {
            let log = self.process.log_tail(20);
            error.context(format!("Envoy of pod {}; its log:\n{log}", self.pod.name))
        })
    }

    /// What it was given, all of it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn config_dump(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.admin("GET", "/config_dump?include_eds").await?)?)
    }

    /// Its listeners' names and addresses.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn listeners(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.admin("GET", "/listeners?format=json").await?)?)
    }

    /// Its clusters and their endpoints' health.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn clusters(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.admin("GET", "/clusters?format=json").await?)?)
    }

    /// Bytes that its allocator has given out (`allocated` of `/memory`).
    ///
    /// # Errors
    /// It does not answer.
    pub async fn allocated_bytes(&self) -> Result<u64> {
        let memory: Value = serde_json::from_str(&self.admin("GET", "/memory").await?)?;
        let allocated = memory["allocated"].as_str().context("/memory names no allocated bytes")?;
        Ok(allocated.parse()?)
    }

    /// Counters and gauges whose name matches the regular expression.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn stats(&self, filter: &str) -> Result<std::collections::BTreeMap<String, u64>> {
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let text = self.admin("GET", &format!("/stats?filter={filter}")).await?;
        let pairs = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Ends it as Kubernetes does: asks, and kills it after 10 seconds.
    ///
    /// # Errors
    /// The system does not tell how it ended.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.process.stop(Duration::from_secs(10)).await
    }
}

async fn admin(pod: &PodHandle, method: &str, path: &str) -> Result<String> {
    let answer = crate::fabric::request_in(pod.namespace.clone(), ADMIN, method, path, ADMIN_LIMIT).await;
    let (status, body) = answer.with_context(|| format!("asking the admin port of pod {}'s Envoy", pod.name))?;
    ensure!(status < 400, "{method} {path}: status {status}: {}", body.trim());
    Ok(body)
}
