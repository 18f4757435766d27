//! The control plane in a cluster: an API server in, xDS out, status back.
//!
//! Every replica reads, and serves proxies, pods that are to be injected and whoever asks how things are. The holder of the Lease
//! writes. The order of a start: say what is missing and wait for it, take part in the election, know which roots are in force,
//! read everything, serve. The order of an end: be not ready, send proxies to other replicas a few at a time, give the Lease back.

mod admission;
mod args;
mod behind;
mod ca_bundles;
mod follow;
mod gateway;
mod roots;
mod seed;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use kube::Client;
use osm_engine::Options;
use osm_issuer::{CertificateStore, Clock, PeerIdentity, TrustDomain};
use osm_kubernetes::{
    EventRecorder, Leadership, Lease, LeaseOptions, MeshClaim, ReviewOptions, StoredObjects, TokenReviewer,
    WatchOptions, Writer, mesh_claims, missing_crds,
};
use osm_xds::{Cache, Server, Settings};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub(crate) use self::args::{HELP, RunArgs};
use self::behind::PodsBehindWatch;
use self::ca_bundles::CaBundles;
use self::roots::Heard;
use self::seed::Seed;
use crate::admin::{Admin, DebugAccess, Phase, Readiness};
use crate::driver::Driver;
use crate::identity::{self, ServerTls};
use crate::identity_endpoint::{IdentityEndpoint, IdentityEndpointSettings};
use crate::logging::Logs;
use crate::mesh::{Arrivals, Certificates, DeletedMeshConfig, Inputs, Mesh, StatusSink, xds_server};
use crate::metrics::Metrics;
use crate::proxies::ProxyPolicy;
use crate::reconcile::{Ledger, PodsBehind, Reconcilers};
use crate::replicas::{self, Books, Replica, Telling};
use crate::roots::{Keeper, RootsReport, observer, with_pages};
use crate::standalone::{QUESTIONS, bind, extra_pages, rotation, stop_signal};
use crate::trust_bundles::{MeshNamespaces, Namespaces, TrustBundles};
use crate::webhooks::{self, WebhookTls, Webhooks};

/// Name of the Lease.
const LEASE_NAME: &str = "osm-controller";
/// How often to look again for what is missing.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long the end may take beyond the time in which proxies are sent away.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT, or until a part fails.
///
/// # Errors
/// An address is in use, the API server cannot be found, the authority cannot be used, another operator has the mesh, or a part
/// ended that never should.
pub(crate) async fn run(args: RunArgs, options: Options, logs: Arc<Logs>) -> anyhow::Result<()> {
    let cache = Cache::new();
    let readiness = Readiness::new(Phase::Starting("connecting to the API server".to_owned()), cache.clone());
    let (listeners, admin_listener) = Listeners::bind(&args).await?;
    let client = osm_kubernetes::client(args.kubeconfig.as_deref()).await?;
    let metrics = Arc::new(Metrics::default());
    let ledger = Ledger::new(Instant::now(), args.settling());
    let report = watch::Sender::default();
    let stop = Stop::on_signal(readiness.clone());
    let debug = DebugAccess::from_loopback();

    let (questions, asked) = mpsc::channel(QUESTIONS);
    let pages: Arc<ArcSwap<Option<Pages>>> = Arc::default();
    let admin = Admin {
        questions,
        readiness: readiness.clone(),
        metrics: Arc::clone(&metrics),
        extra: late_pages(&pages),
        rotate: late_rotation(&pages),
        telling: Some(Telling { ledger: ledger.clone(), roots: report.subscribe() }),
        debug: debug.clone(),
    };
    let router = admin.router().into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(admin_listener, router).into_future();
    let start = Start {
        args,
        options,
        logs,
        debug,
        client,
        cache,
        readiness,
        metrics,
        ledger,
        report,
        pages,
        stop: stop.clone(),
    };
    tokio::select! {
        ended = served => {
            ended.context("serve the admin endpoint")?;
            anyhow::bail!("the admin endpoint ended")
        }
        ended = start.run(listeners, asked) => ended,
    }
}

