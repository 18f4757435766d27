//! The project's own xDS server with the synthetic mesh, steered like its peers.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use osm_xds::{
    Admission, Cache, Delivery, Layer, Node, Peer, Policy, ProxyName, Refusal, Resource, Server, Settings, Snapshot,
    SnapshotKey, TypeUrl,
};

use crate::control::{Command, ResourceKind, Steered, serve_commands};
use crate::world::{self, Revision};

/// Lets every node in and serves it the one snapshot.
struct ServeEveryone;

/// The snapshot's key.
const KEY: &str = "every-proxy";

impl Policy for ServeEveryone {
    fn authenticate<'a>(&'a self, _: &'a Peer, node: &'a Node) -> BoxFuture<'a, Result<Admission, Refusal>> {
        let admission = Admission { key: SnapshotKey::new(KEY), proxy: ProxyName::new(node.id.clone()) };
        std::future::ready(Ok(admission)).boxed()
    }
}

/// The revision of each service's resource, and the layer made of them.
struct Publisher {
    cache: Cache,
    layer: Layer,
    clusters: Vec<Revision>,
    endpoints: Vec<Revision>,
}

fn build(kind: ResourceKind, index: usize, revision: Revision) -> Result<Arc<Resource>, String> {
    let index = u32::try_from(index).map_err(|error| format!("service {index}: {error}"))?;
    let name = world::service_name(index);
    let resource = match kind {
        ResourceKind::Cluster => Resource::new(name, &world::cluster(index, revision)),
        ResourceKind::Endpoints => Resource::new(name, &world::endpoints(index, revision)),
    };
    resource.map(Arc::new).map_err(|error| error.to_string())
}

impl Publisher {
    fn new(cache: Cache) -> Self {
        Self { cache, layer: Layer::new(), clusters: Vec::new(), endpoints: Vec::new() }
    }

    /// Puts every resource of services from `first` on into `layer`.
    fn add_services(&self, layer: &mut Layer, first: usize) -> Result<(), String> {
        for (index, (cluster, endpoints)) in self.clusters.iter().zip(&self.endpoints).enumerate().skip(first) {
            layer.insert(build(ResourceKind::Cluster, index, *cluster)?, Delivery::Wildcard);
            layer.insert(build(ResourceKind::Endpoints, index, *endpoints)?, Delivery::Wildcard);
        }
        Ok(())
    }

    fn resize(&mut self, count: usize) -> Result<(), String> {
        let before = self.clusters.len();
        self.clusters.resize(count, 0);
        self.endpoints.resize(count, 0);
        let mut layer = self.layer.clone();
        self.add_services(&mut layer, before)?;
        for index in count..before {
            let index = u32::try_from(index).map_err(|error| format!("service {index}: {error}"))?;
            let name = world::service_name(index);
            layer.remove(&TypeUrl::Cluster, &name);
            layer.remove(&TypeUrl::ClusterLoadAssignment, &name);
        }
        self.publish(layer);
        self.cache.set_ready();
        Ok(())
    }

    fn change(&mut self, kind: ResourceKind, services: std::ops::Range<usize>, to: Revision) -> Result<(), String> {
        let revisions = match kind {
            ResourceKind::Cluster => &mut self.clusters,
            ResourceKind::Endpoints => &mut self.endpoints,
        };
        let loaded = revisions.len();
        revisions
            .get_mut(services.clone())
            .ok_or_else(|| format!("services {services:?} do not exist: only {loaded} are loaded"))?
            .fill(to);
        let mut layer = self.layer.clone();
        for index in services {
            layer.insert(build(kind, index, to)?, Delivery::Wildcard);
        }
        self.publish(layer);
        Ok(())
    }

    fn publish(&mut self, layer: Layer) {
        self.layer = layer.clone();
        self.cache.publish([(SnapshotKey::new(KEY), Some(Arc::new(Snapshot::new([layer]))))]);
    }
}

impl Steered for Publisher {
    fn carry_out(&mut self, command: &Command) -> Result<Option<serde_json::Value>, String> {
        match command {
            Command::Services(count) => self.resize(*count as usize)?,
            Command::Change { kind, first, count, revision } => {
                self.change(*kind, *first as usize..(first + count) as usize, *revision)?;
            }
            Command::Rebuild => {
                // From nothing, so that no structure is shared with what is published.
                let mut layer = Layer::new();
                self.add_services(&mut layer, 0)?;
                self.publish(layer);
            }
            Command::Counters => return Ok(Some(serde_json::json!({ "encodes": osm_xds::encodes() }))),
        }
        Ok(None)
    }
}

/// Runs the server until standard input ends.
///
/// # Errors
/// When it cannot listen, or standard input or output fails.
pub fn run(runtime: &tokio::runtime::Runtime, address: SocketAddr) -> anyhow::Result<()> {
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
    let address = listener.local_addr()?;
    let cache = Cache::new();
    let server = Server::new(cache.clone(), Arc::new(ServeEveryone), Settings::default());
    runtime.spawn(async move { server.serve_plaintext(listener).await });
    serve_commands(address, &mut Publisher::new(cache))?;
    Ok(())
}
