//! Synthetic sidecars: delta ADS streams by mutual TLS to a real control plane, which subscribe as Envoy does and acknowledge
//! everything. They are company for a real Envoy that is measured; what they are sent is counted, not judged.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::route::v3::ScopedRouteConfiguration;
use osm_xds::TypeUrl;
use prost::Message;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::stream::AdsStream;
use super::wire::{RequestFrame, WireResponse};

/// Flow-control window of a stream and of a connection: a whole first answer fits.
const WINDOW: u32 = 4 << 20;

/// One synthetic sidecar before it connects.
#[derive(Debug, Clone)]
pub struct Sidecar {
    /// Its node id, which is the one in its certificate.
    pub node: String,
    /// Shows its certificate and verifies the control plane.
    pub tls: Arc<ClientConfig>,
}

/// Connected sidecars. They disconnect when this is dropped.
#[derive(Debug)]
pub struct Sidecars {
    streams: JoinSet<anyhow::Result<()>>,
    received: Arc<AtomicU64>,
}

impl Sidecars {
    /// Connects to the control plane at `address`, which must have a certificate for `name`; returns when all streams are open.
    ///
    /// # Errors
    /// A connection or a stream is refused.
    pub async fn connect(address: SocketAddr, name: &str, sidecars: Vec<Sidecar>) -> anyhow::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).with_context(|| format!("server name {name:?}"))?;
        let (mut streams, received) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for sidecar in sidecars {
            let subscriptions = Subscriptions::default();
            let node = sidecar.node.clone();
            let opened = open(address, name.clone(), sidecar, &mut streams).await;
            let stream = opened.with_context(|| format!("synthetic sidecar {node}"))?;
            streams.spawn(follow(stream, subscriptions, Arc::clone(&received)));
        }
        Ok(Self { streams, received })
    }

    /// Responses received by all of them so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether all are still connected.
    ///
    /// # Errors
    /// Why one is not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.streams.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended?.and_then(|()| anyhow::bail!("it ended without a reason")).context("a synthetic sidecar")
            }
        }
    }
}

async fn open(
    address: SocketAddr,
    name: ServerName<'static>,
    sidecar: Sidecar,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<AdsStream> {
    let socket = tokio::net::TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    socket.set_nodelay(true)?;
    let socket = TlsConnector::from(sidecar.tls).connect(name, socket).await.context("TLS handshake")?;
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .enable_push(false)
        .handshake(socket)
        .await
        .context("HTTP/2 handshake")?;
    tasks.spawn(async move { connection.await.context("the connection") });
    AdsStream::open(requests, first_requests(&sidecar.node)).await
}

/// All clusters, listeners and scopes; what they name is asked for when it is known.
fn first_requests(node: &str) -> Vec<Bytes> {
    let wildcard = |type_url: &TypeUrl| RequestFrame::new(type_url.as_str());
    vec![
        wildcard(&TypeUrl::Cluster).node(node).finish(),
        wildcard(&TypeUrl::Listener).finish(),
        wildcard(&TypeUrl::ScopedRouteConfiguration).finish(),
    ]
}

async fn follow(
    mut stream: AdsStream,
    mut subscriptions: Subscriptions,
    received: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    loop {
        let message = stream.message().await?;
        for request in subscriptions.answer(&message)? {
            stream.send(request)?;
        }
        received.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a sidecar has asked for by name.
#[derive(Debug, Default)]
struct Subscriptions {
    endpoints: BTreeSet<String>,
    route_tables: BTreeSet<String>,
}

impl Subscriptions {
    /// The acknowledgement of a response, and requests for names that are new in it.
    fn answer(&mut self, message: &[u8]) -> anyhow::Result<Vec<Bytes>> {
        let response = WireResponse::decode(message)
            .map_err(|malformed| anyhow::anyhow!("a response that is no message: {}", malformed.0))?;
        let mut requests = vec![RequestFrame::new(response.type_url).answering(response.nonce).finish()];
        let (wanted, type_url) = match TypeUrl::parse(response.type_url) {
            TypeUrl::Cluster => {
                (new_names(&response, &mut self.endpoints, endpoints_of)?, TypeUrl::ClusterLoadAssignment)
            }
            TypeUrl::ScopedRouteConfiguration => {
                (new_names(&response, &mut self.route_tables, route_table_of)?, TypeUrl::RouteConfiguration)
            }
            _ => return Ok(requests),
        };
        if !wanted.is_empty() {
            let frame = RequestFrame::new(type_url.as_str());
            requests.push(wanted.iter().fold(frame, |frame, name| frame.subscribe(name)).finish());
        }
        Ok(requests)
    }
}

fn new_names(
    response: &WireResponse<'_>,
    known: &mut BTreeSet<String>,
    named_by: impl Fn(&[u8]) -> Result<Option<String>, prost::DecodeError>,
) -> anyhow::Result<Vec<String>> {
    let mut new = Vec::new();
    for resource in &response.resources {
        let name = named_by(resource.body).with_context(|| format!("decode {}", resource.name))?;
        new.extend(name.filter(|name| known.insert(name.clone())));
    }
    Ok(new)
}

fn endpoints_of(body: &[u8]) -> Result<Option<String>, prost::DecodeError> {
    let cluster = Cluster::decode(body)?;
    Ok(cluster.eds_cluster_config.map(|eds| match eds.service_name.is_empty() {
        true => cluster.name,
        false => eds.service_name,
    }))
}

fn route_table_of(body: &[u8]) -> Result<Option<String>, prost::DecodeError> {
    let name = ScopedRouteConfiguration::decode(body)?.route_configuration_name;
    Ok(Some(name).filter(|name| !name.is_empty()))
}