/// What is listened on.
struct Listeners {
    xds: TcpListener,
    identity: TcpListener,
    webhooks: TcpListener,
}

impl Listeners {
    /// Those for proxies and the API server, and that of the admin endpoint.
    async fn bind(args: &RunArgs) -> anyhow::Result<(Self, TcpListener)> {
        let xds = bind_any(args.listen, "--listen").await?;
        let identity = bind_any(args.identity_listen, "--identity-listen").await?;
        let webhooks = bind_any(args.webhook_listen, "--webhook-listen").await?;
        let admin = bind_any(args.admin, "--admin").await?;
        tracing::info!(
            xds = %xds.local_addr()?, identity = %identity.local_addr()?, webhooks = %webhooks.local_addr()?,
            admin = %admin.local_addr()?, "listening"
        );
        Ok((Self { xds, identity, webhooks }, admin))
    }
}

/// Listens on an address; where it is that of both families and there is no IPv6, on that of IPv4.
pub(crate) async fn bind_any(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    match bind(address, flag).await {
        Err(_) if address.ip() == IpAddr::from([0_u16; 8]) && TcpListener::bind(("::1", 0)).await.is_err() => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), flag).await
        }
        bound => bound,
    }
}

/// What the admin endpoint shows once there is something to show.
struct Pages {
    extra: crate::admin::ExtraPages,
    rotate: crate::admin::RotateCertificates,
}

fn late_pages(pages: &Arc<ArcSwap<Option<Pages>>>) -> crate::admin::ExtraPages {
    let pages = Arc::clone(pages);
    Arc::new(move |page| (**pages.load()).as_ref().and_then(|pages| (pages.extra)(page)))
}

fn late_rotation(pages: &Arc<ArcSwap<Option<Pages>>>) -> crate::admin::RotateCertificates {
    let pages = Arc::clone(pages);
    Arc::new(move || match &**pages.load() {
        Some(pages) => (pages.rotate)(),
        None => Box::pin(std::future::ready(osm_issuer::Renewed::default())),
    })
}

/// Tells all parts when the process is to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    asked: watch::Receiver<bool>,
}

impl Stop {
    /// On SIGTERM or SIGINT the process is not ready any more, and then everybody is told.
    fn on_signal(readiness: Readiness) -> Self {
        let (tell, asked) = watch::channel(false);
        tokio::spawn(async move {
            match stop_signal().await {
                Ok(signal) => tracing::info!(signal, "stopping"),
                Err(error) => tracing::error!(error = format!("{error:#}"), "cannot wait for signals; stopping"),
            }
            readiness.enter(Phase::Stopping);
            let _ = tell.send(true);
            tell.closed().await;
        });
        Self { asked }
    }

    /// Waits until the process is to end.
    pub(crate) async fn asked(&self) {
        let mut asked = self.asked.clone();
        // The teller lives until somebody was told.
        let _ = asked.wait_for(|asked| *asked).await;
    }
}

/// How the API server is reached, and whether it is written to.
struct Hands {
    stored: StoredObjects,
    writer: Writer,
    events: EventRecorder,
    leadership: watch::Receiver<Leadership>,
}

/// All that a start needs.
struct Start {
    args: RunArgs,
    options: Options,
    logs: Arc<Logs>,
    debug: DebugAccess,
    client: Client,
    cache: Cache,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    ledger: Ledger,
    /// What this replica tells of roots.
    report: watch::Sender<Arc<RootsReport>>,
    pages: Arc<ArcSwap<Option<Pages>>>,
    stop: Stop,
}

