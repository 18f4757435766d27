//! The real control plane as a process in the sandbox: `osm-operator standalone` on a folder of manifests, followed by its log.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use osm_api::k8s_openapi::jiff::Timestamp;
use osm_issuer::{CertificateStore, Clock, PeerIdentity, TrustDomain, client_config};
use osm_model::Identity;
use osm_operator::{Bootstrap, control_plane_identity, open_store, write_certificates};
use osm_testkit::{Envoy, EnvoyBinary, EnvoySpec, NODE_IPV4, PROXY_UID, Pod, sandbox};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::fleet::{Sidecar, Sidecars};
use crate::mesh::Mesh;

/// Where it serves xDS: an address that every pod reaches.
pub(crate) const XDS: SocketAddr = SocketAddr::new(IpAddr::V4(NODE_IPV4), 15128);
/// How long it may take to read a folder, and to bring proxies in sync.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Lines of its log kept for error messages.
const TAIL: usize = 20;

/// A proxy has acknowledged everything up to a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSync {
    /// Workload and node.
    pub proxy: String,
    /// The publication.
    pub epoch: u64,
    /// When the control plane said so, by the machine's clock, to the microsecond.
    pub at: Timestamp,
}

#[derive(Debug)]
pub(crate) enum Said {
    Serving,
    InSync(InSync),
}

/// The running control plane. It is killed when this is dropped.
#[derive(Debug)]
pub struct Operator {
    log: Log,
    store: CertificateStore,
    /// The last publication that each proxy acknowledged, as far as it was read.
    synced: BTreeMap<String, u64>,
}

/// The process, followed by its log. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Log {
    child: Child,
    said: mpsc::UnboundedReceiver<Said>,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    /// Starts the process; what each proxy has acknowledged is said in its log.
    pub(crate) fn of(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            // What each proxy has acknowledged is said at this level.
            .env("RUST_LOG", "info,osm_operator=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start osm-operator")?;
        let log = child.stderr.take().context("no standard error")?;
        let (sender, said) = mpsc::unbounded_channel();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let followed = Self { child, said, tail: Arc::clone(&tail) };
        // A thread of its own: a control plane whose log nobody reads stands still.
        std::thread::spawn(move || read_log(log, &sender, &tail));
        Ok(followed)
    }

    async fn listen(&mut self) -> anyhow::Result<Said> {
        let problem = match tokio::time::timeout(LIMIT, self.said.recv()).await {
            Ok(Some(said)) => return Ok(said),
            Ok(None) => "osm-operator ended".to_owned(),
            Err(_) => format!("osm-operator said nothing for {LIMIT:?} that was waited for"),
        };
        bail!("{problem}; the end of its log:\n{}", self.tail())
    }

    /// The last lines of its log.
    pub(crate) fn tail(&self) -> String {
        let tail: Vec<String> = self.tail.lock().iter().cloned().collect();
        tail.join("\n")
    }
}

/// `osm-operator`: where `OSM_OPERATOR` says, else beside this program.
///
/// # Errors
/// It is not built.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("OSM_OPERATOR") {
        return Ok(path.into());
    }
    let path = std::env::current_exe().context("find this program")?.with_file_name("osm-operator");
    anyhow::ensure!(
        path.is_file(),
        "{} is not built: hack/bench builds it, or set OSM_OPERATOR to the program",
        path.display()
    );
    Ok(path)
}

impl Operator {
    /// Serves `folder` with its authority in `state`; returns when the folder is read.
    ///
    /// # Errors
    /// It is not built, or does not come to serve; the message holds the end of its log.
    pub async fn start(folder: &Path, state: &Path) -> anyhow::Result<Self> {
        let ranges = Mesh::options()?.service_ranges;
        let ranges = ranges.iter().flat_map(|range| ["--service-cidr".to_owned(), range.to_string()]);
        let mut command = Command::new(sandbox::install_program(&program()?)?);
        command
            .args([OsString::from("standalone"), folder.into(), "--state-dir".into(), state.into()])
            .args(["--listen", &XDS.to_string()])
            .args(ranges);
        let mut log = Log::of(&mut command)?;
        while !matches!(log.listen().await?, Said::Serving) {}
        Ok(Self { log, store: open_store(state, Clock::system())?, synced: BTreeMap::new() })
    }

    /// A control plane whose authority is known otherwise.
    pub(crate) fn of(log: Log, store: CertificateStore) -> Self {
        Self { log, store, synced: BTreeMap::new() }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.log.child.id()
    }

    async fn listen(&mut self) -> anyhow::Result<Said> {
        self.log.listen().await
    }

    /// The next proxy that is in sync.
    ///
    /// # Errors
    /// None for too long, or the process ended.
    pub async fn next_in_sync(&mut self) -> anyhow::Result<InSync> {
        loop {
            if let Said::InSync(in_sync) = self.listen().await? {
                let synced = self.synced.entry(in_sync.proxy.clone()).or_default();
                *synced = in_sync.epoch.max(*synced);
                return Ok(in_sync);
            }
        }
    }

    /// The newest publication that any proxy is known to have acknowledged.
    #[must_use]
    pub fn newest_epoch(&self) -> u64 {
        self.synced.values().copied().max().unwrap_or_default()
    }

