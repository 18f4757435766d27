//! Make-before-break: which step of a change must wait for which acknowledgement.
//!
//! Listeners and routes are brought up to a snapshot only after the client has acknowledged that snapshot's clusters,
//! endpoints and secrets. A cluster is removed only after listeners and routes are acknowledged at a snapshot that no
//! longer has it. Both compare levels, not events, so that inputs that never rest starve nobody.

use std::sync::Arc;

use crate::cache::{Epoch, Published};
use crate::stream::held::Held;
use crate::type_url::TypeUrl;

/// What must be acknowledged before a type that refers to it may move.
pub(crate) const FOUNDATIONS: [TypeUrl; 4] =
    [TypeUrl::Cluster, TypeUrl::ClusterLoadAssignment, TypeUrl::Secret, TypeUrl::ExtensionConfig];

/// Whether a type refers to the foundations and so waits for them.
pub(crate) const fn is_gated(type_url: &TypeUrl) -> bool {
    matches!(
        type_url,
        TypeUrl::Listener | TypeUrl::ScopedRouteConfiguration | TypeUrl::RouteConfiguration | TypeUrl::VirtualHost
    )
}

/// The types that may refer to a type, whose acknowledgement its removals wait for. Listeners and scopes are removed
/// together with what replaces them: two listeners cannot share an address nor two scopes a key.
pub(crate) const fn referrers(type_url: &TypeUrl) -> &'static [TypeUrl] {
    match type_url {
        TypeUrl::Cluster => &[TypeUrl::Listener, TypeUrl::ScopedRouteConfiguration, TypeUrl::RouteConfiguration],
        TypeUrl::ClusterLoadAssignment => {
            &[TypeUrl::Cluster, TypeUrl::Listener, TypeUrl::ScopedRouteConfiguration, TypeUrl::RouteConfiguration]
        }
        TypeUrl::Secret | TypeUrl::ExtensionConfig => {
            &[TypeUrl::Cluster, TypeUrl::Listener, TypeUrl::RouteConfiguration]
        }
        TypeUrl::RouteConfiguration => &[TypeUrl::Listener, TypeUrl::ScopedRouteConfiguration],
        TypeUrl::Listener
        | TypeUrl::ScopedRouteConfiguration
        | TypeUrl::VirtualHost
        | TypeUrl::Runtime
        | TypeUrl::Other(_) => &[],
    }
}

/// Decides on the removals of one type at one moment.
#[derive(Debug, Default)]
pub(crate) struct RemovalGate {
    /// The snapshot in which the name is no longer delivered.
    pub(crate) target: Epoch,
    /// How far each referring type that the client subscribes to has come.
    pub(crate) referrers: Vec<(TypeUrl, Option<Arc<Published>>)>,
    /// The client just reconnected and has not said yet which listeners it holds.
    pub(crate) reconnecting: bool,
}

impl RemovalGate {
    /// Whether a name that the client holds may be removed now.
    pub(crate) fn allows(&self, type_url: &TypeUrl, name: &str, held: &Held) -> bool {
        if self.reconnecting && matches!(held, Held::Claimed(_)) {
            return false;
        }
        self.blocker(type_url, name).is_none()
    }

    /// The first referring type that may still need the name.
    pub(crate) fn blocker(&self, type_url: &TypeUrl, name: &str) -> Option<&TypeUrl> {
        self.referrers
            .iter()
            .find(|(_, position)| {
                position.as_ref().is_none_or(|at| at.epoch < self.target && at.snapshot.get(type_url, name).is_some())
            })
            .map(|(referrer, _)| referrer)
    }
}
