//! TrafficTarget: who may call whom. Its status says whether it makes sense and which proxies run it.

use osm_api::Kind;

use super::Reconciler;
use super::plan::{self, Plan, Situation};

/// Reconciles [`Kind::TrafficTarget`].
#[derive(Debug)]
pub(super) struct TrafficTarget;

impl Reconciler for TrafficTarget {
    fn kind(&self) -> Kind {
        Kind::TrafficTarget
    }

    fn plan(&self, situation: &Situation<'_>) -> Plan {
        plan::status(situation, |_| {})
    }
}
