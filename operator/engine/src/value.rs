//! What inputs, nodes and index entries hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use osm_api::Object;
use osm_mesh::{
    Grant, MeshConfigFacts, NamespaceFacts, PodFacts, RouteGroupFacts, ServiceFacts, SliceFacts, SplitFacts,
    TargetFacts, TcpRouteFacts,
};
use osm_model::{
    Endpoint, Identity, InboundView, MeshService, MeshSettings, ObjectId, Origin, Reachable, ServiceId, TrafficRouting,
};
use osm_translate::Resource;

use crate::Options;

/// How an entry of a layer reaches a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// Sent ahead of use, to every proxy of the layer.
    Ahead,
    /// Sent when a proxy asks for it by name.
    OnDemand,
}

/// One resource in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// The resource, shared by all layers that hold it.
    pub resource: Arc<Resource>,
    /// How it reaches proxies.
    pub delivery: Delivery,
    /// Why it is in this layer beyond what the resource itself says: the grants.
    pub because: Arc<[Origin]>,
}

/// The value of an input or a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Input: options.
    Options(Arc<Options>),
    /// Input: an object. Compared by identity first, so handing in the same `Arc` again costs nothing.
    Object(Object),
    /// Input: objects held back.
    HeldBack(Arc<BTreeSet<ObjectId>>),
    /// The node exists and says no more.
    Present,
    /// Facts of a Namespace of the mesh.
    Namespace(NamespaceFacts),
    /// Facts of a Pod.
    Pod(Arc<PodFacts>),
    /// Facts of a Service.
    ServiceFacts(Arc<ServiceFacts>),
    /// Facts of an EndpointSlice.
    Slice(Arc<SliceFacts>),
    /// Facts of the MeshConfig.
    MeshConfig(Arc<MeshConfigFacts>),
    /// Facts of a TrafficTarget.
    Target(Arc<TargetFacts>),
    /// Facts of an HTTPRouteGroup.
    RouteGroup(Arc<RouteGroupFacts>),
    /// Facts of a TCPRoute.
    TcpRoute(Arc<TcpRouteFacts>),
    /// Facts of a TrafficSplit.
    Split(Arc<SplitFacts>),
    /// Mesh-wide settings.
    Settings(Arc<MeshSettings>),
    /// A Service of the mesh.
    Service(Arc<MeshService>),
    /// Its endpoints.
    Endpoints(Arc<BTreeMap<u16, Arc<[Endpoint]>>>),
    /// The identities behind it.
    Identities(Arc<BTreeSet<Identity>>),
    /// Routing by Service port; ports not listed are direct.
    Routing(Arc<BTreeMap<u16, TrafficRouting>>),
    /// Addresses and port numbers by Service port.
    Sockets(Arc<BTreeMap<u16, BTreeSet<(IpAddr, u16)>>>),
    /// Yes or no.
    Flag(bool),
    /// What a workload reaches.
    Reach(Arc<BTreeMap<ServiceId, ReachedService>>),
    /// What a workload serves.
    Inbound(Arc<InboundView>),
    /// Finished resources.
    Resources(Arc<[Arc<Resource>]>),
    /// Clusters of a destination.
    Clusters(Arc<DestinationClusters>),
}

/// Kubernetes objects hold no floating-point numbers that the API server would store as other than equal to themselves.
impl Eq for Value {}

/// What a workload reaches of one Service (see [`Value::Reach`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedService {
    /// Which identities behind it.
    pub reachable: Reachable,
    /// Whether it is called by its own address.
    pub usage: Use,
    /// The TrafficTargets.
    pub because: Arc<[Origin]>,
}

/// What a workload needs a reached Service for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It may be called by its address: a granted Service, or the apex of a split that leads to one.
    Addressed,
    /// A split that the workload may use names it.
    BackendOnly,
}

/// Clusters of one destination, shared by all layers (see [`osm_translate::ClusterResources`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationClusters {
    /// One per ClusterIP, named by address and port: what the shared route table chooses by header.
    pub by_address: Vec<Arc<Resource>>,
    /// The one with OSM's name: what splits and TCP listeners name.
    pub by_name: Arc<Resource>,
    /// Headless services: connects to the pod that the client chose.
    pub by_original_destination: Option<Arc<Resource>>,
}

impl From<osm_translate::ClusterResources> for DestinationClusters {
    fn from(clusters: osm_translate::ClusterResources) -> Self {
        Self {
            by_address: clusters.by_address.into_iter().map(Arc::new).collect(),
            by_name: Arc::new(clusters.by_name),
            by_original_destination: clusters.by_original_destination.map(Arc::new),
        }
    }
}

/// The value of an entry within an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemValue {
    /// The entry says no more than that it exists.
    Present,
    /// A slice.
    Slice(Arc<SliceFacts>),
    /// A pod's identity.
    Identity(Identity),
    /// A split.
    Split(Arc<SplitFacts>),
    /// A Service and its port.
    Claim(ServiceId, u16),
    /// A grant.
    Grant(Arc<Grant>),
    /// Pods' port numbers by Service port number.
    Ports(BTreeMap<u16, BTreeSet<u16>>),
    /// A resource of a layer.
    Entry(LayerEntry),
}
