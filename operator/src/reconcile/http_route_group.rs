//! HTTPRouteGroup: which requests a grant covers. Its status says whether it makes sense and which proxies run it.

use osm_api::Kind;

use super::Reconciler;
use super::plan::{self, Plan, Situation};

/// Reconciles [`Kind::HttpRouteGroup`].
#[derive(Debug)]
pub(super) struct HttpRouteGroup;

impl Reconciler for HttpRouteGroup {
    fn kind(&self) -> Kind {
        Kind::HttpRouteGroup
    }

    fn plan(&self, situation: &Situation<'_>) -> Plan {
        plan::status(situation, |_| {})
    }
}
