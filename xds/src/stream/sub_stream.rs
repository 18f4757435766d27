//! One type on one stream: what the client holds, what it shall hold, and what is on its way.
//!
//! What the client holds is kept as a difference: it holds what its subscription covers of the snapshot `base`, except
//! for the names in `exceptions`. All work that is left to do is therefore in `exceptions`; a client that is up to date
//! has none, whatever the number of resources it holds. Moving `base` to a newer snapshot costs what the two differ by.

mod answers;
mod outgoing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::cache::{HoldBacks, Published};
use crate::layer::Delivery;
use crate::policy::{UnknownName, Variant};
use crate::resource::Resource;
use crate::settings::StreamSettings;
use crate::stream::flight::{Flight, Rejected};
use crate::stream::gate::RemovalGate;
use crate::stream::held::Held;
use crate::stream::response::Response;
use crate::stream::scan::Step;
use crate::stream::subscription::{Subscription, Wildcard};
use crate::type_url::TypeUrl;
use crate::version::Version;

/// What the client shall hold under a name.
enum Desired {
    /// Nothing.
    Absent,
    /// The snapshot's resource.
    Resource(Arc<Resource>),
    /// A resource given in place of one that does not exist.
    StandIn(Arc<Resource>),
    /// Whatever it holds, because the name does not exist and the embedder wants to keep silent.
    Silence,
    /// Whatever it holds, because the snapshot's version is held back.
    HeldBack,
}

impl Desired {
    /// What a response would say of the name, to compare with what was refused; `None` for no statement.
    fn statement(&self) -> Option<Option<Version>> {
        match self {
            Self::Absent => Some(None),
            Self::Resource(resource) | Self::StandIn(resource) => Some(Some(resource.version())),
            Self::Silence | Self::HeldBack => None,
        }
    }
}

/// What a step depends on beside the sub-stream itself.
pub(crate) struct Context<'a> {
    pub(crate) variant: Variant,
    pub(crate) settings: &'a StreamSettings,
    pub(crate) hold_backs: &'a HoldBacks,
    pub(crate) unknown_name: &'a dyn Fn(&TypeUrl, &str) -> UnknownName,
    pub(crate) now: Instant,
}

/// The last refusal, kept for dumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRejection {
    /// The client's words.
    pub message: String,
    /// gRPC status code.
    pub code: i32,
    /// The refused resources, by name.
    pub resources: BTreeMap<Arc<str>, Version>,
    /// When it arrived.
    pub at: Instant,
}

#[derive(Debug)]
pub(crate) struct SubStream {
    pub(crate) type_url: TypeUrl,
    pub(crate) subscription: Subscription,
    pub(crate) base: Option<Arc<Published>>,
    exceptions: BTreeMap<Arc<str>, Held>,
    /// The wildcard is being answered for the first time: of what it covers of `base` the client holds nothing that
    /// comes after the flight's cursor. Spares an exception for each.
    first_answer: bool,
    /// The first answer to a wildcard is sent even when there is nothing to say.
    pub(crate) answer_due: bool,
    pub(crate) flight: Option<Flight>,
    pub(crate) rejected: Option<Rejected>,
    /// The newest snapshot of which the client has acknowledged everything but removals.
    settled: Option<Arc<Published>>,
    /// Whether there are removals that wait for other types.
    pub(crate) removals_wait: bool,
    /// State of the world: the version the first request of the type claimed.
    pub(crate) claimed_set: Option<Version>,
    /// Number of the newest response.
    pub(crate) last_nonce: Option<u64>,
    /// State of the world: the nonce that the client keeps using after it unsubscribed from everything while a
    /// response was on its way, which it then ignores. `Some(None)`: it has none yet.
    pub(crate) older_nonce: Option<Option<u64>>,
    /// State of the world: the newest nonce that the client acknowledged or refused.
    pub(crate) answered_nonce: Option<u64>,
    pub(crate) last_rejection: Option<LastRejection>,
}

/// A response, and what of it is new to the client.
pub(crate) struct Outgoing {
    pub(crate) response: Response,
    pub(crate) changed: Vec<Arc<Resource>>,
}

