//! The loop of a control plane, whatever its source of objects is and wherever status goes: one task that owns the [`Driver`].

mod arrivals;
mod certificates;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{Kind, Object, ObjectRef};
use osm_engine::MESH_CONFIG_NAME;
use osm_issuer::{Change as CertificateChange, LeafCertificate};
use osm_source::{Change, Problem, SourceEvent};
use osm_xds::{Cache, Isolation, ProxyName, Server, Settings, StreamSettings};
use tokio::sync::mpsc;

pub(crate) use self::arrivals::Arrivals;
pub(crate) use self::certificates::{Certificates, rotate_workloads};
use crate::admin::Question;
use crate::driver::{Driver, Report};
use crate::gateway::GatewayNews;
use crate::logging::{TRACES, number};
use crate::metrics::Metrics;
use crate::proxies::{ProxyEvent, ProxyPolicy};
use crate::reconcile::Ledger;
use crate::roots::RootsNews;
use crate::status_folder::StatusFolder;

/// How often status is brought up to date at the most.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// How many changed objects a trace names.
const MOST_NAMES: usize = 8;

/// Where news of objects and workloads go.
#[derive(Debug)]
pub(crate) enum StatusSink {
    /// Nowhere; the admin endpoint shows them.
    None,
    /// Files.
    Folder(StatusFolder),
    /// The reconcilers, which write to an API server.
    Reconcilers(Ledger),
}

/// What a MeshConfig that goes away means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeletedMeshConfig {
    /// The defaults: a folder is a whole statement of what is wanted.
    MeansDefaults,
    /// An accident: the last settings stay in force until there is one again.
    KeepsTheLast,
}

/// What is said of a MeshConfig that is gone while [`DeletedMeshConfig::KeepsTheLast`].
pub(crate) const MESH_CONFIG_DELETED: &str =
    "the MeshConfig was deleted; its last settings stay in force for as long as the control plane runs";
/// What to do about it.
const MESH_CONFIG_REMEDY: &str = "create it again";

/// Is told of every event of the source, in order, before the driver is.
pub(crate) type Observer = Box<dyn FnMut(&SourceEvent) + Send>;

/// Is told of every proxy whose pod is gone.
pub(crate) type Dismissed = Box<dyn Fn(&ProxyName) + Send>;

/// The loop's state and what it acts on.
pub(crate) struct Mesh {
    pub(crate) driver: Driver,
    pub(crate) cache: Cache,
    pub(crate) server: Server,
    pub(crate) certificates: Certificates,
    pub(crate) problems: Arc<ArcSwap<Vec<Problem>>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: StatusSink,
    pub(crate) deleted_mesh_config: DeletedMeshConfig,
    /// Others who follow the source: admission, the log level.
    pub(crate) observers: Vec<Observer>,
    /// Others who have to do with proxies, and are told of those whose pod is gone.
    pub(crate) dismissed: Vec<Dismissed>,
    /// Changes whose acknowledgement is traced.
    pub(crate) arrivals: Arrivals,
}

/// What the loop listens to.
pub(crate) struct Inputs {
    /// Objects.
    pub(crate) source: mpsc::Receiver<SourceEvent>,
    /// What happens on streams.
    pub(crate) proxies: mpsc::UnboundedReceiver<ProxyEvent>,
    /// Changes of the certificate store.
    pub(crate) certificates: osm_issuer::Changes,
    /// Questions of the admin endpoint.
    pub(crate) questions: mpsc::Receiver<Question>,
    /// News of MeshRootCertificates.
    pub(crate) roots: mpsc::UnboundedReceiver<RootsNews>,
    /// News of the ingress gateway.
    pub(crate) gateway: mpsc::UnboundedReceiver<Option<GatewayNews>>,
}

