//! The endpoint at which a pod's proxy gets the certificate that opens its ADS stream, in exchange for the pod's token.
//!
//! It is SDS: the proxy's first request carries the projected ServiceAccount token as a bearer token. The token proves
//! pod and ServiceAccount; the node id is a claim that must agree with it. The certificate is served on that stream and
//! served again whenever the store renews it. Keys are made here and never written anywhere.

mod held;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use osm_bootstrap::names;
use osm_issuer::{CertificateStore, Change, ClientCertificates, PeerIdentity, ProxyIdentity};
use osm_kubernetes::{ProvenPod, ReviewError, ReviewToken};
use osm_model::Identity;
use osm_translate::{PrivateKeyPem, SecretResource, secret_proxy_certificate};
use osm_xds::{
    Admission, Cache, ClientIdentity, Delivery, Event, Layer, Node, Peer, Policy, ProxyName, Refusal, Resource, Server,
    Settings, Snapshot, SnapshotKey, TypeUrl,
};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use self::held::Held;
use crate::identity;

/// How the endpoint behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityEndpointSettings {
    /// Of its server: limits on streams and connections.
    pub server: Settings,
    /// How long the certificate of a proxy without a stream is kept fresh. Default 2 minutes. It must be longer than an
    /// issuance takes.
    pub keep: Duration,
}

impl Default for IdentityEndpointSettings {
    fn default() -> Self {
        Self { server: Settings::default(), keep: Duration::from_secs(120) }
    }
}

/// The endpoint. A handle: clones are the same endpoint.
#[derive(Clone)]
pub struct IdentityEndpoint {
    shared: Arc<Shared>,
    server: Server,
}

struct Shared {
    reviewer: Arc<dyn ReviewToken>,
    store: Arc<CertificateStore>,
    control_plane: PeerIdentity,
    cache: Cache,
    /// Also held while the cache or the store is changed to agree with it.
    held: Mutex<Held>,
    keep: Duration,
    tls: ArcSwap<ServerConfig>,
}

impl IdentityEndpoint {
    /// An endpoint that shows the certificate of `control_plane` and issues from `store`.
    ///
    /// # Errors
    /// The control plane's own certificate or the roots cannot be had.
    pub async fn new(
        reviewer: Arc<dyn ReviewToken>,
        store: Arc<CertificateStore>,
        control_plane: PeerIdentity,
        settings: IdentityEndpointSettings,
    ) -> anyhow::Result<Self> {
        let tls = server_config(&store, &control_plane).await?;
        let cache = Cache::new();
        cache.set_ready();
        let shared = Arc::new(Shared {
            reviewer,
            store,
            control_plane,
            cache: cache.clone(),
            held: Mutex::new(Held::new(settings.keep)),
            keep: settings.keep,
            tls: ArcSwap::from_pointee(tls),
        });
        let server = Server::new(cache, Arc::new(TokenPolicy(Arc::clone(&shared))), settings.server);
        Ok(Self { shared, server })
    }

    /// Serves until [`IdentityEndpoint::shutdown`], and keeps what it serves fresh.
    pub async fn serve(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.server.serve_tls(listener, move || shared.tls.load_full()) => {}
            never = self.shared.follow() => match never {},
        }
    }

    /// Ends every stream gracefully and makes [`IdentityEndpoint::serve`] return.
    pub fn shutdown(&self) {
        self.server.shutdown();
    }

    /// The pod of a proxy is gone: ends its streams and forgets its certificate.
    pub fn dismiss(&self, proxy: &ProxyName) {
        self.server.dismiss(proxy);
        let mut held = self.shared.held.lock();
        let forgotten = held.forget(proxy);
        self.shared.drop_certificates(&held, forgotten.as_slice());
    }

    /// How many proxies have a certificate from here that is kept fresh.
    pub fn proxies(&self) -> usize {
        self.shared.held.lock().len()
    }
}

impl fmt::Debug for IdentityEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("IdentityEndpoint").field("proxies", &self.proxies()).finish_non_exhaustive()
    }
}

/// Clients need no certificate: they come to get one. One that is shown all the same is verified.
async fn server_config(store: &CertificateStore, control_plane: &PeerIdentity) -> anyhow::Result<ServerConfig> {
    let bundle = store.trust_bundle().await.context("read the roots of the mesh")?;
    let leaf = store.certificate(control_plane).await.context("issue the control plane's certificate")?;
    Ok(osm_issuer::server_config(&leaf, &bundle, ClientCertificates::Optional)?)
}

