//! A small delta ADS server: it sends what it holds, sends clusters marked on demand only when they are named, and
//! remembers what was acknowledged and refused.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as WireResource,
};
use envoy_types::pb::google::protobuf::Any;
use futures::{Stream, StreamExt as _};
use osm_translate::{Resource, ResourceKind, SecretResource};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// In the order in which a change is sent.
const TYPES: [&str; 6] = [
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
];

/// What one proxy is given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Served {
    by_type: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    on_demand: BTreeSet<String>,
}

impl Served {
    pub(crate) fn with(mut self, resources: impl IntoIterator<Item = Resource>) -> Self {
        for resource in resources {
            let kind = TYPES.into_iter().find(|kind| *kind == resource.kind.type_url()).expect("a type sent");
            let replaced =
                self.by_type.entry(kind).or_default().insert(resource.name.to_string(), resource.body.to_vec());
            assert!(replaced.is_none_or(|body| body == resource.body), "two different {resource:?}");
        }
        self
    }

    /// Clusters that are sent only to who names them.
    pub(crate) fn with_on_demand(mut self, clusters: impl IntoIterator<Item = Resource>) -> Self {
        for cluster in clusters {
            assert_eq!(cluster.kind, ResourceKind::Cluster);
            self.on_demand.insert(cluster.name.to_string());
            self = self.with([cluster]);
        }
        self
    }

    pub(crate) fn with_secrets(mut self, secrets: impl IntoIterator<Item = SecretResource>) -> Self {
        for secret in secrets {
            let kind = self.by_type.entry(TYPES[2]).or_default();
            kind.insert(secret.name().to_string(), secret.expose_body().to_vec());
        }
        self
    }

    fn of(&self, kind: &str) -> BTreeMap<String, Vec<u8>> {
        self.by_type.get(kind).cloned().unwrap_or_default()
    }
}

/// What has come of the responses of one stream.
#[derive(Debug, Clone, Default)]
struct Progress {
    sent: u64,
    answered: u64,
    refusals: Vec<String>,
    missing: BTreeSet<String>,
}

/// The server, until dropped.
#[derive(Debug)]
pub(crate) struct Ads {
    pub(crate) port: u16,
    served: watch::Sender<Served>,
    progress: Arc<watch::Sender<Progress>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Ads {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Ads {
    pub(crate) async fn start(served: Served) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (served, receiver) = watch::channel(served);
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        let service = AggregatedDiscoveryServiceServer::new(Service { served: receiver, progress: progress.clone() });
        let incoming = TcpListenerStream::new(listener);
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { port, served, progress, server }
    }

    /// Replaces what is served and waits until all of it was answered.
    pub(crate) async fn change(&self, served: Served) {
        let before = self.progress.borrow().sent;
        self.served.send_replace(served);
        let mut progress = self.progress.subscribe();
        progress.wait_for(|now| now.sent > before && now.answered == now.sent).await.unwrap();
    }

    /// Names that were asked for and are not there: what is served refers to them.
    pub(crate) fn missing(&self) -> BTreeSet<String> {
        self.progress.borrow().missing.clone()
    }

    /// Envoy's words about what it refused.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.progress.borrow().refusals.clone()
    }
}

