//! TrafficSplit: how requests are shared among backends. Its status says whether it makes sense and which proxies run it.

use osm_api::Kind;

use super::Reconciler;
use super::plan::{self, Plan, Situation};

/// Reconciles [`Kind::TrafficSplit`].
#[derive(Debug)]
pub(super) struct TrafficSplit;

impl Reconciler for TrafficSplit {
    fn kind(&self) -> Kind {
        Kind::TrafficSplit
    }

    fn plan(&self, situation: &Situation<'_>) -> Plan {
        plan::status(situation, |_| {})
    }
}
