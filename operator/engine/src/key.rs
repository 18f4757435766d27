//! The keys of the mesh computation: every input, every derived node, every index, and the stage it is computed at.
//!
//! Read top to bottom, this is the path of the data. A node reads only what stands above it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use osm_api::ObjectRef;
use osm_incremental::Role;
use osm_model::{Finding, Identity, NamespaceName, ObjectId, Reachable, ServiceId};
use osm_translate::ResourceKind;

/// Which proxies a layer of resources is for. A proxy's snapshot is the mesh layer below its workload's layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerKey {
    /// Every proxy of the mesh: destinations open to all (permissive namespaces), and services outside the mesh.
    Mesh,
    /// The proxies of one workload identity: what it serves and what it was granted.
    Workload(Identity),
}

/// Everything the computation knows by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Input: the options of this mesh.
    Options,
    /// Input: a Kubernetes object.
    Object(ObjectRef),
    /// Input: objects that are held back from what a workload serves, because its proxies refuse what they cause.
    HeldBack(Identity),

    /// One object, read on its own.
    Facts(ObjectRef),

    /// Index: EndpointSlices of a Service.
    SlicesOf(ServiceId),
    /// Index: pod identities by address.
    PodsByAddress,
    /// Index: ranges that ClusterIPs were seen in.
    ClusterIpRanges,
    /// Index: TrafficSplits of an apex Service, oldest first.
    SplitsOf(ServiceId),
    /// What a TrafficTarget grants, with its route groups looked up.
    Grant(ObjectRef),
    /// A workload identity exists.
    Workload(Identity),

    /// Mesh-wide settings.
    Settings,
    /// A Service of a meshed namespace.
    Service(ServiceId),
    /// Endpoints of a meshed Service, by port.
    Endpoints(ServiceId),
    /// Index: grants by destination identity.
    GrantsTo(Identity),
    /// Index: grants by source identity.
    GrantsFrom(Identity),
    /// Index, output: the workload identities of the mesh.
    Workloads,

    /// The addresses on which a headless Service answers, claimed for it.
    HeadlessSockets(ServiceId),
    /// Index: which Service answers on an address and port. A ClusterIP's owner comes before a headless Service, whose
    /// addresses are whatever its slices say; then the smaller name.
    Sockets,
    /// Whether a namespace is open to every workload.
    Permissive(NamespaceName),
    /// Which identities are behind a Service.
    IdentitiesOf(ServiceId),
    /// How traffic to a Service is routed.
    Routing(ServiceId),
    /// Index: Services of an identity.
    ServicesOf(Identity),
    /// Index: port numbers of meshed HTTP services.
    HttpPorts,

    /// Of the addresses on which a Service answers, those that no other Service has.
    OwnSockets(ServiceId),
    /// What a TrafficTarget names exists.
    GrantReferences(ObjectRef),
    /// The Service that a TrafficSplit divides exists.
    SplitReferences(ObjectRef),

    /// A Service of a permissive namespace, open to every workload.
    Exposure(ServiceId),
    /// Index: apex Services whose split names a backend Service.
    ApexesOf(ServiceId),

    /// Index: Services open to every workload.
    PermissiveServices,
    /// What a workload may reach by grants.
    Reach(Identity),
    /// What a workload serves.
    Inbound(Identity),

    /// Clusters of one port of a Service, for clients that may reach part of it.
    Clusters(ServiceId, u16, Reachable),
    /// Endpoint resource of the same.
    EndpointResource(ServiceId, u16, Reachable),
    /// Exact-address listener of the same.
    ExactListener(ServiceId, u16, Reachable),
    /// Scopes of one port of a Service.
    Scopes(ServiceId, u16),
    /// Route table of one port of a Service that has rules.
    RouteTable(ServiceId, u16),
    /// The listener of all HTTP services on one port number.
    HttpListener(u16),
    /// What every proxy's outbound side stands on.
    OutboundResources,
    /// Clusters of the collectors and authorizers that every proxy talks to.
    TelemetryResources,
    /// Whether any Service is open to every workload.
    AnyPermissive,
    /// Listeners, routes and clusters of what a workload serves.
    InboundResources(Identity),

    /// Puts one Service's resources into a layer.
    Deliver(LayerKey, ServiceId, Reachable),
    /// Puts a Service outside the mesh within reach of outbound HTTP listeners.
    Outside(ObjectRef),
    /// Puts a workload's own resources into its layer.
    DeliverWorkload(Identity),

    /// Index, output: resources of a layer.
    Layer(LayerKey),
    /// Index, output: findings about an object.
    Findings(ObjectId),
}

impl Key {
    /// What the key is, and its place in the order of computation.
    pub(crate) fn role(&self) -> Role {
        let derived = |stage| Role::Derived { stage };
        let index = |stage| Role::Index { stage };
        match self {
            Self::Options | Self::Object(_) | Self::HeldBack(_) => Role::Input,
            Self::Facts(_) => derived(1),
            Self::SlicesOf(_) | Self::PodsByAddress | Self::ClusterIpRanges | Self::SplitsOf(_) => index(2),
            Self::Grant(_) | Self::Workload(_) => derived(2),
            Self::Settings | Self::Service(_) | Self::Endpoints(_) => derived(3),
            Self::GrantsTo(_) | Self::GrantsFrom(_) | Self::Workloads => index(3),
            Self::Permissive(_)
            | Self::IdentitiesOf(_)
            | Self::Routing(_)
            | Self::HeadlessSockets(_)
            | Self::GrantReferences(_)
            | Self::SplitReferences(_) => derived(4),
            Self::ServicesOf(_) | Self::HttpPorts => index(4),
            Self::Exposure(_) => derived(5),
            Self::ApexesOf(_) | Self::Sockets => index(5),
            Self::PermissiveServices => index(6),
            Self::Reach(_) | Self::Inbound(_) | Self::OwnSockets(_) => derived(6),
            Self::Clusters(..)
            | Self::EndpointResource(..)
            | Self::ExactListener(..)
            | Self::Scopes(..)
            | Self::RouteTable(..)
            | Self::HttpListener(_)
            | Self::OutboundResources
            | Self::TelemetryResources
            | Self::AnyPermissive
            | Self::InboundResources(_) => derived(7),
            Self::Deliver(..) | Self::Outside(_) | Self::DeliverWorkload(_) => derived(8),
            Self::Layer(_) | Self::Findings(_) => index(9),
        }
    }
}

/// The key of an entry within an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// An object by name within what the index is about.
    Name(Arc<str>),
    /// An address.
    Address(IpAddr),
    /// A range of addresses.
    Range(IpNet),
    /// A port number.
    Port(u16),
    /// An address and a port number.
    Socket(IpAddr, u16),
    /// A Service.
    Service(ServiceId),
    /// An identity.
    Identity(Identity),
    /// An object.
    Object(ObjectId),
    /// An object by age (seconds since the epoch; objects without a time come first) and name.
    Aged(i64, Arc<str>),
    /// A resource of a layer.
    Resource(ResourceKind, Arc<str>),
    /// A finding.
    Finding(Box<Finding>),
}