#[derive(Debug)]
struct Service {
    served: watch::Receiver<Served>,
    progress: Arc<watch::Sender<Progress>>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut requests = request.into_inner();
        let mut served = self.served.clone();
        let (responses, receiver) = mpsc::channel(64);
        let mut connection =
            Connection { subscriptions: BTreeMap::new(), responses, progress: self.progress.clone(), nonce: 0 };
        tokio::spawn(async move {
            loop {
                let open = tokio::select! {
                    request = requests.next() => match request {
                        Some(Ok(request)) => {
                            let served = served.borrow().clone();
                            connection.on_request(request, &served).await
                        }
                        _ => return,
                    },
                    Ok(()) = served.changed() => {
                        let served = served.borrow_and_update().clone();
                        connection.on_change(&served).await
                    }
                };
                if open.is_none() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// What a stream knows of one type.
#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    sent: BTreeMap<String, Vec<u8>>,
}

struct Connection {
    subscriptions: BTreeMap<String, Subscription>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    progress: Arc<watch::Sender<Progress>>,
    nonce: u64,
}

impl Connection {
    async fn on_request(&mut self, request: DeltaDiscoveryRequest, served: &Served) -> Option<()> {
        if !request.response_nonce.is_empty() {
            self.progress.send_modify(|progress| {
                progress.answered += 1;
                progress.refusals.extend(request.error_detail.map(|detail| detail.message));
            });
        }
        let kind = request.type_url;
        let first = !self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind.clone()).or_default();
        let names = request.resource_names_subscribe;
        subscription.wildcard |= (first && names.is_empty()) || names.iter().any(|name| name == "*");
        let named: BTreeSet<String> = names.into_iter().filter(|name| name != "*").collect();
        for name in request.resource_names_unsubscribe {
            subscription.names.remove(&name);
            subscription.sent.remove(&name);
        }
        subscription.names.extend(named.iter().cloned());
        self.send(&kind, served, &named, first).await
    }

    async fn on_change(&mut self, served: &Served) -> Option<()> {
        for kind in TYPES {
            self.send(kind, served, &BTreeSet::new(), false).await?;
        }
        Some(())
    }

    /// Sends what of `kind` is new or different, and all of `asked` whether or not it is known. The `first` request of a
    /// type is answered even if there is nothing: Envoy waits for that.
    async fn send(&mut self, kind: &str, served: &Served, asked: &BTreeSet<String>, first: bool) -> Option<()> {
        let Some(subscription) = self.subscriptions.get_mut(kind) else { return Some(()) };
        let held = served.of(kind);
        let ahead = |name: &String| kind != TYPES[0] || !served.on_demand.contains(name);
        let wanted = |name: &String| subscription.names.contains(name) || (subscription.wildcard && ahead(name));
        let changed: BTreeMap<String, Vec<u8>> = held
            .iter()
            .filter(|(name, body)| {
                asked.contains(*name) || (wanted(name) && subscription.sent.get(*name) != Some(body))
            })
            .map(|(name, body)| (name.clone(), body.clone()))
            .collect();
        let gone = |name: &&String| !held.contains_key(*name);
        let removed: BTreeSet<String> = subscription.sent.keys().chain(asked).filter(gone).cloned().collect();
        if changed.is_empty() && removed.is_empty() && !first {
            return Some(());
        }
        subscription.sent.extend(changed.clone());
        subscription.sent.retain(|name, _| !removed.contains(name));
        self.nonce += 1;
        let response = DeltaDiscoveryResponse {
            type_url: kind.to_owned(),
            resources: changed.iter().map(|(name, body)| wire(kind, name, body)).collect(),
            removed_resources: removed.into_iter().collect(),
            nonce: self.nonce.to_string(),
            ..Default::default()
        };
        self.progress.send_modify(|progress| {
            progress.sent += 1;
            progress.missing.extend(asked.iter().filter(gone).cloned());
        });
        self.responses.send(Ok(response)).await.ok()?;
        self.resend_endpoints(kind, &changed, served).await
    }

    /// A cluster that was sent is followed by its endpoints even if Envoy has them already: it waits for them.
    async fn resend_endpoints(&mut self, kind: &str, sent: &BTreeMap<String, Vec<u8>>, served: &Served) -> Option<()> {
        if kind != TYPES[0] {
            return Some(());
        }
        let names = sent.values().map(|body| Cluster::decode(body.as_slice()).expect("a cluster"));
        let names = names.filter_map(|cluster| cluster.eds_cluster_config).map(|eds| eds.service_name);
        let Some(endpoints) = self.subscriptions.get(TYPES[1]) else { return Some(()) };
        let known: BTreeSet<String> = names.filter(|name| endpoints.names.contains(name)).collect();
        if known.is_empty() {
            return Some(());
        }
        Box::pin(self.send(TYPES[1], served, &known, false)).await
    }
}

fn wire(kind: &str, name: &str, body: &[u8]) -> WireResource {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    WireResource {
        name: name.to_owned(),
        version: hasher.finish().to_string(),
        resource: Some(Any { type_url: kind.to_owned(), value: body.to_vec() }),
        ..Default::default()
    }
}
