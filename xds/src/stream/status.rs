//! What a dump says of a stream.

use std::time::{Duration, Instant};

use super::{LastRejection, Stream};
use crate::cache::Epoch;
use crate::type_url::TypeUrl;
use crate::version::Version;

impl Stream {
    /// The state of each type, in send order.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<TypeStatus> {
        let types = self.types.values();
        types
            .map(|sub_stream| TypeStatus {
                type_url: sub_stream.type_url.clone(),
                wildcard: sub_stream.subscription.is_wildcard(),
                names: sub_stream.subscription.names().len(),
                epoch: sub_stream.gate_position().map(|published| published.epoch),
                version: sub_stream
                    .gate_position()
                    .map(|published| published.snapshot.type_version(&sub_stream.type_url)),
                outstanding: sub_stream.outstanding(),
                unacknowledged_for: sub_stream
                    .flight
                    .as_ref()
                    .map(|flight| now.saturating_duration_since(flight.since)),
                last_rejection: sub_stream.last_rejection.clone(),
                stalled_for: self
                    .stall
                    .as_ref()
                    .filter(|stall| stall.reported && stall.waiting == sub_stream.type_url)
                    .map(|stall| now.saturating_duration_since(stall.since)),
            })
            .collect()
    }

    /// The version of a resource that the client acknowledged last; `None` when it holds none or does not subscribe.
    #[must_use]
    pub fn acknowledged(&self, type_url: &TypeUrl, name: &str) -> Option<Version> {
        self.types.get(type_url)?.acknowledged(name)
    }

    /// The epoch of the newest publication of which the client has acknowledged everything of a type but removals.
    #[must_use]
    pub fn acknowledged_epoch(&self, type_url: &TypeUrl) -> Option<Epoch> {
        self.types.get(type_url)?.gate_position().map(|published| published.epoch)
    }

    /// Whether the client subscribes to anything of a type.
    #[must_use]
    pub fn subscribes_to(&self, type_url: &TypeUrl) -> bool {
        self.types.get(type_url).is_some_and(|sub_stream| !sub_stream.subscription.is_nothing())
    }
}

/// The state of one type on a stream, for dumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeStatus {
    /// The type.
    pub type_url: TypeUrl,
    /// Whether everything is subscribed to.
    pub wildcard: bool,
    /// How many names are subscribed to.
    pub names: usize,
    /// The epoch of the newest snapshot of which the client has acknowledged everything but removals.
    pub epoch: Option<Epoch>,
    /// The content version of the type in that snapshot.
    pub version: Option<Version>,
    /// Under how many names the client does not hold what it shall.
    pub outstanding: usize,
    /// How long the oldest unanswered response has been on its way.
    pub unacknowledged_for: Option<Duration>,
    /// The last refusal, also when it was cured since.
    pub last_rejection: Option<LastRejection>,
    /// How long an update of the type has waited for another type's acknowledgement, once that is over the limit.
    pub stalled_for: Option<Duration>,
}
