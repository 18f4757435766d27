//! The protocol of one stream as a pure state machine: requests, snapshots and time go in, responses and events come
//! out. It does no I/O and reads no clock.
//!
//! Nothing is queued: [`Stream::next_response`] computes what to say next from what the client holds and what it shall
//! hold, when the transport can take it. However slow a client is, it costs one response in memory.

mod flight;
mod gate;
mod held;
mod intake;
mod mention;
mod request;
mod response;
mod scan;
mod status;
mod sub_stream;
mod subscription;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub use self::request::{Request, RequestError, RequestNames};
pub use self::response::Response;
pub use self::status::TypeStatus;
pub use self::sub_stream::LastRejection;

use self::gate::{FOUNDATIONS, RemovalGate, is_gated, referrers};
use self::sub_stream::{Context, SubStream};
use crate::cache::{Epoch, HoldBacks, Interest, InterestChange, NameList, Published};
use crate::policy::{CloseReason, Event, Service, UnknownName, Variant};
use crate::resource::Resource;
use crate::settings::StreamSettings;
use crate::type_url::TypeUrl;

/// Answers names that no snapshot holds; see [`Policy::unknown_name`](crate::Policy::unknown_name).
pub type UnknownNames = Box<dyn Fn(&TypeUrl, &str) -> UnknownName + Send + Sync>;

/// The state of one stream.
pub struct Stream {
    variant: Variant,
    service: Service,
    settings: Arc<StreamSettings>,
    unknown_names: UnknownNames,
    opened: Instant,
    latest: Option<Arc<Published>>,
    hold_backs: Arc<HoldBacks>,
    /// Boxed, so that the unused places of the map cost little.
    types: BTreeMap<TypeUrl, Box<SubStream>>,
    nonces: u64,
    events: Vec<Event>,
    interest: Vec<InterestChange>,
    stall: Option<Stall>,
    synced: Option<Epoch>,
}

/// What waits, what it waits for, and how far that has come.
type Waiting = (TypeUrl, TypeUrl, Option<Epoch>);

/// A step of make-before-break that waits.
#[derive(Debug)]
struct Stall {
    waiting: TypeUrl,
    waits_for: TypeUrl,
    /// How far the type it waits for had come.
    position: Option<Epoch>,
    since: Instant,
    reported: bool,
}

impl Stream {
    /// A stream that has seen no request yet.
    #[must_use]
    pub fn new(
        variant: Variant,
        service: Service,
        settings: Arc<StreamSettings>,
        unknown_names: UnknownNames,
        now: Instant,
    ) -> Self {
        Self {
            variant,
            service,
            settings,
            unknown_names,
            opened: now,
            latest: None,
            hold_backs: Arc::default(),
            types: BTreeMap::new(),
            nonces: 0,
            events: Vec::new(),
            interest: Vec::new(),
            stall: None,
            synced: None,
        }
    }

    /// Takes a newer snapshot. An older one is ignored.
    pub fn on_snapshot(&mut self, published: Arc<Published>) {
        if self.latest.as_ref().is_none_or(|latest| latest.epoch < published.epoch) {
            self.latest = Some(published);
        }
    }

    /// Takes the versions that shall not be sent to this proxy.
    pub(crate) fn on_hold_backs(&mut self, hold_backs: Arc<HoldBacks>) {
        self.hold_backs = hold_backs;
    }

