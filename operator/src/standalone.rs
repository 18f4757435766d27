//! The control plane without a cluster: a folder of manifests in, xDS out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use osm_engine::Options;
use osm_issuer::{CertificateStore, Clock, ControlPlaneIdentity, PeerIdentity, TrustDomain};
use osm_source::Problem;
use osm_xds::{Cache, Settings};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::admin::{Admin, DebugAccess, ExtraPages, Phase, Readiness, RotateCertificates};
use crate::driver::Driver;
use crate::gateway;
use crate::identity::{self, ServerTls};
use crate::mesh::{Arrivals, Certificates, DeletedMeshConfig, Inputs, Mesh, StatusSink, rotate_workloads, xds_server};
use crate::metrics::Metrics;
use crate::proxies::ProxyPolicy;
use crate::roots::{self, BuiltIn, Factory, Keeper, KeeperInputs, RecordFile, RecordStore, Surroundings, Timing};
use crate::status_folder::StatusFolder;

/// How many unanswered questions of the admin endpoint wait; more make the asker wait.
pub(crate) const QUESTIONS: usize = 16;

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
    /// How long a rotation of roots waits for what nothing tells.
    pub timing: Timing,
}

/// Runs until SIGTERM or SIGINT, or until a part fails.
///
/// # Errors
/// An address is in use, the folder or the authority cannot be used, or a part ended that never should.
pub async fn run(standalone: Standalone) -> anyhow::Result<()> {
    let trust_domain = TrustDomain::new(standalone.options.trust_domain.as_str())?;
    let control_plane = identity::control_plane_identity(&trust_domain, &standalone.options.control_plane_namespace)?;
    let keeper = open_keeper(&standalone, &control_plane).await?;
    let (store, deliveries) = (Arc::clone(keeper.store()), Arc::clone(keeper.deliveries()));
    let control_plane = PeerIdentity::ControlPlane(control_plane);
    let certificates = store.subscribe();
    let bundle = store.trust_bundle().await.context("read the roots of the mesh")?;
    let leaf = store.certificate(&control_plane).await.context("issue the control plane's certificate")?;
    let tls = ServerTls::new(&leaf, &bundle)?;

    let (cache, metrics) = (Cache::new(), Arc::new(Metrics::default()));
    let mut driver = Driver::new(standalone.options.clone(), cache.clone(), Arc::clone(&metrics));
    deliveries.publish_bundle(&bundle, || driver.on_trust_bundle(&bundle));
    deliveries.serve(&leaf, &bundle);
    let (proxy_events, proxies) = mpsc::unbounded_channel();
    let policy = ProxyPolicy::new(vec![trust_domain.clone()], driver.known_pods().clone(), proxy_events);
    let server = xds_server(&cache, policy, Settings::default());
    let (listener, admin_listener) = listen(&standalone).await?;
    let problems = Arc::new(ArcSwap::from_pointee(Vec::new()));
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let admin = Admin {
        questions,
        readiness: Readiness::new(Phase::Serving, cache.clone()),
        metrics: Arc::clone(&metrics),
        extra: roots::with_pages(extra_pages(&problems, &store), keeper.pages()),
        rotate: rotation(&store),
        telling: None,
        debug: DebugAccess::for_all(),
    };
    let (root_objects, changed_roots) = mpsc::unbounded_channel();
    let (root_news, told_of_roots) = mpsc::unbounded_channel();
    let (gateway_news, told_of_gateway) = mpsc::unbounded_channel();
    let mesh = Mesh {
        driver,
        cache,
        server: server.clone(),
        certificates: Certificates {
            store: Arc::clone(&store),
            trust_domain,
            control_plane,
            tls: tls.clone(),
            deliveries,
        },
        problems,
        metrics,
        status: standalone.status.map_or(StatusSink::None, |folder| StatusSink::Folder(StatusFolder::new(folder))),
        deleted_mesh_config: DeletedMeshConfig::MeansDefaults,
        observers: vec![roots::observer(root_objects), gateway::without_cluster(gateway_news)],
        dismissed: Vec::new(),
        arrivals: Arrivals::default(),
    };
    let source = osm_source::directory(standalone.folder).context("watch the folder")?;
    let inputs =
        Inputs { source, proxies, certificates, questions: asked, roots: told_of_roots, gateway: told_of_gateway };

    tokio::select! {
        ended = mesh.run(inputs) => ended.map(|never| match never {}),
        () = server.serve_tls(listener, move || tls.current()) => anyhow::bail!("the xDS server ended"),
        ended = axum::serve(admin_listener, admin.router().into_make_service_with_connect_info::<SocketAddr>()).into_future() => {
            ended.context("serve the admin endpoint")?;
            anyhow::bail!("the admin endpoint ended")
        }
        never = store.run() => match never {},
        never = keeper.run(server.clone(), changed_roots, root_news) => match never {},
        signal = stop_signal() => {
            tracing::info!(signal = signal?, "stopping");
            server.shutdown();
            Ok(())
        }
    }
}

/// Takes up what is in force according to the state folder, or puts in force what the manifests say.
async fn open_keeper(standalone: &Standalone, control_plane: &ControlPlaneIdentity) -> anyhow::Result<Keeper> {
    let Standalone { folder, state, options, timing, .. } = standalone;
    let namespace = options.control_plane_namespace.to_string();
    std::fs::create_dir_all(state).with_context(|| format!("make the folder {}", state.display()))?;
    let mut inputs = KeeperInputs {
        trust_domain: options.trust_domain.to_string(),
        factory: Factory::in_folder(state, control_plane.clone()),
        built_in: BuiltIn::in_folder(&namespace, state),
        record: RecordStore::File(RecordFile::in_folder(state)),
        surroundings: Surroundings::Alone,
        timing: *timing,
        clock: Clock::system(),
        namespace,
    };
    let in_force = inputs.take_up(&roots::in_folder(folder)).await?;
    Keeper::new(inputs, in_force.context("nobody has said which roots are in force")?)
}

async fn listen(standalone: &Standalone) -> anyhow::Result<(TcpListener, TcpListener)> {
    let xds = bind(standalone.listen, "--listen").await?;
    let admin = bind(standalone.admin, "--admin").await?;
    tracing::info!(
        xds = %xds.local_addr()?, admin = %admin.local_addr()?, folder = %standalone.folder.display(), "serving"
    );
    Ok((xds, admin))
}

pub(crate) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address} ({flag}); choose a free address"))
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn stop_signal() -> anyhow::Result<&'static str> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "SIGINT").context("wait for SIGINT"),
    }
}

pub(crate) fn extra_pages(problems: &Arc<ArcSwap<Vec<Problem>>>, store: &Arc<CertificateStore>) -> ExtraPages {
    let (problems, store) = (Arc::clone(problems), Arc::clone(store));
    Arc::new(move |page| match page {
        "problems" => Some(json!(**problems.load())),
        "certificates" => Some(store.status().iter().map(|status| json!(format!("{status:?}"))).collect()),
        _ => None,
    })
}

pub(crate) fn rotation(store: &Arc<CertificateStore>) -> RotateCertificates {
    let store = Arc::clone(store);
    Arc::new(move || Box::pin(rotate_workloads(Arc::clone(&store))))
}
