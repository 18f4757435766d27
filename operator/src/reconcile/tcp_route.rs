//! TCPRoute: which ports a grant covers. Its status says whether it makes sense and which proxies run it.

use osm_api::Kind;

use super::Reconciler;
use super::plan::{self, Plan, Situation};

/// Reconciles [`Kind::TcpRoute`].
#[derive(Debug)]
pub(super) struct TcpRoute;

impl Reconciler for TcpRoute {
    fn kind(&self) -> Kind {
        Kind::TcpRoute
    }

    fn plan(&self, situation: &Situation<'_>) -> Plan {
        plan::status(situation, |_| {})
    }
}