impl Shared {
    /// Follows the store and the clock, for ever.
    async fn follow(&self) -> Infallible {
        let mut changes = self.store.subscribe();
        // What changed before the subscription.
        self.renew_server_certificate().await;
        self.republish();
        let mut expiry = tokio::time::interval(self.keep.max(Duration::from_millis(10)) / 4);
        expiry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Change::TrustBundle => self.renew_server_certificate().await,
                    Change::Leaf(identity) if identity == self.control_plane => self.renew_server_certificate().await,
                    Change::Leaf(PeerIdentity::Proxy(proxy)) => self.renewed(&proxy),
                    Change::Leaf(
                        PeerIdentity::Workload(_) | PeerIdentity::ControlPlane(_) | PeerIdentity::IngressGateway(_),
                    ) => {}
                },
                _ = expiry.tick() => self.expire(Instant::now()),
            }
        }
    }

    async fn renew_server_certificate(&self) {
        match server_config(&self.store, &self.control_plane).await {
            Ok(config) => self.tls.store(Arc::new(config)),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the identity endpoint keeps its former certificate");
            }
        }
    }

    fn republish(&self) {
        for status in self.store.status() {
            if let PeerIdentity::Proxy(proxy) = status.identity {
                self.renewed(&proxy);
            }
        }
    }

    fn renewed(&self, proxy: &ProxyIdentity) {
        let held = self.held.lock();
        let name = proxy_name(proxy);
        if held.holds(&name) {
            self.publish(&held, &name, &PeerIdentity::Proxy(proxy.clone()));
        }
    }

    /// Serves the newest certificate of a proxy that is held; says whether there is one.
    fn publish(&self, _: &Held, name: &ProxyName, identity: &PeerIdentity) -> bool {
        let Some(leaf) = self.store.cached(identity) else { return false };
        let material = leaf.material();
        let key = PrivateKeyPem::new(material.expose_private_key_pem());
        let secret = secret_proxy_certificate(material.certificate_chain_pem(), &key);
        match snapshot(&secret) {
            Ok(snapshot) => drop(self.cache.publish([(key_of(name), Some(Arc::new(snapshot)))])),
            Err(error) => {
                tracing::error!(proxy = %name, %error, "the certificate cannot be encoded");
                return false;
            }
        }
        true
    }

    fn expire(&self, now: Instant) {
        let mut held = self.held.lock();
        let expired = held.expire(now);
        self.drop_certificates(&held, &expired);
    }

    fn drop_certificates(&self, _: &Held, proxies: &[(ProxyName, PeerIdentity)]) {
        if proxies.is_empty() {
            return;
        }
        self.cache.publish(proxies.iter().map(|(name, _)| (key_of(name), None)));
        self.store.retain(|identity| !proxies.iter().any(|(_, gone)| gone == identity));
    }

    /// Who the client is by its token, and its certificate, published.
    async fn admit(&self, peer: &Peer, node: &Node) -> Result<Admission, Refusal> {
        let Some(token) = peer.bearer_token() else {
            let text = "a pod's token is required as a bearer token; use the bootstrap that `osm-operator init` writes";
            return Err(Refusal::Unauthenticated(text.to_owned()));
        };
        let pod = self.reviewer.review(token).await.map_err(|error| match error {
            ReviewError::Refused(_) => Refusal::Unauthenticated(error.to_string()),
            ReviewError::Unavailable(_) => Refusal::Unavailable(format!("{error}; try again")),
        })?;
        let proxy = self.proven(&pod, node)?;
        let name = proxy_name(&proxy);
        let identity = PeerIdentity::Proxy(proxy);
        self.held.lock().admit(name.clone(), &identity, Instant::now());
        if let Err(error) = self.store.certificate(&identity).await {
            return Err(Refusal::Unavailable(format!("cannot issue the certificate, try again: {error}")));
        }
        let mut held = self.held.lock();
        held.admit(name.clone(), &identity, Instant::now());
        if !self.publish(&held, &name, &identity) {
            let text = "the certificate was dropped before it could be served, try again";
            return Err(Refusal::Unavailable(text.to_owned()));
        }
        Ok(Admission { key: key_of(&name), proxy: name })
    }

    /// The proxy that the pod has, if the client says the same.
    fn proven(&self, pod: &ProvenPod, node: &Node) -> Result<ProxyIdentity, Refusal> {
        let expected = names::node_id(&pod.pod_name, &pod.pod_uid);
        if *node.id != *expected {
            let text = format!("node id {:?} is not the one that the token proves, {expected:?}", node.id);
            return Err(Refusal::PermissionDenied(text));
        }
        let invalid = |error: String| Refusal::InvalidArgument(error);
        let workload =
            Identity::new(&pod.namespace, &pod.service_account).map_err(|error| invalid(error.to_string()))?;
        let workload = identity::workload_identity(self.control_plane.trust_domain(), &workload)
            .map_err(|error| invalid(format!("{error:#}")))?;
        ProxyIdentity::new(workload, &expected).map_err(|error| invalid(error.to_string()))
    }
}

/// The name a proxy has on its ADS stream as well.
fn proxy_name(proxy: &ProxyIdentity) -> ProxyName {
    let workload = proxy.workload();
    ProxyName::new(format!("{}/{}/{}", workload.namespace(), workload.service_account(), proxy.node()))
}

fn key_of(proxy: &ProxyName) -> SnapshotKey {
    SnapshotKey::new(proxy.as_str())
}

fn snapshot(secret: &SecretResource) -> Result<Snapshot, osm_xds::ResourceError> {
    let resource = Resource::from_any(TypeUrl::Secret, Arc::clone(secret.name()), secret.expose_body())?;
    let mut layer = Layer::new();
    layer.insert(Arc::new(resource), Delivery::Named);
    Ok(Snapshot::new([layer]))
}

/// Lets in whoever proves by token to be a pod.
struct TokenPolicy(Arc<Shared>);

impl Policy for TokenPolicy {
    fn authenticate<'a>(&'a self, peer: &'a Peer, node: &'a Node) -> BoxFuture<'a, Result<Admission, Refusal>> {
        Box::pin(async move {
            let decision = self.0.admit(peer, node).await;
            if let Err(refusal) = &decision {
                // The proxy is told, too; whoever runs the mesh looks here. The token is in neither text.
                tracing::warn!(address = ?peer.address, node = %node.id, reason = %refusal, "a pod gets no certificate");
            }
            decision
        })
    }

    fn observe(&self, client: &ClientIdentity, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected => self.0.held.lock().connected(&client.admission.proxy, now),
            Event::Disconnected(_) => self.0.held.lock().disconnected(&client.admission.proxy, now),
            Event::Rejected(rejection) => {
                tracing::error!(proxy = %client.admission.proxy, message = rejection.message, "a proxy refuses its certificate");
            }
            Event::Sent { .. } | Event::Acknowledged { .. } | Event::Synced { .. } | Event::Stalled { .. } => {}
        }
    }
}
