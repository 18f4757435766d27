//! What is known of everyone who verifies or shows a certificate of the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

use super::root::RootName;

/// Somebody whom a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Participant {
    /// A connected proxy, by the name that status uses: `namespace/serviceaccount/node`.
    Proxy(Arc<str>),
    /// A replica of the control plane: its server certificate, and the roots it verifies proxies against.
    ControlPlane(Arc<str>),
    /// The files against which proxies verify the control plane.
    TrustBundles,
    /// The API server as a client of the webhooks (`caBundle`).
    Webhooks,
    /// The ingress gateway (MeshConfig `spec.certificate.ingressGateway`).
    IngressGateway,
}

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(name) => write!(f, "proxy {name}"),
            Self::ControlPlane(name) => write!(f, "control plane {name}"),
            Self::TrustBundles => f.write_str("the trust bundles that proxies verify the control plane against"),
            Self::Webhooks => f.write_str("the caBundle of the webhooks"),
            Self::IngressGateway => f.write_str("the ingress gateway"),
        }
    }
}

/// What a participant holds, on the safe side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holding {
    /// It has not said yet. Holds every step.
    Unknown,
    /// What is known.
    Known {
        /// Roots that it trusts whichever of what is on its way has arrived.
        trusts: BTreeSet<RootName>,
        /// Roots that it may trust.
        may_trust: BTreeSet<RootName>,
        /// Roots whose certificates it may show to its peers.
        may_show: BTreeSet<RootName>,
        /// Roots of the certificates with which it reaches the control plane.
        connected_with: BTreeSet<RootName>,
    },
}

impl Holding {
    /// Trusts exactly these, and shows certificates of exactly those.
    pub fn settled(trusts: BTreeSet<RootName>, shows: BTreeSet<RootName>) -> Self {
        Self::Known { may_trust: trusts.clone(), trusts, may_show: shows, connected_with: BTreeSet::new() }
    }

    pub(super) fn surely_trusts(&self, root: &RootName) -> bool {
        matches!(self, Self::Known { trusts, .. } if trusts.contains(root))
    }

    pub(super) fn may_use(&self, root: &RootName) -> bool {
        match self {
            Self::Unknown => true,
            Self::Known { may_show, connected_with, .. } => may_show.contains(root) || connected_with.contains(root),
        }
    }

    /// Whether it is known that it may trust the root. Who is unknown does not count: reports would flicker with each
    /// proxy that connects.
    pub(super) fn is_known_to_trust(&self, root: &RootName) -> bool {
        matches!(self, Self::Known { may_trust, .. } if may_trust.contains(root))
    }

    /// Whether it is known that it may show a certificate of the root.
    pub(super) fn is_known_to_show(&self, root: &RootName) -> bool {
        matches!(self, Self::Known { may_show, .. } if may_show.contains(root))
    }
}

/// Participants that were connected a moment ago and are expected back, as after a restart of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// How many.
    pub count: usize,
    /// A few of them by name; none after a restart.
    pub names: Vec<Arc<str>>,
    /// Until when they are waited for.
    pub until: OffsetDateTime,
}

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Everyone. Very many may hold the same.
    pub holdings: BTreeMap<Participant, Arc<Holding>>,
    /// Who is expected back.
    pub absent: Option<Absent>,
    /// The latest end of validity of a leaf in use, by the root that signed it. A leaf that was replaced is not in use.
    pub leaves: BTreeMap<RootName, OffsetDateTime>,
}
