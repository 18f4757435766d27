//! The control plane without a cluster: a folder of manifests in, xDS out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{Kind, Object, ObjectRef};
use osm_engine::{MESH_CONFIG_NAME, Options};
use osm_issuer::{CertificateStore, Change, Clock, PeerIdentity, Renewed, TrustDomain};
use osm_model::Identity;
use osm_source::{Problem, SourceEvent};
use osm_xds::{Cache, Isolation, Server, Settings, StreamSettings};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::admin::{Admin, ExtraPages, Question, RotateCertificates};
use crate::driver::{Driver, StatusDocument};
use crate::identity::{self, ServerTls};
use crate::metrics::Metrics;
use crate::proxies::{ProxyEvent, ProxyPolicy};
use crate::status_folder::StatusFolder;

/// How often status is brought up to date at the most.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How many unanswered questions of the admin endpoint wait; more make the asker wait.
const QUESTIONS: usize = 16;

/// What `osm-operator standalone` is told.
#[derive(Debug, Clone)]
pub struct Standalone {
    /// The folder of manifests.
    pub folder: PathBuf,
    /// Where xDS is served, by mutual TLS.
    pub listen: SocketAddr,
    /// Where the admin endpoint is served.
    pub admin: SocketAddr,
    /// Holds the certificate authority.
    pub state: PathBuf,
    /// Where status documents are written.
    pub status: Option<PathBuf>,
    /// Options of the mesh.
    pub options: Options,
}

/// Runs until SIGTERM or SIGINT, or until a part fails.
///
/// # Errors
/// An address is in use, the folder or the authority cannot be used, or a part ended that never should.
pub async fn run(standalone: Standalone) -> anyhow::Result<()> {
    let trust_domain = TrustDomain::new(standalone.options.trust_domain.as_str())?;
    let store = Arc::new(identity::open_store(&standalone.state, Clock::system())?);
    let control_plane = identity::control_plane_identity(&trust_domain, &standalone.options.control_plane_namespace)?;
    let control_plane = PeerIdentity::ControlPlane(control_plane);
    let certificates = store.subscribe();
    let bundle = store.trust_bundle().await.context("read the roots of the mesh")?;
    let leaf = store.certificate(&control_plane).await.context("issue the control plane's certificate")?;
    let tls = ServerTls::new(&leaf, &bundle)?;

    let (cache, metrics) = (Cache::new(), Arc::new(Metrics::default()));
    let (proxy_events, proxies) = mpsc::unbounded_channel();
    let server = xds_server(&cache, ProxyPolicy::new(vec![trust_domain.clone()], proxy_events));
    let (listener, admin_listener) = listen(&standalone).await?;
    let problems = Arc::new(ArcSwap::from_pointee(Vec::new()));
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let admin = Admin {
        questions,
        cache: cache.clone(),
        metrics: Arc::clone(&metrics),
        extra: extra_pages(&problems, &store),
        rotate: rotation(&store),
    };
    let mut driver = Driver::new(standalone.options.clone(), cache.clone(), Arc::clone(&metrics));
    driver.on_trust_bundle(&bundle);
    let process = Process {
        driver,
        cache,
        server: server.clone(),
        store: Arc::clone(&store),
        trust_domain,
        control_plane,
        tls: tls.clone(),
        problems,
        metrics,
        status: standalone.status.map(StatusFolder::new),
    };
    let source = osm_source::directory(standalone.folder).context("watch the folder")?;

    tokio::select! {
        ended = process.run(source, proxies, certificates, asked) => ended.map(|never| match never {}),
        () = server.serve_tls(listener, move || tls.current()) => anyhow::bail!("the xDS server ended"),
        ended = axum::serve(admin_listener, admin.router()).into_future() => {
            ended.context("serve the admin endpoint")?;
            anyhow::bail!("the admin endpoint ended")
        }
        never = store.run() => match never {},
        signal = stop_signal() => {
            tracing::info!(signal = signal?, "stopping");
            server.shutdown();
            Ok(())
        }
    }
}

fn xds_server(cache: &Cache, policy: ProxyPolicy) -> Server {
    // A refusal that names nothing is narrowed down to the resource to blame.
    let stream = StreamSettings { isolation: Isolation::OneAtATime, ..StreamSettings::default() };
    Server::new(cache.clone(), Arc::new(policy), Settings { stream, ..Settings::default() })
}

async fn listen(standalone: &Standalone) -> anyhow::Result<(TcpListener, TcpListener)> {
    let xds = bind(standalone.listen, "--listen").await?;
    let admin = bind(standalone.admin, "--admin").await?;
    tracing::info!(
        xds = %xds.local_addr()?, admin = %admin.local_addr()?, folder = %standalone.folder.display(), "serving"
    );
    Ok((xds, admin))
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address} ({flag}); choose a free address"))
}

/// Waits for SIGTERM or SIGINT.
async fn stop_signal() -> anyhow::Result<&'static str> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "SIGINT").context("wait for SIGINT"),
    }
}

fn extra_pages(problems: &Arc<ArcSwap<Vec<Problem>>>, store: &Arc<CertificateStore>) -> ExtraPages {
    let (problems, store) = (Arc::clone(problems), Arc::clone(store));
    Arc::new(move |page| match page {
        "problems" => Some(json!(**problems.load())),
        "certificates" => Some(store.status().iter().map(|status| json!(format!("{status:?}"))).collect()),
        _ => None,
    })
}

fn rotation(store: &Arc<CertificateStore>) -> RotateCertificates {
    let store = Arc::clone(store);
    Arc::new(move || Box::pin(rotate_workloads(Arc::clone(&store))))
}

