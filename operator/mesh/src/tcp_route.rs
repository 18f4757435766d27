//! TCPRoutes: port numbers.

use std::collections::BTreeSet;

use osm_api::{TcpRoute, TcpRouteReason};
use osm_model::Origin;

use crate::parsed::{Parsed, Report};

/// Ports a TCPRoute speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpPorts {
    /// All: the route names none.
    Any,
    /// These. Empty if every port named is bad.
    Only(BTreeSet<u16>),
}

impl TcpPorts {
    /// Whether `port` is among them.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

/// A TCPRoute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpRouteFacts {
    /// The route, for attribution.
    pub origin: Origin,
    /// The pods' ports it speaks of.
    pub ports: TcpPorts,
}

/// Reads a TCPRoute. A bad port costs only itself.
pub fn tcp_route(object: &TcpRoute) -> Parsed<TcpRouteFacts> {
    let mut report = Report::of(object);
    let written = &object.spec.matches;
    let (good, complaints) = written.ports();
    for complaint in complaints {
        report.complain(TcpRouteReason::InvalidPort, complaint);
    }
    let ports = match written.ports.is_empty() {
        true => TcpPorts::Any,
        false => TcpPorts::Only(good.into_iter().map(osm_api::Port::get).collect()),
    };
    let origin = report.origin("spec");
    report.finish(Some(TcpRouteFacts { origin, ports }))
}
