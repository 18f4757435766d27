//! A control plane as a process that serves a folder, and a proxy that acknowledges when the test says so.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use osm_testkit::eventually;
use osm_xds_test_support::{CLUSTER, Connection, Identity, LISTENER, SCOPED_ROUTE, Tls, Variant};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// For a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The mesh: `api` is served in `shop`, and `late` has no right to it until it is granted one.
const SHOP: &str = include_str!("../api_server/shop.yaml");
/// Name of the proxy of `late`.
const NODE: &str = "late-0";

/// The control plane.
pub(crate) struct Plane {
    folder: tempfile::TempDir,
    xds: SocketAddr,
    process: Child,
}

impl Plane {
    /// Starts one that sends traces to `collector`, with `environment`, and waits until it serves.
    pub(crate) async fn start(collector: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("manifests"))?;
        std::fs::write(folder.path().join("manifests/shop.yaml"), SHOP)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_osm-operator"));
        command.arg("standalone").arg(folder.path().join("manifests"));
        command.arg("--state-dir").arg(folder.path().join("state"));
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--service-cidr", "10.96.0.0/16"]);
        command.args(["--otlp-endpoint", collector]).envs(environment.iter().copied());
        let process = command.stdin(Stdio::null()).stderr(log).kill_on_drop(true).spawn()?;
        let mut plane = Self { folder, xds: SocketAddr::from(([127, 0, 0, 1], 0)), process };
        plane.xds = eventually("the control plane serves", LIMIT, || async {
            let log = plane.log();
            ensure!(log.contains("proxies are served"), "{log}");
            let line = log.lines().find(|line| line.contains("\"xds\":")).context(log.clone())?;
            let line: Value = serde_json::from_str(line)?;
            Ok(line["fields"]["xds"].as_str().context("the line says where")?.parse()?)
        })
        .await?;
        Ok(plane)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The proxy of `late`, with all that it is to have at first.
    pub(crate) async fn proxy(&self) -> Result<Proxy> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let store = osm_operator::open_store(&self.folder.path().join("state"), osm_issuer::Clock::system())?;
        let trust_domain = osm_issuer::TrustDomain::new("cluster.local")?;
        let workload = osm_issuer::WorkloadIdentity::new(trust_domain, "shop", "late")?;
        let identity = osm_issuer::ProxyIdentity::new(workload, NODE)?;
        let leaf = store.certificate(&osm_issuer::PeerIdentity::Proxy(identity)).await?;
        let tls = Tls {
            identity: Some(Identity {
                certificate: leaf.material().certificate_chain_pem().to_owned(),
                key: leaf.material().expose_private_key_pem().to_owned(),
                der: leaf.material().certificate_chain()[0].to_vec(),
            }),
            authority: store.trust_bundle().await?.pem(),
            server_name: "ads.cluster.local".to_owned(),
        };
        let proxy = Proxy::connect(Connection::tls(self.xds, &tls).await?);
        // Listeners are the last that it asked for.
        proxy.wait_until("it has its first listeners", |proxy| proxy.listeners.load(Ordering::SeqCst) > 0).await?;
        Ok(proxy)
    }

    /// Lets `late` call `api`, by a TrafficTarget of this name. What the proxy is sent differs from what it had before.
    pub(crate) fn grant(&self, name: &str) -> Result<()> {
        let target = json!({
            "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
            "metadata": { "namespace": "shop", "name": name },
            "spec": {
                "destination": { "kind": "ServiceAccount", "name": "api", "namespace": "shop" },
                "sources": [{ "kind": "ServiceAccount", "name": "late", "namespace": "shop" }],
                "rules": [{ "kind": "HTTPRouteGroup", "name": "routes" }],
            },
        });
        // A file that is there is whole.
        let written = self.folder.path().join(name);
        std::fs::write(&written, target.to_string())?;
        Ok(std::fs::rename(written, self.manifest(name))?)
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.folder.path().join("manifests").join(format!("{name}.json"))
    }

    /// Grants, waits until the proxy has acknowledged, and takes back what was granted. Each changes the proxy's listeners once.
    pub(crate) async fn grant_and_wait(&self, proxy: &Proxy, name: &str) -> Result<()> {
        for there in [true, false] {
            let listeners = proxy.listeners.load(Ordering::SeqCst);
            match there {
                true => self.grant(name)?,
                false => std::fs::remove_file(self.manifest(name))?,
            }
            let more = |proxy: &Shared| proxy.listeners.load(Ordering::SeqCst) > listeners;
            proxy.wait_until("the change is acknowledged", more).await?;
        }
        Ok(())
    }

    /// As a service manager does; the process must end well. Gives its log.
    pub(crate) async fn stop(mut self) -> Result<String> {
        let pid = self.process.id().context("it runs")?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(LIMIT, self.process.wait()).await.context("it ends in time")??;
        ensure!(status.success(), "it ended with {status}; it said:\n{}", self.log());
        Ok(self.log())
    }
}

/// What a proxy did.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Responses that it acknowledged.
    acknowledged: AtomicUsize,
    /// Responses that it has and did not acknowledge.
    unacknowledged: AtomicUsize,
    /// Responses with listeners.
    listeners: AtomicUsize,
}

/// A proxy.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    may_acknowledge: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::ops::Deref for Proxy {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Proxy {
    fn connect(connection: Connection) -> Self {
        let shared = Arc::<Shared>::default();
        let (may_acknowledge, mut may) = watch::channel(true);
        let state = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut stream = connection.open(Variant::DELTA_ADS, CLUSTER, NODE);
            for type_url in [CLUSTER, LISTENER, SCOPED_ROUTE] {
                stream.watch_all(type_url);
            }
            loop {
                // The client gives up on a stream that is silent for long; nothing is wrong with that here.
                let Ok(next) = tokio::time::timeout(Duration::from_secs(5), stream.next()).await else { continue };
                let response = match next {
                    Ok(response) => response,
                    Err(ended) => bail!("{ended:?}"),
                };
                state.unacknowledged.fetch_add(1, Ordering::SeqCst);
                may.wait_for(|may| *may).await?;
                stream.ack(&response);
                state.unacknowledged.fetch_sub(1, Ordering::SeqCst);
                state.acknowledged.fetch_add(1, Ordering::SeqCst);
                if response.type_url == LISTENER {
                    state.listeners.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { shared, may_acknowledge, task }
    }

    /// Acknowledges nothing for now.
    pub(crate) fn hold_acknowledgements(&self) {
        self.may_acknowledge.send_replace(false);
    }

    /// Acknowledges what was held, and what comes.
    pub(crate) fn acknowledge(&self) {
        self.may_acknowledge.send_replace(true);
    }

    /// Waits until there is a response that is held.
    pub(crate) async fn wait_for_unacknowledged(&self) -> Result<()> {
        self.wait_until("a response comes", |proxy| proxy.unacknowledged.load(Ordering::SeqCst) > 0).await
    }

    async fn wait_until(&self, what: &str, holds: impl Fn(&Shared) -> bool) -> Result<()> {
        eventually(what, LIMIT, || async {
            ensure!(holds(&self.shared), "{:?}; its stream ended: {}", self.shared, self.task.is_finished());
            Ok(())
        })
        .await
    }
}