impl Start {
    async fn run(self, listeners: Listeners, asked: mpsc::Receiver<crate::admin::Question>) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        tokio::select! {
            waited = self.wait_for_the_cluster() => waited?,
            () = stop.asked() => return Ok(()),
        }
        let stored = StoredObjects::default();
        let writer = Writer::new(self.client.clone(), stored.clone());
        let lease = Lease::new(self.client.clone(), self.lease_options());
        let leadership = lease.leadership();
        let (give_back, given_back) = oneshot::channel::<()>();
        let election = tokio::spawn(lease.run(async {
            // Dropped when everything else has ended: the Lease is given back then, too.
            let _ = given_back.await;
        }));
        let events = EventRecorder::new(self.client.clone(), stored.clone(), self.args.replica_name.clone());
        let heard = Heard::default();
        self.readiness.enter(Phase::Starting("waiting for the certificate authority".to_owned()));
        let keeper = tokio::select! {
            keeper = self.keeper(&writer, &leadership, &events, &heard) => keeper?,
            () = stop.asked() => return end(give_back, election).await,
        };
        let hands = Hands { stored, writer, events, leadership };
        let served = self.serve(listeners, asked, hands, keeper, heard).await;
        end(give_back, election).await?;
        served
    }

    /// Says what is missing in the cluster, or in the way, and waits until it is not.
    async fn wait_for_the_cluster(&self) -> anyhow::Result<()> {
        let mut said = String::new();
        loop {
            let obstacle = match missing_crds(&self.client).await {
                Ok(missing) if missing.is_empty() => break,
                Ok(missing) => format!("waiting for CustomResourceDefinitions: {}; install them", missing.join(", ")),
                Err(error) => format!("waiting for the API server: {error}"),
            };
            self.readiness.enter(Phase::Starting(obstacle.clone()));
            if obstacle != said {
                tracing::warn!("{obstacle}");
                said = obstacle;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.readiness.enter(Phase::Starting("looking for other operators".to_owned()));
        let namespace = &*self.options.control_plane_namespace;
        let others = loop {
            match mesh_claims(&self.client, namespace).await {
                Ok(others) => break others,
                Err(error) => tracing::warn!(%error, "cannot look for other operators; trying again"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        for other in others {
            let MeshClaim { mesh_name, enforces_single_mesh, namespace, .. } = &other;
            anyhow::ensure!(
                **mesh_name != *self.options.mesh_name,
                "an operator in namespace {namespace} serves a mesh of this name, {mesh_name}; choose another --mesh-name or \
                 remove one of the two"
            );
            anyhow::ensure!(
                !enforces_single_mesh && !self.args.enforce_single_mesh,
                "the mesh {mesh_name} in namespace {namespace} and this one cannot be in one cluster: one of them enforces a \
                 single mesh"
            );
        }
        Ok(())
    }

    fn lease_options(&self) -> LeaseOptions {
        let mut labels = crate::labels::of_mesh(&self.options.mesh_name);
        labels.extend(MeshClaim::labels(&self.options.mesh_name, self.args.enforce_single_mesh));
        LeaseOptions {
            namespace: self.options.control_plane_namespace.to_string(),
            name: LEASE_NAME.to_owned(),
            holder: self.args.holder(),
            labels,
            timing: self.args.lease_timing(),
        }
    }

    async fn serve(
        self,
        listeners: Listeners,
        asked: mpsc::Receiver<crate::admin::Question>,
        hands: Hands,
        keeper: Keeper,
        heard: Heard,
    ) -> anyhow::Result<()> {
        let namespace = self.options.control_plane_namespace.to_string();
        let trust_domain = TrustDomain::new(self.options.trust_domain.as_str())?;
        let control_plane = PeerIdentity::ControlPlane(identity::control_plane_identity(&trust_domain, &namespace)?);
        let (store, deliveries) = (Arc::clone(keeper.store()), Arc::clone(keeper.deliveries()));
        let certificates = store.subscribe();
        let bundle = store.trust_bundle().await.context("read the roots of the mesh")?;
        let leaf = store.certificate(&control_plane).await.context("issue the control plane's certificate")?;
        let tls = ServerTls::new(&leaf, &bundle)?;
        let webhook_tls = WebhookTls::new(&leaf, &bundle)?;

        let mut driver =
            Driver::with_pods(self.options.clone(), self.cache.clone(), Arc::clone(&self.metrics), heard.pods.clone());
        deliveries.publish_bundle(&bundle, || driver.on_trust_bundle(&bundle));
        deliveries.serve(&leaf, &bundle);
        let (proxy_events, proxies) = mpsc::unbounded_channel();
        let policy = ProxyPolicy::new(vec![trust_domain.clone()], driver.known_pods().clone(), proxy_events);
        let server = xds_server(&self.cache, policy, self.xds_settings());
        let problems = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let extra = with_pages(extra_pages(&problems, &store), keeper.pages());
        self.pages.store(Arc::new(Some(Pages { extra, rotate: rotation(&store) })));

        let identities = self.identity_endpoint(&store, &control_plane).await?;
        let seen_mesh_config = Arc::new(AtomicBool::new(false));
        let defaults = self.args.webhooks.injector(&self.options);
        let (behind, pods_behind) = PodsBehindWatch::new(admission::version(defaults.clone()));
        let (admission_observer, admission_world) = admission::world(&self.options.mesh_name, &namespace);
        let webhooks =
            Webhooks { world: admission_world, defaults: Arc::new(defaults), metrics: self.metrics.webhooks().clone() };
        let (mut mesh_namespaces, namespaces) = MeshNamespaces::new(self.options.mesh_name.to_string());
        let (root_objects, changed_roots) = mpsc::unbounded_channel();
        let (root_news, told_of_roots) = mpsc::unbounded_channel();
        let (gateway, gateway_observer, told_of_gateway) = self.gateway(&hands, &heard, &store)?;
        let renewing = admission::renew(Arc::clone(&store), control_plane.clone(), webhook_tls.clone());
        let mesh = Mesh {
            driver,
            cache: self.cache.clone(),
            server: server.clone(),
            certificates: Certificates {
                store: Arc::clone(&store),
                trust_domain,
                control_plane,
                tls: tls.clone(),
                deliveries,
            },
            problems,
            metrics: Arc::clone(&self.metrics),
            status: StatusSink::Reconcilers(self.ledger.clone()),
            deleted_mesh_config: DeletedMeshConfig::KeepsTheLast,
            observers: vec![
                follow::mesh_config(Arc::clone(&self.logs), self.debug.clone(), Arc::clone(&seen_mesh_config)),
                observer(root_objects),
                gateway_observer,
                follow::deletion(hands.events.clone(), hands.leadership.clone()),
                behind.observer(),
                admission_observer,
                Box::new(move |event| mesh_namespaces.observe(event)),
            ],
            dismissed: vec![{
                let identities = identities.clone();
                Box::new(move |proxy| identities.dismiss(proxy))
            }],
            arrivals: Arrivals::default(),
        };
        let source = osm_kubernetes::watch(self.client.clone(), self.watched(), hands.stored.clone());
        let inputs =
            Inputs { source, proxies, certificates, questions: asked, roots: told_of_roots, gateway: told_of_gateway };
        self.readiness.enter(Phase::Serving);

        let ads = tokio::spawn({
            let server = server.clone();
            async move { server.serve_tls(listeners.xds, move || tls.current()).await }
        });
        let drained = self.drain(ads, &server, &identities);
        // Both end after the process was asked to, and then wait for the proxies to have gone.
        let serving = async {
            let webhooks = webhooks::serve(listeners.webhooks, webhook_tls, webhooks, self.stop.asked());
            let (served, ()) = tokio::join!(webhooks, identities.serve(listeners.identity));
            served?;
            std::future::pending().await
        };
        tokio::select! {
            ended = mesh.run(inputs) => ended.map(|never| match never {}),
            never = self.lead(&hands, &heard, pods_behind, seen_mesh_config) => match never {},
            never = store.run() => match never {},
            never = keeper.run(server.clone(), changed_roots, root_news) => match never {},
            never = self.trust_bundles(&hands, &heard, &store, namespaces) => match never {},
            never = self.ca_bundles(&hands, &heard, &store).run(hands.leadership.clone()) => match never {},
            never = gateway.run(hands.leadership.clone()) => match never {},
            never = renewing => match never {},
            ended = serving => ended,
            drained = drained => drained,
        }
    }

    /// What only the holder of the Lease does: hears the other replicas, writes status, makes the MeshConfig.
    async fn lead(
        &self,
        hands: &Hands,
        heard: &Heard,
        pods_behind: PodsBehind,
        seen_mesh_config: Arc<AtomicBool>,
    ) -> Infallible {
        let namespace = self.options.control_plane_namespace.to_string();
        let seed = Seed {
            namespace: namespace.clone(),
            preset: self.args.preset_mesh_config_name.clone(),
            mesh_name: self.options.mesh_name.to_string(),
            seen: seen_mesh_config,
        };
        let reconcilers = Reconcilers::new(
            &self.options.mesh_name,
            self.ledger.clone(),
            hands.writer.clone(),
            hands.events.clone(),
            Arc::clone(&self.metrics),
            pods_behind,
        );
        let writing = async {
            tokio::select! {
                never = reconcilers.run(hands.leadership.clone()) => never,
                // That its proxies go while it sends them away is not for this replica to write.
                () = self.stop.asked() => std::future::pending().await,
            }
        };
        let replica = Replica { pod: self.args.replica_name.clone(), namespace };
        let books = Books { ledger: self.ledger.clone(), roots: heard.others.clone() };
        let following = replicas::follow(self.client.clone(), replica, books, hands.leadership.clone());
        let sowing = seed.sow(hands.writer.clone(), hands.leadership.clone());
        let (never, _, ()) = tokio::join!(writing, following, sowing);
        never
    }

    async fn trust_bundles(
        &self,
        hands: &Hands,
        heard: &Heard,
        store: &Arc<CertificateStore>,
        namespaces: watch::Receiver<Namespaces>,
    ) -> Infallible {
        let trust_bundles = TrustBundles {
            writer: hands.writer.clone(),
            labels: crate::labels::of_mesh(&self.options.mesh_name),
            store: Arc::clone(store),
            namespaces,
            clock: Clock::system(),
            written: heard.trust_bundles.clone(),
        };
        trust_bundles.run(self.client.clone(), hands.leadership.clone()).await
    }

    fn ca_bundles(&self, hands: &Hands, heard: &Heard, store: &Arc<CertificateStore>) -> CaBundles {
        CaBundles {
            writer: hands.writer.clone(),
            store: Arc::clone(store),
            configurations: self.args.webhook_configurations(&self.options.mesh_name),
            clock: Clock::system(),
            written: heard.webhooks.clone(),
        }
    }

    async fn identity_endpoint(
        &self,
        store: &Arc<CertificateStore>,
        control_plane: &PeerIdentity,
    ) -> anyhow::Result<IdentityEndpoint> {
        let reviewer =
            TokenReviewer::new(self.client.clone(), ReviewOptions::new(osm_bootstrap::names::TOKEN_AUDIENCE));
        let settings = IdentityEndpointSettings { server: self.xds_settings(), ..IdentityEndpointSettings::default() };
        IdentityEndpoint::new(Arc::new(reviewer), Arc::clone(store), control_plane.clone(), settings).await
    }

    /// Ends well when the process was asked to end and proxies have gone.
    async fn drain(
        &self,
        mut ads: JoinHandle<()>,
        server: &Server,
        identities: &IdentityEndpoint,
    ) -> anyhow::Result<()> {
        tokio::select! {
            () = self.stop.asked() => {}
            _ = &mut ads => anyhow::bail!("the xDS server ended"),
        }
        server.shutdown();
        identities.shutdown();
        if tokio::time::timeout(self.args.drain() + END_WITHIN, &mut ads).await.is_err() {
            tracing::warn!("some proxies did not go in time");
        }
        Ok(())
    }

    fn watched(&self) -> WatchOptions {
        let proxy_snapshots = Some(crate::labels::selector_of_mesh(&self.options.mesh_name));
        WatchOptions { proxy_snapshots, ..WatchOptions::default() }
    }

    fn xds_settings(&self) -> Settings {
        Settings {
            connection_age: Some(self.args.connection_age()),
            shutdown_spread: self.args.drain(),
            ..Settings::default()
        }
    }
}

/// Gives the Lease back, so that another replica writes at once.
async fn end(give_back: oneshot::Sender<()>, election: tokio::task::JoinHandle<()>) -> anyhow::Result<()> {
    drop(give_back);
    if tokio::time::timeout(END_WITHIN, election).await.is_err() {
        tracing::warn!("the Lease is not given back: the API server did not answer in time");
    }
    Ok(())
}
