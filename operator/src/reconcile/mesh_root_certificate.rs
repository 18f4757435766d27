//! MeshRootCertificate: a root of trust. Its status says whether it makes sense and which proxies trust it; what OSM wrote there
//! (`state`, `transitionAfter`, conditions of its own) stays.

use osm_api::Kind;

use super::Reconciler;
use super::plan::{self, Plan, Situation};

/// Reconciles [`Kind::MeshRootCertificate`].
#[derive(Debug)]
pub(super) struct MeshRootCertificate;

impl Reconciler for MeshRootCertificate {
    fn kind(&self) -> Kind {
        Kind::MeshRootCertificate
    }

    fn plan(&self, situation: &Situation<'_>) -> Plan {
        plan::status(situation, |_| {})
    }
}