    /// Whether so many proxies have acknowledged this publication, as far as the log was read.
    #[must_use]
    pub fn have_synced(&self, epoch: u64, proxies: usize) -> bool {
        self.synced.values().filter(|synced| **synced >= epoch).count() >= proxies
    }

    /// Waits until so many proxies have been in sync at least once, as far as the log was read.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn wait_in_sync(&mut self, proxies: usize) -> anyhow::Result<()> {
        while self.synced.len() < proxies {
            self.next_in_sync().await?;
        }
        Ok(())
    }

    /// The configuration of the sidecar of a workload in a pod, which names the proxy unless `node` does; writes its certificate
    /// into the pod.
    ///
    /// # Errors
    /// No certificate can be issued.
    pub async fn sidecar(
        &self,
        pod: &Pod,
        workload: (&str, &str),
        binary: &EnvoyBinary,
        node: Option<&str>,
    ) -> anyhow::Result<EnvoySpec> {
        let bootstrap = bootstrap(workload, node.unwrap_or(pod.name()), Envoy::directory_in(pod)?)?;
        write_certificates(&bootstrap, &self.store, Some(PROXY_UID)).await?;
        // JSON is YAML.
        Ok(EnvoySpec::new(binary.clone(), bootstrap.envoy()?.to_string()))
    }

    /// Connects synthetic sidecars, each with a certificate of its own.
    ///
    /// # Errors
    /// One cannot be issued a certificate, or is refused.
    pub async fn synthetic_sidecars(&self, proxies: &[SyntheticProxy]) -> anyhow::Result<Sidecars> {
        let options = Mesh::options()?;
        let roots = self.store.trust_bundle().await.context("read the roots of the mesh")?;
        let mut sidecars = Vec::new();
        for SyntheticProxy { namespace, account, node } in proxies {
            let proxy = PeerIdentity::Proxy(bootstrap((namespace, account), node, PathBuf::new())?.proxy()?);
            let leaf =
                self.store.certificate(&proxy).await.with_context(|| format!("issue a certificate for {node}"))?;
            sidecars.push(Sidecar { node: node.clone(), tls: Arc::new(client_config(&leaf, &roots)?) });
        }
        let name = control_plane_identity(&trust_domain()?, &options.control_plane_namespace)?.ads_dns_name();
        Sidecars::connect(XDS, &name, sidecars).await
    }
}

/// Whom a synthetic sidecar is the proxy of.
#[derive(Debug, Clone)]
pub struct SyntheticProxy {
    /// Namespace of its workload.
    pub namespace: String,
    /// ServiceAccount of its workload.
    pub account: String,
    /// Its node id.
    pub node: String,
}

impl SyntheticProxy {
    /// Proxies of one workload, which is in no cluster.
    #[must_use]
    pub fn several((namespace, account): (&str, &str), count: u32) -> Vec<Self> {
        let node = |number| format!("synthetic-{number}");
        (0..count)
            .map(|number| Self { namespace: namespace.to_owned(), account: account.to_owned(), node: node(number) })
            .collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn trust_domain() -> anyhow::Result<TrustDomain> {
    Ok(TrustDomain::new(Mesh::options()?.trust_domain.as_str())?)
}

fn bootstrap((namespace, account): (&str, &str), node: &str, certificates: PathBuf) -> anyhow::Result<Bootstrap> {
    Ok(Bootstrap {
        workload: Identity::new(namespace, account)?,
        node: node.to_owned(),
        control_plane: XDS,
        trust_domain: trust_domain()?,
        certificates,
        admin_port: osm_translate::naming::ADMIN_PORT,
    })
}

/// A line of the log, as far as it matters.
#[derive(Deserialize)]
struct Line {
    timestamp: Timestamp,
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    message: String,
    proxy: Option<String>,
    epoch: Option<u64>,
}

fn read_log(log: ChildStderr, said: &mpsc::UnboundedSender<Said>, tail: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(log).lines() {
        let Ok(line) = line else { return };
        match understand(&line) {
            // Whoever listened may have gone.
            Some(understood) => drop(said.send(understood)),
            None => {
                let mut tail = tail.lock();
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
        }
    }
}

fn understand(line: &str) -> Option<Said> {
    let Line { timestamp, fields } = serde_json::from_str(line).ok()?;
    match (fields.message.as_str(), fields.proxy, fields.epoch) {
        ("in sync", Some(proxy), Some(epoch)) => Some(Said::InSync(InSync { proxy, epoch, at: timestamp })),
        ("the folder is read, proxies are served", _, _) => Some(Said::Serving),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_understood() {
        let line = r#"{"timestamp":"2026-01-02T03:04:05.678901Z","level":"DEBUG","fields":{"message":"in sync","proxy":"ns/sa/node","epoch":7},"target":"osm_operator::driver"}"#;
        let Some(Said::InSync(in_sync)) = understand(line) else { panic!("not understood: {line}") };
        assert_eq!((in_sync.proxy.as_str(), in_sync.epoch), ("ns/sa/node", 7));
        assert_eq!(in_sync.at.as_microsecond() % 1_000_000, 678_901);
        assert!(understand("no JSON").is_none());
    }
}