    /// Those of the versions held back that the latest snapshot no longer has.
    pub(crate) fn lapsed_hold_backs(&self) -> Vec<(TypeUrl, Arc<str>)> {
        let Some(latest) = &self.latest else {
            return Vec::new();
        };
        self.hold_backs
            .iter()
            .filter(|((type_url, name), version)| {
                latest.snapshot.get(type_url, name).is_none_or(|entry| entry.resource.version() != **version)
            })
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// What to send next; `None` when there is nothing to say until something happens. Call it again until then.
    pub fn next_response(&mut self, now: Instant) -> Option<Response> {
        let latest = self.latest.clone()?;
        loop {
            let before = self.positions();
            let mut waiting = None;
            if let Some(response) = self.next_in_order(&latest, now, &mut waiting) {
                return Some(response);
            }
            // Removals wait for types that come later in the order; look again when one of those has moved.
            let removals_wait = self.types.values().any(|each| each.removals_wait);
            if !removals_wait || before == self.positions() {
                self.note_waiting(waiting, now);
                self.note_synced(&latest);
                return None;
            }
        }
    }

    /// The first response that is due, by the order of types.
    fn next_in_order(
        &mut self,
        latest: &Arc<Published>,
        now: Instant,
        waiting: &mut Option<Waiting>,
    ) -> Option<Response> {
        let types: Vec<TypeUrl> = self.types.keys().cloned().collect();
        for type_url in types {
            let mut sub_stream = self.types.remove(&type_url).expect("the key was just listed");
            let outgoing = self.step(&mut sub_stream, latest, now, waiting);
            self.types.insert(type_url.clone(), sub_stream);
            if let Some(outgoing) = outgoing {
                if type_url == TypeUrl::Cluster && self.service == Service::Aggregated {
                    self.follow_with_endpoints(&outgoing.changed);
                }
                self.events.push(Event::Sent {
                    type_url,
                    resources: outgoing.response.resources,
                    removed: outgoing.response.removed,
                    bytes: outgoing.response.message_bytes(),
                });
                return Some(outgoing.response);
            }
        }
        None
    }

    /// How far each type has come.
    fn positions(&self) -> Vec<(Option<Epoch>, bool)> {
        let types = self.types.values();
        types.map(|each| (each.gate_position().map(|at| at.epoch), each.is_synced())).collect()
    }

    /// Looks at the limits of time.
    ///
    /// # Errors
    ///
    /// The client has left a response unacknowledged for too long; the stream must be closed.
    pub fn on_timer(&mut self, now: Instant) -> Result<(), CloseReason> {
        let late = self.types.values().find(|sub_stream| {
            sub_stream
                .flight
                .as_ref()
                .is_some_and(|flight| now.saturating_duration_since(flight.since) >= self.settings.acknowledge_limit)
        });
        if let Some(late) = late {
            return Err(CloseReason::NotAcknowledged(late.type_url.clone()));
        }
        if let Some(stall) = &mut self.stall {
            let waited = now.saturating_duration_since(stall.since);
            if !stall.reported && waited >= self.settings.stall_limit {
                stall.reported = true;
                self.events.push(Event::Stalled {
                    waiting: stall.waiting.clone(),
                    waits_for: stall.waits_for.clone(),
                    waited,
                });
            }
        }
        Ok(())
    }

    /// When [`Stream::on_timer`] and then [`Stream::next_response`] must be called at the latest.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let acknowledgements = self
            .types
            .values()
            .filter_map(|sub_stream| sub_stream.flight.as_ref())
            .map(|flight| flight.since + self.settings.acknowledge_limit);
        let stall =
            self.stall.iter().filter(|stall| !stall.reported).map(|stall| stall.since + self.settings.stall_limit);
        let grace = self
            .types
            .values()
            .any(|sub_stream| sub_stream.removals_wait)
            .then(|| self.opened + self.settings.reconnect_grace)
            .filter(|end| *end > now && !self.types.contains_key(&TypeUrl::Listener));
        acknowledgements.chain(stall).chain(grace).min()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// How the subscriptions changed since the last call.
    pub(crate) fn take_interest(&mut self) -> Vec<InterestChange> {
        std::mem::take(&mut self.interest)
    }

    /// What the stream subscribes to by name, as changes that end it.
    pub(crate) fn ended_interest(&self) -> Vec<InterestChange> {
        let types = self.types.values().filter(|sub_stream| !sub_stream.subscription.names().is_empty());
        types
            .map(|sub_stream| InterestChange {
                type_url: sub_stream.type_url.clone(),
                what: Interest::Names(sub_stream.subscription.names().to_vec()),
                held: false,
            })
            .collect()
    }

    /// Puts the lists of names of these types in the place of equal ones.
    pub(crate) fn share_names(&mut self, changes: &[InterestChange], share: impl Fn(&NameList) -> NameList) {
        for change in changes {
            if let (Interest::Names(_), Some(sub_stream)) = (&change.what, self.types.get_mut(&change.type_url)) {
                sub_stream.subscription.share_names(&share);
            }
        }
    }

    /// The epoch of the newest snapshot of which the client has acknowledged everything it had asked for, removals included.
    /// It never goes back: a name asked for later is on its way, but takes nothing away from what was acknowledged.
    #[must_use]
    pub const fn synced(&self) -> Option<Epoch> {
        self.synced
    }

    fn step(
        &mut self,
        sub_stream: &mut SubStream,
        latest: &Arc<Published>,
        now: Instant,
        waiting: &mut Option<Waiting>,
    ) -> Option<sub_stream::Outgoing> {
        let type_url = sub_stream.type_url.clone();
        let aggregated = self.service == Service::Aggregated;
        let target = if aggregated && is_gated(&type_url) {
            let (target, blocker) = self.gate(latest);
            if let Some(blocker) = blocker
                && !sub_stream.subscription.is_nothing()
            {
                let position = target.as_ref().map(|target| target.epoch);
                waiting.get_or_insert((type_url.clone(), blocker, position));
            }
            target
        } else {
            Some(Arc::clone(latest))
        };
        if let Some(target) = &target {
            sub_stream.advance(target, self.variant);
        }
        let removals = self.removal_gate(sub_stream, now);
        let context = Context {
            variant: self.variant,
            settings: &self.settings,
            hold_backs: &self.hold_backs,
            unknown_name: &*self.unknown_names,
            now,
        };
        let outgoing = sub_stream.next(&context, &removals, &mut self.nonces);
        if outgoing.is_none() && sub_stream.removals_wait {
            let blocker = removals
                .referrers
                .iter()
                .find(|(_, position)| position.as_ref().is_none_or(|position| position.epoch < removals.target));
            if let Some((blocker, position)) = blocker {
                waiting.get_or_insert((type_url, blocker.clone(), position.as_ref().map(|position| position.epoch)));
            }
        }
        outgoing
    }

    fn context(&self, now: Instant) -> Context<'_> {
        Context {
            variant: self.variant,
            settings: &self.settings,
            hold_backs: &self.hold_backs,
            unknown_name: &*self.unknown_names,
            now,
        }
    }

