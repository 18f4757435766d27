//! Who may open an xDS stream, and what becomes known of it.

use std::sync::Arc;

use futures::future::BoxFuture;
use osm_issuer::PeerIdentity;
use osm_model::Identity;
use osm_xds::{Admission, ClientIdentity, Event, Node, Peer, Policy, ProxyName, Refusal, TypeUrl, UnknownName};
use tokio::sync::mpsc;

use crate::driver::KnownPods;
use crate::publish::{snapshot_key, type_url};

/// A stream's event, for the driver.
#[derive(Debug)]
pub struct ProxyEvent {
    /// Whose.
    pub client: ClientIdentity,
    /// What.
    pub event: Event,
}

/// The hooks of the xDS server: a proxy is who its certificate says, and nothing that it says itself changes that.
#[derive(Debug)]
pub struct ProxyPolicy {
    trust_domains: Vec<osm_issuer::TrustDomain>,
    pods: KnownPods,
    events: mpsc::UnboundedSender<ProxyEvent>,
}

impl ProxyPolicy {
    /// Accepts certificates of `trust_domains`, but not of pods that `pods` does not know, and tells `events` what happens.
    ///
    /// The channel is unbounded because hooks must not block; its content is bounded by what clients may have
    /// unacknowledged, which the server limits.
    pub fn new(
        trust_domains: Vec<osm_issuer::TrustDomain>,
        pods: KnownPods,
        events: mpsc::UnboundedSender<ProxyEvent>,
    ) -> Self {
        Self { trust_domains, pods, events }
    }
}

impl Policy for ProxyPolicy {
    fn authenticate<'a>(&'a self, peer: &'a Peer, node: &'a Node) -> BoxFuture<'a, Result<Admission, Refusal>> {
        let decision = admit(&self.trust_domains, &self.pods, peer, node);
        if let Err(refusal) = &decision {
            // The proxy is told, too; whoever runs the mesh looks here.
            tracing::warn!(address = ?peer.address, node = %node.id, reason = %refusal, "a proxy is refused");
        }
        Box::pin(std::future::ready(decision))
    }

    fn unknown_name(&self, _: &Admission, type_url: &TypeUrl, name: &str) -> UnknownName {
        match type_url {
            // Envoy asks for a cluster once. Whatever it is answered must let requests fail or pass at once, and must be
            // replaced when the cluster appears.
            TypeUrl::Cluster => unreachable(name),
            // Certificates come as soon as they are issued; endpoints and routes as soon as they exist.
            TypeUrl::Secret => UnknownName::Hold,
            _ => UnknownName::Removed,
        }
    }

    fn observe(&self, client: &ClientIdentity, event: Event) {
        // The driver is gone only when the process ends.
        let _ = self.events.send(ProxyEvent { client: client.clone(), event });
    }
}

/// Binds what a client says of itself to what its certificate proves.
fn admit(
    trust_domains: &[osm_issuer::TrustDomain],
    pods: &KnownPods,
    peer: &Peer,
    node: &Node,
) -> Result<Admission, Refusal> {
    let Some(leaf) = peer.certificates.first() else {
        let text = "a client certificate is required; use the bootstrap that `osm-operator bootstrap` writes";
        return Err(Refusal::Unauthenticated(text.to_owned()));
    };
    let proxy = match PeerIdentity::from_certificate(leaf, trust_domains) {
        Ok(PeerIdentity::Proxy(proxy)) => proxy,
        Ok(other) => {
            let text = format!("the certificate names {}, which is not a proxy", other.uri());
            return Err(Refusal::PermissionDenied(text));
        }
        Err(error) => return Err(Refusal::Unauthenticated(format!("the client certificate names no proxy: {error}"))),
    };
    if *node.id != *proxy.node() {
        let text = format!("node id {:?} is not the one in the certificate, {:?}", node.id, proxy.node());
        return Err(Refusal::PermissionDenied(text));
    }
    let workload = proxy.workload();
    if !pods.may_be(workload.namespace(), &node.id) {
        let text = format!("there is no pod {:?} in namespace {:?}, or not yet", node.id, workload.namespace());
        return Err(Refusal::PermissionDenied(text));
    }
    let identity = Identity::new(workload.namespace(), workload.service_account())
        .map_err(|error| Refusal::InvalidArgument(error.to_string()))?;
    let proxy = ProxyName::new(format!("{identity}/{}", node.id));
    Ok(Admission { key: snapshot_key(&identity), proxy })
}

/// A cluster without endpoints under the name that was asked for.
fn unreachable(name: &str) -> UnknownName {
    let cluster = osm_translate::unreachable_cluster(name);
    match osm_xds::Resource::from_any(type_url(cluster.kind), Arc::clone(&cluster.name), &cluster.body) {
        Ok(resource) => UnknownName::Resource(Arc::new(resource)),
        Err(_) => UnknownName::Removed,
    }
}