/// Renews the certificate of every workload the store knows. The new ones reach proxies as changes of the store.
async fn rotate_workloads(store: Arc<CertificateStore>) -> Renewed {
    let mut sum = Renewed::default();
    for status in store.status() {
        let PeerIdentity::Workload(_) = status.identity else { continue };
        match store.rotate_now(&status.identity).await {
            Ok(_) => sum.renewed += 1,
            Err(error) => {
                tracing::warn!(identity = %status.identity, %error, reason = error.reason(), "cannot renew a certificate");
                sum.failed += 1;
            }
        }
    }
    tracing::info!(renewed = sum.renewed, failed = sum.failed, "certificates are renewed on demand");
    sum
}

/// The loop's state and what it acts on.
struct Process {
    driver: Driver,
    cache: Cache,
    server: Server,
    store: Arc<CertificateStore>,
    trust_domain: TrustDomain,
    control_plane: PeerIdentity,
    tls: ServerTls,
    problems: Arc<ArcSwap<Vec<Problem>>>,
    metrics: Arc<Metrics>,
    status: Option<StatusFolder>,
}

impl Process {
    async fn run(
        mut self,
        mut source: mpsc::Receiver<SourceEvent>,
        mut proxies: mpsc::UnboundedReceiver<ProxyEvent>,
        mut certificates: osm_issuer::Changes,
        mut questions: mpsc::Receiver<Question>,
    ) -> anyhow::Result<Infallible> {
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        status.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = source.recv() => self.on_source(event.context("the folder is not watched any more")?),
                Some(event) = proxies.recv() => self.on_proxy(event),
                change = certificates.next() => self.on_certificate(change).await,
                Some(question) = questions.recv() => self.answer(question),
                _ = status.tick() => self.write_status().await,
            }
        }
    }

    fn on_source(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                self.follow_mesh_config(&changes);
                self.driver.on_objects(changes, Instant::now());
                self.count_findings();
            }
            SourceEvent::Problems(problems) => {
                for problem in &problems {
                    tracing::error!(%problem, "the folder is not taken over; the last good state stays");
                }
                self.problems.store(Arc::new(problems));
                self.count_findings();
            }
            SourceEvent::Synced => {
                self.cache.set_ready();
                tracing::info!("the folder is read, proxies are served");
            }
        }
    }

    fn count_findings(&self) {
        self.metrics.source(self.problems.load().len(), self.driver.engine().findings().len());
    }

    /// Certificates issued from now on follow a changed MeshConfig.
    fn follow_mesh_config(&self, changes: &[(ObjectRef, Option<Object>)]) {
        for (name, object) in changes {
            if name.kind == Kind::MeshConfig && name.name == MESH_CONFIG_NAME {
                let spec = match object {
                    Some(Object::MeshConfig(config)) => Some(&config.spec),
                    _ => None,
                };
                self.store.set_policy(identity::leaf_policy(spec));
            }
        }
    }

    fn on_proxy(&mut self, event: ProxyEvent) {
        let effects = self.driver.on_proxy(event, Instant::now());
        for workload in effects.wanted_certificates {
            self.issue(&workload);
        }
    }

    /// Issues in the background; the result comes as a change of the store.
    fn issue(&mut self, workload: &Identity) {
        let identity = match identity::workload_identity(&self.trust_domain, workload) {
            Ok(identity) => PeerIdentity::Workload(identity),
            Err(error) => {
                tracing::error!(%workload, %error, "the workload gets no certificate");
                return;
            }
        };
        if let Some(leaf) = self.store.cached(&identity) {
            self.driver.on_certificate(&leaf);
            return;
        }
        let (store, workload) = (Arc::clone(&self.store), workload.clone());
        tokio::spawn(async move {
            if let Err(error) = store.certificate(&identity).await {
                tracing::error!(%workload, %error, reason = error.reason(), "cannot issue a certificate");
            }
        });
    }

    async fn on_certificate(&mut self, change: Change) {
        match change {
            Change::TrustBundle => {
                if let Ok(bundle) = self.store.trust_bundle().await {
                    self.driver.on_trust_bundle(&bundle);
                }
                self.renew_server_certificate().await;
            }
            Change::Leaf(identity) => {
                self.metrics.certificate_issued();
                if identity == self.control_plane {
                    self.renew_server_certificate().await;
                } else if let Some(leaf) = self.store.cached(&identity) {
                    self.driver.on_certificate(&leaf);
                }
            }
        }
    }

    async fn renew_server_certificate(&self) {
        let (Ok(bundle), Some(leaf)) = (self.store.trust_bundle().await, self.store.cached(&self.control_plane)) else {
            return;
        };
        if let Err(error) = self.tls.replace(&leaf, &bundle) {
            tracing::error!(%error, "the former server certificate stays in use");
        }
    }

    fn answer(&self, question: Question) {
        let answer = self.driver.dump(&question.dump, &self.server.clients());
        // Whoever asked may have gone.
        let _ = question.answer.send(answer);
    }

    async fn write_status(&mut self) {
        if !self.driver.report_is_due() {
            return;
        }
        let written: Vec<(ObjectRef, Option<StatusDocument>)> =
            self.driver.report(&self.server.synced(), Instant::now(), Timestamp::now());
        let Some(folder) = &self.status else { return };
        for (name, document) in written {
            match folder.write(&name, document.as_ref()).await {
                Ok(()) => self.metrics.status_written(),
                Err(error) => tracing::error!(object = %name, %error, "cannot write status"),
            }
        }
    }
}