    /// Up to which snapshot the types that refer to the foundations may move, and what keeps them from the latest.
    fn gate(&self, latest: &Arc<Published>) -> (Option<Arc<Published>>, Option<TypeUrl>) {
        let mut target = Some(Arc::clone(latest));
        let mut blocker = None;
        for foundation in &FOUNDATIONS {
            let Some(sub_stream) = self.types.get(foundation) else {
                continue;
            };
            if sub_stream.subscription.is_nothing() {
                continue;
            }
            let position = sub_stream.gate_position().cloned();
            let earlier = match (&position, &target) {
                (None, _) => true,
                (Some(position), Some(target)) => position.epoch < target.epoch,
                (Some(_), None) => false,
            };
            if earlier {
                target = position;
                blocker = Some(foundation.clone());
            }
            if target.is_none() {
                break;
            }
        }
        (target, blocker)
    }

    fn removal_gate(&self, sub_stream: &SubStream, now: Instant) -> RemovalGate {
        if self.service != Service::Aggregated || sub_stream.outstanding() == 0 {
            return RemovalGate::default();
        }
        let type_url = &sub_stream.type_url;
        let positions = referrers(type_url).iter().filter_map(|referrer| {
            let other = self.types.get(referrer)?;
            if other.subscription.is_nothing() {
                return None;
            }
            // Endpoints go only when their cluster has gone.
            let whole =
                *type_url == TypeUrl::ClusterLoadAssignment && *referrer == TypeUrl::Cluster && !other.is_synced();
            let position = if whole { None } else { other.gate_position() };
            Some((referrer.clone(), position.cloned()))
        });
        RemovalGate {
            target: sub_stream.base.as_ref().map_or(Epoch(0), |base| base.epoch),
            referrers: positions.collect(),
            reconnecting: matches!(type_url, TypeUrl::Cluster | TypeUrl::ClusterLoadAssignment)
                && !self.types.contains_key(&TypeUrl::Listener)
                && now.saturating_duration_since(self.opened) < self.settings.reconnect_grace,
        }
    }

    /// A cluster that is sent starts to warm and waits for its endpoints, also for those it had.
    fn follow_with_endpoints(&mut self, clusters: &[Arc<Resource>]) {
        let position = self.types.get(&TypeUrl::Cluster).and_then(|clusters| clusters.gate_position().cloned());
        let Some(endpoints) = self.types.get_mut(&TypeUrl::ClusterLoadAssignment) else {
            return;
        };
        for name in clusters.iter().filter_map(|cluster| cluster.endpoints_name()) {
            if endpoints.subscription.contains(name) {
                endpoints.send_again(name, position.as_ref());
            }
        }
    }

    fn note_waiting(&mut self, waiting: Option<Waiting>, now: Instant) {
        let Some((waiting, waits_for, position)) = waiting else {
            self.stall = None;
            return;
        };
        let same = self.stall.as_ref().is_some_and(|stall| {
            stall.waiting == waiting && stall.waits_for == waits_for && stall.position == position
        });
        if !same {
            self.stall = Some(Stall { waiting, waits_for, position, since: now, reported: false });
        }
    }

    fn note_synced(&mut self, latest: &Arc<Published>) {
        let asked_for_all = self.service != Service::Aggregated
            || TypeUrl::KNOWN
                .iter()
                .filter(|type_url| type_url.is_wildcard_capable())
                .all(|type_url| self.types.contains_key(type_url) || !latest.snapshot.has_wildcard_entries(type_url));
        let synced = asked_for_all
            && !self.types.is_empty()
            && self.types.values().all(|sub_stream| {
                sub_stream.subscription.is_nothing()
                    || (sub_stream.is_synced()
                        && sub_stream.base.as_ref().is_some_and(|base| base.epoch == latest.epoch))
            });
        if synced && self.synced < Some(latest.epoch) {
            self.synced = Some(latest.epoch);
            self.events.push(Event::Synced { epoch: latest.epoch });
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("variant", &self.variant)
            .field("service", &self.service)
            .field("types", &self.types)
            .finish_non_exhaustive()
    }
}