impl SubStream {
    pub(crate) fn new(type_url: TypeUrl) -> Self {
        Self {
            type_url,
            subscription: Subscription::default(),
            base: None,
            exceptions: BTreeMap::new(),
            first_answer: false,
            answer_due: false,
            flight: None,
            rejected: None,
            settled: None,
            removals_wait: false,
            claimed_set: None,
            last_nonce: None,
            older_nonce: None,
            answered_nonce: None,
            last_rejection: None,
        }
    }

    /// Whether every response of this type is the complete state.
    pub(crate) fn is_full_state(&self, variant: Variant) -> bool {
        variant == Variant::StateOfTheWorld && self.type_url.is_wildcard_capable()
    }

    // ---- subscription ----

    /// Starts or re-states a wildcard subscription.
    pub(crate) fn subscribe_wildcard(&mut self, kind: Wildcard) {
        if !self.subscription.is_wildcard() {
            // So far the client holds only what it named.
            if let Some(base) = self.base.clone() {
                for entry in base.snapshot.iter_type(&self.type_url.clone()) {
                    let name = entry.resource.name();
                    if entry.delivery == Delivery::Wildcard && !self.subscription.contains(name) {
                        self.exceptions.entry(Arc::clone(name)).or_insert(Held::Absent);
                    }
                }
            }
            self.answer_due = true;
        }
        self.subscription.wildcard = kind;
    }

    /// Ends a wildcard subscription; what was named stays.
    pub(crate) fn unsubscribe_wildcard(&mut self) {
        self.subscription.wildcard = Wildcard::No;
        self.answer_due = false;
        self.first_answer = false;
        let subscription = &self.subscription;
        self.exceptions.retain(|name, _| subscription.contains(name));
        self.flight_retain_covered();
    }

    /// Ends the subscription to a name in the state-of-the-world form. What a wildcard does not cover either is left
    /// out of the next complete state.
    pub(crate) fn drop_name(&mut self, name: &Arc<str>) {
        let held = self.covered(name);
        self.subscription.remove(name);
        if !self.subscription.is_wildcard() {
            self.forget(name);
        } else if let Some(held) = held
            && self.covered(name).is_none()
        {
            self.exceptions.entry(Arc::clone(name)).or_insert(Held::Resource(held));
        }
    }

    /// Notes that a name must be answered.
    pub(crate) fn must_answer(&mut self, name: &Arc<str>) {
        let may_hold = self.acknowledged(name).is_some()
            || matches!(self.exceptions.get(name), Some(Held::Reasked | Held::Awaited))
            || self.flight.as_ref().is_some_and(|flight| flight.has(name));
        let held = if may_hold { Held::Reasked } else { Held::Unanswered };
        self.exceptions.insert(Arc::clone(name), held);
        self.forget_in_flight(name);
    }

