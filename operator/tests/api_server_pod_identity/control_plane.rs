//! What a pod's proxy talks to, in this process: the real identity endpoint, a real xDS server, a real store.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, TresorConfig};
use osm_issuer::{
    Blame, CertificateStore, ClientCertificates, Clock, IssuerConfig, Issuers, LeafCertificate, NamedIssuer,
    PeerIdentity, StoreConfig, TrustDomain,
};
use osm_kubernetes::{ProvenPod, RequestError, ReviewError, ReviewToken};
use osm_operator::{IdentityEndpoint, IdentityEndpointSettings, control_plane_identity, type_url};
use osm_testkit::NODE_IPV4;
use osm_xds::{
    Admission, Cache, ClientIdentity, Delivery, Event, Layer, Node, Peer, Policy, ProxyName, Refusal, Resource, Server,
    Settings, Snapshot, SnapshotKey, TypeUrl,
};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::new("cluster.local").expect("it is one")
}

/// Who signs: an authority of its own in memory.
pub(crate) fn authority() -> Result<NamedIssuer> {
    let now = Clock::system().now();
    let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, now)?;
    Ok(IssuerConfig::Tresor(TresorConfig { material, origin: Blame::Process }).build(now)?)
}

pub(crate) fn store(signing: &NamedIssuer) -> Arc<CertificateStore> {
    let issuers = Issuers { signing: signing.clone(), validating: Vec::new() };
    Arc::new(CertificateStore::new(issuers, StoreConfig::default(), Clock::system()))
}

/// Stands in for the API server's TokenReview, and says so: it knows the tokens that a test tells it.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    state: Mutex<TokensState>,
}

#[derive(Debug, Default)]
struct TokensState {
    pods: BTreeMap<String, ProvenPod>,
    asked: BTreeMap<String, usize>,
    is_down: bool,
}

impl Tokens {
    pub(crate) fn accept(&self, token: &str, pod: ProvenPod) {
        self.state.lock().pods.insert(token.to_owned(), pod);
    }

    pub(crate) fn refuse(&self, token: &str) {
        self.state.lock().pods.remove(token);
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.lock().is_down = is_down;
    }

    /// How often a token was asked about.
    pub(crate) fn asked(&self, token: &str) -> usize {
        self.state.lock().asked.get(token).copied().unwrap_or_default()
    }
}

#[async_trait::async_trait]
impl ReviewToken for Tokens {
    async fn review(&self, token: &str) -> Result<ProvenPod, ReviewError> {
        let mut state = self.state.lock();
        *state.asked.entry(token.to_owned()).or_default() += 1;
        if state.is_down {
            return Err(ReviewError::Unavailable(RequestError::Unavailable("it is down".to_owned())));
        }
        let pod = state.pods.get(token).cloned();
        pod.ok_or_else(|| ReviewError::Refused("it is not one that the test knows".to_owned()))
    }
}

/// Lets proxies in by their certificate, as the product's xDS server does, and serves all the same.
struct ByCertificate {
    admitted: Arc<Mutex<Vec<PeerIdentity>>>,
}

impl Policy for ByCertificate {
    fn authenticate<'a>(&'a self, peer: &'a Peer, node: &'a Node) -> BoxFuture<'a, Result<Admission, Refusal>> {
        let admitted = peer.certificates.first().context("no client certificate").and_then(|leaf| {
            let identity = PeerIdentity::from_certificate(leaf, &[trust_domain()])?;
            let PeerIdentity::Proxy(proxy) = &identity else { anyhow::bail!("{identity} is no proxy") };
            anyhow::ensure!(*proxy.node() == *node.id, "{} is not {}", node.id, proxy.node());
            Ok(identity)
        });
        let decision = match admitted {
            Ok(identity) => {
                self.admitted.lock().push(identity);
                let proxy = ProxyName::new(Arc::clone(&node.id));
                Ok(Admission { key: SnapshotKey::new("all"), proxy })
            }
            Err(error) => Err(Refusal::PermissionDenied(error.to_string())),
        };
        Box::pin(std::future::ready(decision))
    }

    fn observe(&self, _: &ClientIdentity, _: Event) {}
}

/// A running control plane.
pub(crate) struct ControlPlane {
    pub(crate) store: Arc<CertificateStore>,
    pub(crate) endpoint: IdentityEndpoint,
    ads: Server,
    admitted: Arc<Mutex<Vec<PeerIdentity>>>,
    tasks: JoinSet<()>,
}

/// Ports on the node.
pub(crate) const ADS_PORT: u16 = osm_bootstrap::names::ADS_PORT;
const IDENTITY_PORT: u16 = osm_bootstrap::names::IDENTITY_PORT;

impl ControlPlane {
    pub(crate) async fn start(
        reviewer: Arc<dyn ReviewToken>,
        store: Arc<CertificateStore>,
        keep: Duration,
    ) -> Result<Self> {
        let control_plane = PeerIdentity::ControlPlane(control_plane_identity(&trust_domain(), "osm-system")?);
        // Whoever signs now, its certificate is the one shown.
        let leaf = store.rotate_now(&control_plane).await?;
        let bundle = store.trust_bundle().await?;
        let settings = IdentityEndpointSettings { keep, ..IdentityEndpointSettings::default() };
        let endpoint = IdentityEndpoint::new(reviewer, Arc::clone(&store), control_plane, settings).await?;

        let admitted = Arc::default();
        let cache = Cache::new();
        cache.publish([(SnapshotKey::new("all"), Some(Arc::new(snapshot()?)))]);
        cache.set_ready();
        let policy = ByCertificate { admitted: Arc::clone(&admitted) };
        let ads = Server::new(cache, Arc::new(policy), Settings::default());
        let tls = Arc::new(osm_issuer::server_config(&leaf, &bundle, ClientCertificates::Required)?);

        let listen = async |port| TcpListener::bind(SocketAddr::from((NODE_IPV4, port))).await;
        let (for_ads, for_identity) = (listen(ADS_PORT).await?, listen(IDENTITY_PORT).await?);
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let ads = ads.clone();
            async move { ads.serve_tls(for_ads, move || Arc::clone(&tls)).await }
        });
        tasks.spawn({
            let endpoint = endpoint.clone();
            async move { endpoint.serve(for_identity).await }
        });
        tasks.spawn({
            let store = Arc::clone(&store);
            async move { match store.run().await {} }
        });
        Ok(Self { store, endpoint, ads, admitted, tasks })
    }

    /// Ends it as a process that is killed ends: at once, with everything it held.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.ads.shutdown();
        self.endpoint.shutdown();
    }

    /// The certificate that it shows.
    pub(crate) fn server_certificate(&self) -> Result<Arc<LeafCertificate>> {
        let control_plane = PeerIdentity::ControlPlane(control_plane_identity(&trust_domain(), "osm-system")?);
        self.store.cached(&control_plane).context("the control plane has a certificate")
    }

    /// Who has opened an ADS stream, in order.
    pub(crate) fn admitted(&self) -> Vec<PeerIdentity> {
        self.admitted.lock().clone()
    }
}

/// One cluster, so that there is something to be configured with.
fn snapshot() -> Result<Snapshot> {
    let cluster = osm_translate::unreachable_cluster("a-cluster");
    let resource = Resource::from_any(type_url(cluster.kind), Arc::clone(&cluster.name), &cluster.body)?;
    anyhow::ensure!(*resource.type_url() == TypeUrl::Cluster);
    let mut layer = Layer::new();
    layer.insert(Arc::new(resource), Delivery::Wildcard);
    Ok(Snapshot::new([layer]))
}