/// The xDS server of a mesh. `settings` without those of its streams.
pub(crate) fn xds_server(cache: &Cache, policy: ProxyPolicy, mut settings: Settings) -> Server {
    // A refusal that names nothing is narrowed down to the resource to blame.
    settings.stream = StreamSettings { isolation: Isolation::OneAtATime, ..StreamSettings::default() };
    Server::new(cache.clone(), Arc::new(policy), settings)
}

impl Mesh {
    /// Runs for ever.
    ///
    /// # Errors
    /// The source has ended.
    pub(crate) async fn run(mut self, mut inputs: Inputs) -> anyhow::Result<Infallible> {
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        status.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = inputs.source.recv() => self.on_source(event.context("the source of objects has ended")?),
                Some(event) = inputs.proxies.recv() => self.on_proxy(event),
                change = inputs.certificates.next() => self.on_certificate(change).await,
                Some(question) = inputs.questions.recv() => self.answer(question),
                Some(news) = inputs.roots.recv() => self.on_roots(news),
                Some(news) = inputs.gateway.recv() => self.driver.on_gateway(news),
                _ = status.tick() => self.report().await,
            }
        }
    }

    fn on_source(&mut self, event: SourceEvent) {
        for observe in &mut self.observers {
            observe(&event);
        }
        match event {
            SourceEvent::Changes(mut changes) => {
                if self.deleted_mesh_config == DeletedMeshConfig::KeepsTheLast {
                    self.keep_mesh_config(&mut changes);
                }
                self.follow_mesh_config(&changes);
                let objects = number(changes.len());
                let span = tracing::info_span!(target: TRACES, "change", objects, names = names(&changes));
                let effects = span.in_scope(|| self.driver.on_objects(changes, Instant::now()));
                if let Some(epoch) = effects.published {
                    let Self { driver, server, .. } = self;
                    self.arrivals.expect(epoch, &span, || driver.concerned(epoch, &server.synced()));
                }
                self.dismiss(&effects.dismissed);
                self.count_findings();
            }
            SourceEvent::Problems(mut problems) => {
                let known = self.problems.load();
                problems.extend(known.iter().filter(|problem| is_deleted_mesh_config(problem)).cloned());
                for problem in problems.iter().filter(|problem| !known.contains(problem)) {
                    tracing::error!(%problem, "an object is not taken over; its last good state stays");
                }
                if let StatusSink::Reconcilers(ledger) = &self.status {
                    ledger.take_problems(&problems);
                }
                self.problems.store(Arc::new(problems));
                self.count_findings();
            }
            SourceEvent::Synced => {
                self.cache.set_ready();
                if let StatusSink::Reconcilers(ledger) = &self.status {
                    ledger.set_synced();
                }
                tracing::info!("the objects are read, proxies are served");
            }
        }
    }

    /// Leaves the deletion of the MeshConfig out, and shows it as a problem until there is one again.
    fn keep_mesh_config(&self, changes: &mut Vec<Change>) {
        let mut shown = self.problems.load().to_vec();
        for (name, object) in changes.iter().filter(|(name, _)| is_mesh_config(name)) {
            shown.retain(|problem| !is_deleted_mesh_config(problem));
            if object.is_none() {
                tracing::error!(object = %name, "{MESH_CONFIG_DELETED}");
                shown.push(Problem::of_object(name.clone(), MESH_CONFIG_DELETED, MESH_CONFIG_REMEDY));
            }
            self.metrics.mesh_config_deleted(object.is_none());
        }
        self.problems.store(Arc::new(shown));
        changes.retain(|(name, object)| object.is_some() || !is_mesh_config(name));
    }

    fn count_findings(&self) {
        self.metrics.source(self.problems.load().len(), self.driver.engine().finding_count());
    }

    /// Certificates issued from now on follow a changed MeshConfig, and so does how many proxies are let in.
    fn follow_mesh_config(&self, changes: &[Change]) {
        for (_, object) in changes.iter().filter(|(name, _)| is_mesh_config(name)) {
            let spec = match object {
                Some(Object::MeshConfig(config)) => Some(&config.spec),
                _ => None,
            };
            self.certificates.follow(spec);
            self.server.limit_streams(spec.and_then(|spec| spec.sidecar.max_data_plane_connections()));
        }
    }

    fn on_proxy(&mut self, event: ProxyEvent) {
        self.arrivals.on_proxy(&event.client, &event.event, || self.server.synced());
        let effects = self.driver.on_proxy(event, Instant::now());
        for workload in effects.wanted_certificates {
            if let Some(leaf) = self.certificates.obtain(&workload) {
                self.publish_certificate(&leaf);
            }
        }
        self.dismiss(&effects.dismissed);
    }

    fn dismiss<'a>(&self, proxies: impl IntoIterator<Item = &'a ProxyName>) {
        for proxy in proxies {
            for dismiss in &self.dismissed {
                dismiss(proxy);
            }
            if self.server.dismiss(proxy) > 0 {
                tracing::info!(%proxy, "the pod is gone, and so is its proxy");
            }
        }
    }

    async fn on_certificate(&mut self, change: CertificateChange) {
        match change {
            CertificateChange::TrustBundle => {
                if let Some(bundle) = self.certificates.trust_bundle().await {
                    let Self { driver, certificates, .. } = self;
                    certificates.deliveries.publish_bundle(&bundle, || driver.on_trust_bundle(&bundle));
                }
            }
            CertificateChange::Leaf(identity) => {
                self.metrics.certificate_issued();
                if let Some(leaf) = self.certificates.issued(&identity).await {
                    self.publish_certificate(&leaf);
                }
            }
        }
    }

    fn publish_certificate(&mut self, leaf: &LeafCertificate) {
        let Self { driver, certificates, .. } = self;
        certificates.deliveries.publish_certificate(leaf, || driver.on_certificate(leaf));
    }

    /// What the keeper of the roots tells of MeshRootCertificates.
    fn on_roots(&mut self, news: RootsNews) {
        for (object, status) in news.statuses {
            self.driver.on_root_status(&object, status);
        }
    }

    fn answer(&self, question: Question) {
        let answer = self.driver.dump(&question.dump, &self.server.clients());
        // Whoever asked may have gone.
        let _ = question.answer.send(answer);
    }

    async fn report(&mut self) {
        self.metrics.streams_over_limit(self.server.streams_over_limit());
        self.metrics.certificates_failing(self.certificates.store.failing());
        if !self.arrivals.is_empty() {
            self.arrivals.look(&self.server.synced());
        }
        if !self.driver.report_is_due() {
            return;
        }
        let synced = self.server.synced();
        let reports = self.driver.report(&synced, Instant::now(), Timestamp::now());
        match &self.status {
            StatusSink::None => {}
            StatusSink::Reconcilers(ledger) => ledger.take(reports),
            StatusSink::Folder(folder) => {
                for Report { name, known } in reports {
                    match folder.write(&name, known.as_ref().map(|known| &known.document)).await {
                        Ok(()) => self.metrics.status_written(),
                        Err(error) => tracing::error!(object = %name, %error, "cannot write status"),
                    }
                }
            }
        }
    }
}

/// Whether an object is the one that the settings come from. Others of the kind have findings and no effect.
pub(crate) fn is_mesh_config(name: &ObjectRef) -> bool {
    name.kind == Kind::MeshConfig && name.name == MESH_CONFIG_NAME
}

/// Changed objects, for people: of many, the first.
fn names(changes: &[Change]) -> String {
    let mut names: Vec<String> = changes.iter().take(MOST_NAMES).map(|(name, _)| name.to_string()).collect();
    if changes.len() > MOST_NAMES {
        names.push("…".to_owned());
    }
    names.join(", ")
}

fn is_deleted_mesh_config(problem: &Problem) -> bool {
    problem.message == MESH_CONFIG_DELETED
}