    /// Notes that a name the client holds must be sent again. `position`: how far the type that refers to it has come;
    /// this one has come no further until the name is acknowledged.
    pub(crate) fn send_again(&mut self, name: &Arc<str>, position: Option<&Arc<Published>>) {
        self.forget_in_flight(name);
        self.exceptions
            .entry(Arc::clone(name))
            .and_modify(|held| {
                if !held.is_asked() {
                    *held = Held::Awaited;
                }
            })
            .or_insert(Held::Awaited);
        let is_ahead = match (&self.settled, position) {
            (Some(settled), Some(position)) => settled.epoch > position.epoch,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_ahead {
            self.settled = position.cloned();
        }
    }

    /// Notes what the client says it holds.
    pub(crate) fn claim(&mut self, name: Arc<str>, version: &str) {
        // Another server's version text equals none of ours.
        let version = Version::parse(version).unwrap_or_else(|| Version::of(version.as_bytes()));
        self.exceptions.insert(name, Held::Claimed(Box::new(version)));
    }

    /// Forgets what is known of a name that nothing covers any more.
    pub(crate) fn forget(&mut self, name: &str) {
        self.exceptions.remove(name);
        self.forget_in_flight(name);
    }

    /// Forgets claims about names that are not subscribed to.
    pub(crate) fn forget_uncovered(&mut self) {
        let subscription = &self.subscription;
        self.exceptions.retain(|name, _| subscription.contains(name));
    }

    fn forget_in_flight(&mut self, name: &str) {
        if let Some(flight) = &mut self.flight {
            flight.forget(name);
        }
        // One of what was refused together has changed.
        if self.rejected.as_ref().is_some_and(|rejected| rejected.items.contains_key(name)) {
            self.rejected = None;
        }
    }

    fn flight_retain_covered(&mut self) {
        let subscription = &self.subscription;
        if let Some(flight) = &mut self.flight {
            flight.retain(|name| subscription.contains(name));
        }
    }

    // ---- snapshots ----

    /// Notes that the client has come to `base`, if it has.
    pub(crate) fn settle_if_done(&mut self, context: &Context<'_>, removals: &RemovalGate) {
        let Some(base) = self.base.clone() else {
            return;
        };
        let is_settled = self.settled.as_ref().is_some_and(|settled| settled.epoch == base.epoch);
        if is_settled || self.answer_due || self.rejected.is_some() {
            return;
        }
        if self.scan(context, removals, None).is_done() {
            self.settled = Some(base);
        }
    }

    /// Brings `base` to a newer snapshot; what the client holds does not change by that. Not while a response is on its
    /// way, so that one batch is made from one snapshot.
    pub(crate) fn advance(&mut self, target: &Arc<Published>, variant: Variant) {
        if self.flight.is_some() {
            return;
        }
        match self.base.clone() {
            Some(base) if base.epoch >= target.epoch => {}
            Some(base) => {
                for difference in target.differences_since(&base, &self.type_url).iter() {
                    let name = &difference.name;
                    let covered = |entry: &Option<crate::layer::Entry>| {
                        entry
                            .as_ref()
                            .filter(|entry| self.subscription.covers(name, entry))
                            .map(|entry| Arc::clone(&entry.resource))
                    };
                    let (old, new) = (covered(&difference.old), covered(&difference.new));
                    let held = match self.exceptions.remove(name) {
                        Some(held) => held,
                        None => old.map_or(Held::Absent, Held::Resource),
                    };
                    if !held.is(new.as_ref()) {
                        self.exceptions.insert(Arc::clone(name), held);
                    }
                }
                self.base = Some(Arc::clone(target));
            }
            None => {
                if self.subscription.is_wildcard() && variant == Variant::Delta {
                    self.first_answer = true;
                } else if self.subscription.is_wildcard() {
                    for entry in target.snapshot.iter_type(&self.type_url) {
                        if entry.delivery == Delivery::Wildcard {
                            self.exceptions.entry(Arc::clone(entry.resource.name())).or_insert(Held::Absent);
                        }
                    }
                }
                self.base = Some(Arc::clone(target));
            }
        }
    }

    /// The snapshot's resource under a name, if the subscription covers it.
    fn covered(&self, name: &str) -> Option<Arc<Resource>> {
        self.base
            .as_ref()?
            .snapshot
            .get(&self.type_url, name)
            .filter(|entry| self.subscription.covers(name, entry))
            .map(|entry| Arc::clone(&entry.resource))
    }

    fn desired(&self, name: &Arc<str>, context: &Context<'_>) -> Desired {
        if let Some(resource) = self.covered(name) {
            let key = (self.type_url.clone(), Arc::clone(name));
            if !context.hold_backs.is_empty() && context.hold_backs.get(&key) == Some(&resource.version()) {
                return Desired::HeldBack;
            }
            return Desired::Resource(resource);
        }
        if !self.subscription.contains(name) {
            return Desired::Absent;
        }
        match (context.unknown_name)(&self.type_url, name) {
            UnknownName::Hold => Desired::Silence,
            UnknownName::Removed => Desired::Absent,
            UnknownName::Resource(resource) => Desired::StandIn(resource),
        }
    }

    fn step(&self, name: &Arc<str>, held: &Held, context: &Context<'_>, removals: &RemovalGate) -> Step {
        let desired = self.desired(name, context);
        let delta = context.variant == Variant::Delta;
        let full_state = self.is_full_state(context.variant);
        if !full_state && self.is_refused(name, &desired) {
            return match desired {
                Desired::Absent => Step::RemovalRefused,
                _ => Step::Refused,
            };
        }
        match (held, desired) {
            (Held::Unanswered | Held::Reasked | Held::Awaited, Desired::HeldBack) if delta => Step::Remove,
            (Held::Unanswered | Held::Reasked | Held::Awaited, Desired::HeldBack) => Step::NoteAbsent,
            (_, Desired::HeldBack) => Step::Keep,
            (Held::Unanswered | Held::Reasked | Held::Awaited | Held::Absent, Desired::Silence)
            | (Held::Absent, Desired::Absent) => Step::Forget,
            (Held::Resource(_) | Held::Claimed(_) | Held::Something, Desired::Silence) => Step::Keep,
            (Held::Unanswered, Desired::Absent) if delta => Step::Remove,
            (Held::Reasked | Held::Awaited, Desired::Absent) if delta || full_state => Step::Remove,
            // State of the world has no words for it.
            (Held::Unanswered | Held::Reasked | Held::Awaited, Desired::Absent) => Step::Forget,
            (
                Held::Unanswered | Held::Reasked | Held::Awaited | Held::Absent,
                Desired::Resource(new) | Desired::StandIn(new),
            ) => Step::Send(new),
            (Held::Resource(_) | Held::Claimed(_) | Held::Something, Desired::Resource(new)) => {
                if held.is(Some(&new)) {
                    Step::Forget
                } else {
                    Step::Send(new)
                }
            }
            // It takes the place of one that is gone, which routes may still name: that is a removal in other words.
            (Held::Resource(_) | Held::Claimed(_) | Held::Something, Desired::StandIn(new)) => {
                if held.is(Some(&new)) {
                    Step::Keep
                } else if removals.allows(&self.type_url, name, held) {
                    Step::Send(new)
                } else {
                    Step::Wait
                }
            }
            (Held::Resource(_) | Held::Claimed(_) | Held::Something, Desired::Absent) => {
                if !delta && !full_state {
                    Step::Forget
                } else if removals.allows(&self.type_url, name, held) {
                    Step::Remove
                } else {
                    Step::Wait
                }
            }
        }
    }

    fn is_refused(&self, name: &str, desired: &Desired) -> bool {
        let Some(rejected) = &self.rejected else {
            return false;
        };
        rejected.items.get(name).is_some_and(|refused| desired.statement() == Some(*refused))
    }

    /// After a refusal its resources wait together until one of them changes, because any of them may be the cause.
    fn reconsider_rejected(&mut self, context: &Context<'_>) {
        let Some(rejected) = &self.rejected else {
            return;
        };
        if self.is_full_state(context.variant) {
            return;
        }
        let intact = rejected.items.keys().all(|name| self.is_refused(name, &self.desired(name, context)));
        if !intact || rejected.items.is_empty() {
            self.rejected = None;
        }
    }

    /// The newest snapshot of which the client has acknowledged everything but removals; `None` while a name it
    /// subscribed to is not answered.
    pub(crate) fn gate_position(&self) -> Option<&Arc<Published>> {
        let unanswered = self.exceptions.values().any(Held::is_asked);
        if unanswered { None } else { self.settled.as_ref() }
    }

    /// Whether the client holds everything of `base`, and nothing else.
    pub(crate) fn is_synced(&self) -> bool {
        self.flight.is_none()
            && self.rejected.is_none()
            && !self.removals_wait
            && !self.answer_due
            && match (&self.settled, &self.base) {
                (Some(settled), Some(base)) => settled.epoch == base.epoch,
                (None, _) | (_, None) => false,
            }
            && !self.exceptions.values().any(Held::must_be_answered)
    }

    /// The version of a name that the client acknowledged last, or said it holds.
    pub(crate) fn acknowledged(&self, name: &str) -> Option<Version> {
        match self.exceptions.get(name) {
            Some(Held::Resource(resource)) => Some(resource.version()),
            Some(Held::Claimed(version)) => Some(**version),
            Some(Held::Absent | Held::Unanswered | Held::Reasked | Held::Awaited | Held::Something) => None,
            None if self.first_answer || self.flight.as_ref().is_some_and(|flight| flight.has(name)) => None,
            None => self.covered(name).map(|resource| resource.version()),
        }
    }

    /// How many names the client holds something else under than it shall.
    pub(crate) fn outstanding(&self) -> usize {
        self.exceptions.len()
    }
}

/// The text of a nonce.
pub(crate) fn nonce_text(nonce: u64) -> String {
    format!("{nonce:x}")
}

/// The inverse of [`nonce_text`]; `None` for text it never writes.
pub(crate) fn parse_nonce(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|nonce| nonce_text(*nonce) == text)
}
