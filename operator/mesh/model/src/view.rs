//! What proxies are told, in the pieces that can be shared between them.
//!
//! Client-side resources depend on the destination and on *which identities behind it the client may reach*, never on the
//! client itself, so one translation serves every client with equal rights ([`Destination`]). Server-side resources belong
//! to one identity ([`InboundView`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::{Endpoint, Identity, InboundPolicy, MeshPort, MeshService, Protocol, ServiceId, TrafficRouting};

/// The part of a service's identities that a client may reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reachable {
    /// Every identity behind the service: the common case, shared by most clients.
    All,
    /// Only these: endpoints of others are left out. Never empty.
    Only(BTreeSet<Identity>),
    /// None. Such a destination exists only because a traffic split that the client may use names it; it answers 503.
    Nothing,
}

impl Reachable {
    /// The variant for a client that may reach `allowed` of the identities `behind` a service.
    pub fn of(allowed: &BTreeSet<Identity>, behind: &BTreeSet<Identity>) -> Self {
        let both: BTreeSet<Identity> = allowed.intersection(behind).cloned().collect();
        if both.is_empty() {
            Self::Nothing
        } else if both.len() == behind.len() {
            Self::All
        } else {
            Self::Only(both)
        }
    }

    /// The identities of `behind` that are reachable.
    pub fn identities(&self, behind: &BTreeSet<Identity>) -> BTreeSet<Identity> {
        match self {
            Self::All => behind.clone(),
            Self::Only(some) => some.intersection(behind).cloned().collect(),
            Self::Nothing => BTreeSet::new(),
        }
    }

    /// Whether `endpoint` may be used. Endpoints without an identity (outside the mesh) never are.
    pub fn admits(&self, endpoint: &Endpoint) -> bool {
        match (self, &endpoint.identity) {
            (Self::Nothing, _) | (_, None) => false,
            (Self::All, Some(_)) => true,
            (Self::Only(some), Some(identity)) => some.contains(identity),
        }
    }
}

/// One service port as all clients with equal rights see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Destination {
    /// The service, with all its ports.
    pub service: Arc<MeshService>,
    /// The port of `service` meant here.
    pub port: MeshPort,
    /// Which identities are reachable: names the variant.
    pub reachable: Reachable,
    /// The identities whose certificates the client accepts (already narrowed by `reachable`). May be empty when the
    /// service has no pods: then no server is accepted; it never means "any".
    pub identities: BTreeSet<Identity>,
}

/// How traffic that arrived at a service port is routed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DestinationRoutes {
    /// The service.
    pub service: Arc<MeshService>,
    /// The port.
    pub port: MeshPort,
    /// Splits, or none.
    pub routing: TrafficRouting,
}

/// One port of a workload as its own sidecar serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct InboundPort {
    /// The port on the pod.
    pub target_port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Service ports that lead here, ordered, with their Service port numbers. The first one names the port's resources in
    /// Envoy. Which name a client asks for by SNI is not checked: what counts is the port and who the client is.
    pub services: BTreeSet<(ServiceId, u16)>,
    /// What is accepted.
    pub policy: InboundPolicy,
}

/// Everything the sidecars of one identity serve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct InboundView {
    /// Whose sidecars.
    pub identity: Identity,
    /// Ports ordered by number.
    pub ports: Vec<InboundPort>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(names: &[&str]) -> BTreeSet<Identity> {
        names.iter().map(|name| Identity::new("shop", name).unwrap()).collect()
    }

    #[test]
    fn rights_are_narrowed_to_the_identities_behind_the_service() {
        let behind = identities(&["v1", "v2"]);
        assert_eq!(Reachable::of(&identities(&["v1", "v2", "other"]), &behind), Reachable::All);
        assert_eq!(Reachable::of(&identities(&["v1", "other"]), &behind), Reachable::Only(identities(&["v1"])));
        assert_eq!(Reachable::of(&identities(&["other"]), &behind), Reachable::Nothing);
        assert_eq!(Reachable::of(&identities(&[]), &identities(&[])), Reachable::Nothing);
    }
}
