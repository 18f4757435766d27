//! One type on one stream: what the client holds, what it shall hold, and what is on its way.
//!
//! What the client holds is kept as a difference: it holds what its subscription covers of the snapshot `base`, except
//! for the names in `exceptions`. All work that is left to do is therefore in `exceptions`; a client that is up to date
//! has none, whatever the number of resources it holds. Moving `base` to a newer snapshot costs what the two differ by.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use crate::cache::{HoldBacks, Published};
use crate::layer::Delivery;
use crate::policy::{UnknownName, Variant};
use crate::resource::Resource;
use crate::settings::StreamSettings;
use crate::snapshot::Snapshot;
use crate::stream::flight::{Flight, Item, Part, Rejected};
use crate::stream::gate::RemovalGate;
use crate::stream::response::{Content, Draft, Response};
use crate::stream::subscription::Subscription;
use crate::type_url::TypeUrl;
use crate::version::{SetDigest, Version};

/// What the client holds under a name, where that differs from what `base` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Whatever it is, the name must be answered: it was just subscribed to.
    Unanswered,
    /// The same, and the client may still hold what it was sent before.
    Reasked,
    /// Something that it waits to be sent again, because what refers to it was sent again.
    Awaited,
    /// Nothing.
    Absent,
    /// This resource.
    Resource(Arc<Resource>),
    /// A resource of this version, as the client said when it connected.
    Claimed(Box<Version>),
    /// A resource of whatever version: what it held before it refused another.
    Something,
}

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

/// What is to be done about an exception.
enum Step {
    /// Nothing, and it is none any more.
    Forget,
    /// Nothing, and the client is known to hold nothing under the name.
    NoteAbsent,
    /// Nothing for now, and nothing is owed.
    Keep,
    /// A removal that must wait for other types.
    Wait,
    /// The client refused exactly this.
    Refused,
    /// The client refused exactly this, which is to hold nothing under the name.
    RemovalRefused,
    Send(Arc<Resource>),
    Remove,
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
    pub(crate) fn subscribe_wildcard(&mut self, kind: crate::stream::subscription::Wildcard) {
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
        self.subscription.wildcard = crate::stream::subscription::Wildcard::No;
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
            (Held::Resource(_) | Held::Claimed(_) | Held::Something, Desired::StandIn(new)) => {
                if held.is(Some(&new)) {
                    Step::Keep
                } else {
                    Step::Send(new)
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

    // ---- responses ----

    /// The next response of this type, if there is something to say and the client is due to hear it.
    pub(crate) fn next(&mut self, context: &Context<'_>, removals: &RemovalGate, nonces: &mut u64) -> Option<Outgoing> {
        let base = self.base.clone()?;
        if self.flight.as_ref().is_some_and(|flight| !flight.sending) {
            return None;
        }
        if self.flight.is_none() {
            self.reconsider_rejected(context);
            self.removals_wait = false;
        }
        let scan = match self.scan_isolated(context, removals) {
            Some(scan) => scan,
            None => self.scan(context, removals, None),
        };
        self.removals_wait |= scan.removal_waits;
        let full_state = self.is_full_state(context.variant);
        if scan.items.is_empty() && !self.answer_due {
            if let Some(flight) = &mut self.flight {
                flight.sending = false;
                // All parts may have been answered before it was known that there are no more.
                return if self.land() { self.next(context, removals, nonces) } else { None };
            }
            if !scan.refused {
                self.settle(base);
            }
            return None;
        }

        let (content, version) = if full_state {
            self.full_state(&base.snapshot, context, &scan)
        } else {
            let resources = scan.items.iter().filter_map(|item| item.resource.clone());
            (Content::Resources(resources.collect()), base.snapshot.type_version(&self.type_url))
        };
        if full_state {
            if self.is_claimed(version) {
                self.take_claim(&scan.items);
                self.settle(base);
                return None;
            }
            if self.rejected.as_ref().is_some_and(|rejected| rejected.set == Some(version)) && !scan.unanswered {
                if scan.items.iter().all(|item| item.resource.is_none()) {
                    // Nothing that others build on.
                    self.removals_wait = true;
                    self.settled = Some(base);
                }
                return None;
            }
            self.rejected = None;
        }
        self.answer_due = false;
        self.claimed_set = None;
        Some(self.send(context, nonces, scan, &content, version))
    }

    fn send(
        &mut self,
        context: &Context<'_>,
        nonces: &mut u64,
        scan: Scan,
        content: &Content,
        version: Version,
    ) -> Outgoing {
        *nonces += 1;
        let nonce = *nonces;
        let removed: Vec<Arc<str>> = match context.variant {
            Variant::StateOfTheWorld => Vec::new(),
            Variant::Delta => {
                scan.items.iter().filter(|item| item.resource.is_none()).map(|item| Arc::clone(&item.name)).collect()
            }
        };
        let response = Draft {
            variant: context.variant,
            type_url: &self.type_url,
            version,
            nonce: nonce_text(nonce),
            content,
            removed: &removed,
        }
        .encode();
        let changed = scan.items.iter().filter_map(|item| item.resource.clone()).collect();
        let flight = self.flight.get_or_insert_with(|| Flight::new(context.now));
        flight.sending = context.variant == Variant::Delta && scan.more;
        flight.cursor = scan.items.last().map(|item| Arc::clone(&item.name));
        flight.parts.push(Part { nonce, items: scan.items, set: version });
        self.last_nonce = Some(nonce);
        self.older_nonce = None;
        Outgoing { response, changed }
    }

    /// The next of the refused resources that are sent once more on their own.
    fn scan_isolated(&mut self, context: &Context<'_>, removals: &RemovalGate) -> Option<Scan> {
        if self.flight.is_some() {
            return None;
        }
        loop {
            let rejected = self.rejected.as_mut()?;
            let name = rejected.isolate.pop_front()?;
            rejected.items.remove(&name);
            let scan = self.scan(context, removals, Some(&name));
            if !scan.items.is_empty() {
                return Some(scan);
            }
        }
    }

    /// Goes through the exceptions and gathers what the next response says. With `only`, that name alone.
    fn scan(&mut self, context: &Context<'_>, removals: &RemovalGate, only: Option<&Arc<str>>) -> Scan {
        let mut scan = Scan::new(match context.variant {
            _ if self.is_full_state(context.variant) => usize::MAX,
            Variant::Delta => context.settings.delta_part_bytes,
            Variant::StateOfTheWorld => context.settings.state_of_the_world_part_bytes,
        });
        let cursor = self.flight.as_ref().and_then(|flight| flight.cursor.clone());
        let start = match (only, cursor.clone()) {
            (Some(name), _) => Bound::Included(Arc::clone(name)),
            (None, Some(name)) => Bound::Excluded(name),
            (None, None) => Bound::Unbounded,
        };
        let first_answers = self
            .base
            .as_ref()
            .filter(|_| self.first_answer && only.is_none())
            .map(|base| base.snapshot.iter_type_after(&self.type_url, cursor.as_deref()))
            .into_iter()
            .flatten()
            .filter(|entry| entry.delivery == Delivery::Wildcard)
            .map(|entry| (entry.resource.name(), &Held::Absent, true));
        let exceptions = self
            .exceptions
            .range((start, Bound::Unbounded))
            .take_while(|(name, _)| only.is_none_or(|only| only == *name))
            .map(|(name, held)| (name, held, false));
        for (name, held, is_first) in merge(exceptions, first_answers) {
            let step = self.step(name, held, context, removals);
            if is_first && !matches!(step, Step::Send(_)) {
                scan.absent.push(Arc::clone(name));
            }
            if !scan.take(name, held, step) {
                break;
            }
        }
        if only.is_none() && !scan.more {
            self.first_answer = false;
        }
        for name in scan.forget.drain(..) {
            self.exceptions.remove(&name);
        }
        for name in scan.absent.drain(..) {
            self.exceptions.insert(name, Held::Absent);
        }
        scan
    }

    /// The complete state after the items of a scan, and its version.
    fn full_state(&self, snapshot: &Snapshot, context: &Context<'_>, scan: &Scan) -> (Content, Version) {
        let nothing_stays_behind = self.exceptions.len() == scan.items.len();
        if nothing_stays_behind && self.subscription.is_wildcard() && self.subscription.names().is_empty() {
            return (Content::Complete(snapshot.complete_state(&self.type_url)), snapshot.type_version(&self.type_url));
        }
        let mut state: BTreeMap<Arc<str>, Arc<Resource>> = BTreeMap::new();
        if self.subscription.is_wildcard() {
            for entry in snapshot.iter_type(&self.type_url) {
                if entry.delivery == Delivery::Wildcard {
                    state.insert(Arc::clone(entry.resource.name()), Arc::clone(&entry.resource));
                }
            }
        }
        for name in self.subscription.names() {
            if let Desired::Resource(resource) | Desired::StandIn(resource) = self.desired(name, context) {
                state.insert(Arc::clone(name), resource);
            }
        }
        // What is not brought up to date by this response stays as it is.
        for (name, held) in &self.exceptions {
            match held {
                Held::Resource(resource) => state.insert(Arc::clone(name), Arc::clone(resource)),
                Held::Absent | Held::Unanswered | Held::Reasked | Held::Awaited => state.remove(name),
                Held::Claimed(_) | Held::Something => None,
            };
        }
        for item in &scan.items {
            match &item.resource {
                Some(resource) => state.insert(Arc::clone(&item.name), Arc::clone(resource)),
                None => state.remove(&item.name),
            };
        }
        let mut digest = SetDigest::default();
        for resource in state.values() {
            digest.add(resource.name(), resource.version());
        }
        (Content::Resources(state.into_values().collect()), digest.version())
    }

    /// Whether the client, when it connected, claimed to hold exactly this complete state.
    fn is_claimed(&self, version: Version) -> bool {
        self.subscription.is_wildcard() && self.subscription.names().is_empty() && self.claimed_set == Some(version)
    }

    fn take_claim(&mut self, items: &[Item]) {
        self.answer_due = false;
        self.claimed_set = None;
        for item in items {
            self.note_held(item.clone());
        }
    }

    /// Nothing is owed but removals.
    fn settle(&mut self, base: Arc<Published>) {
        if self.rejected.as_ref().is_some_and(|rejected| rejected.set.is_some()) {
            // The state that was refused is not wanted any more.
            self.rejected = None;
        }
        self.settled = Some(base);
    }

    // ---- answers ----

    /// Takes the acknowledgement of a response; `None` if it is not on its way, else whether that was the last.
    pub(crate) fn acknowledge(&mut self, nonce: u64) -> Option<bool> {
        let part = self.flight.as_mut()?.take(nonce)?;
        for item in part.items {
            self.note_held(item);
        }
        Some(self.land())
    }

    /// Takes the refusal of a response.
    pub(crate) fn reject(&mut self, nonce: u64, full_state: bool, isolate: impl FnOnce(&Part) -> bool) -> Option<Part> {
        let part = self.flight.as_mut()?.take(nonce)?;
        let isolate = !full_state && part.items.len() > 1 && isolate(&part);
        let rejected = self.rejected.get_or_insert_with(Rejected::default);
        for item in &part.items {
            // Refused, but answered. A name without an exception is part of a first answer: it held nothing.
            let held = self.exceptions.entry(Arc::clone(&item.name)).or_insert(Held::Absent);
            if item.resource.is_none() && held.must_be_answered() {
                // It held nothing and knows now that there is nothing, whatever it refused.
                *held = Held::Absent;
                continue;
            }
            match held {
                Held::Unanswered => *held = Held::Absent,
                Held::Reasked | Held::Awaited => *held = Held::Something,
                Held::Absent | Held::Resource(_) | Held::Claimed(_) | Held::Something => {}
            }
            let version = item.resource.as_ref().map(|resource| resource.version());
            rejected.items.insert(Arc::clone(&item.name), version);
            if isolate {
                rejected.isolate.push_back(Arc::clone(&item.name));
            }
        }
        rejected.set = full_state.then_some(part.set);
        self.land();
        Some(part)
    }

    /// Ends the flight when nothing of it is left; whether that is so.
    fn land(&mut self) -> bool {
        let landed = self.flight.as_ref().is_some_and(|flight| !flight.sending && flight.parts.is_empty());
        if landed {
            self.flight = None;
        }
        landed
    }

    /// Notes what the client now holds under a name.
    fn note_held(&mut self, item: Item) {
        let default = self.covered(&item.name);
        let held = item.resource.map_or(Held::Absent, Held::Resource);
        if held.is(default.as_ref()) {
            self.exceptions.remove(&item.name);
        } else {
            self.exceptions.insert(item.name, held);
        }
    }

    // ---- what others ask ----

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

impl Held {
    /// Whether the client subscribed to the name and waits for an answer.
    const fn is_asked(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Reasked)
    }

    /// Whether the name must be sent whatever the client holds.
    const fn must_be_answered(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Reasked | Self::Awaited)
    }

    /// Whether the client holds exactly this, for sure.
    fn is(&self, resource: Option<&Arc<Resource>>) -> bool {
        match (self, resource) {
            (Self::Unanswered | Self::Reasked | Self::Awaited, _) => false,
            (Self::Absent, None) => true,
            (Self::Resource(held), Some(resource)) => held.version() == resource.version(),
            (Self::Claimed(held), Some(resource)) => **held == resource.version(),
            (Self::Absent, Some(_)) | (Self::Resource(_) | Self::Claimed(_), None) | (Self::Something, _) => false,
        }
    }
}

/// What going through the exceptions found.
#[derive(Default)]
struct Scan {
    items: Vec<Item>,
    /// There is more than fits in one response.
    more: bool,
    removal_waits: bool,
    refused: bool,
    /// An item answers a new subscription.
    unanswered: bool,
    /// Exceptions that are none any more.
    forget: Vec<Arc<str>>,
    /// Names under which the client is known to hold nothing.
    absent: Vec<Arc<str>>,
    bytes: usize,
    budget: usize,
}

impl Scan {
    fn new(budget: usize) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Nothing is owed but removals.
    const fn is_done(&self) -> bool {
        self.items.is_empty() && !self.refused
    }

    /// Takes up what is to be done under a name; `false` when the response is full, and the name is for the next.
    fn take(&mut self, name: &Arc<str>, held: &Held, step: Step) -> bool {
        let resource = match step {
            Step::Forget => {
                self.forget.push(Arc::clone(name));
                return true;
            }
            Step::NoteAbsent => {
                self.absent.push(Arc::clone(name));
                return true;
            }
            Step::Keep => return true,
            // Nothing that others build on.
            Step::Wait | Step::RemovalRefused => {
                self.removal_waits = true;
                return true;
            }
            Step::Refused => {
                self.refused = true;
                return true;
            }
            Step::Send(resource) => Some(resource),
            Step::Remove => None,
        };
        let size = resource.as_ref().map_or(name.len(), |resource| resource.delta_frame().len());
        if self.bytes > 0 && self.bytes.saturating_add(size) > self.budget {
            self.more = true;
            return false;
        }
        self.bytes += size;
        self.unanswered |= held.must_be_answered();
        self.items.push(Item { name: Arc::clone(name), resource });
        true
    }
}

/// A name, what is held under it, and whether that is known only from its being part of a first answer.
type Candidate<'a> = (&'a Arc<str>, &'a Held, bool);

/// Merges two lists sorted by name; a name in both counts as in the first.
fn merge<'a>(
    exceptions: impl Iterator<Item = Candidate<'a>>,
    first_answers: impl Iterator<Item = Candidate<'a>>,
) -> impl Iterator<Item = Candidate<'a>> {
    let (mut exceptions, mut first_answers) = (exceptions.peekable(), first_answers.peekable());
    std::iter::from_fn(move || {
        let exception = exceptions.peek().map(|candidate| candidate.0);
        let Some(exception) = exception else {
            return first_answers.next();
        };
        if let Some(first) = first_answers.next_if(|candidate| candidate.0 < exception) {
            return Some(first);
        }
        first_answers.next_if(|candidate| candidate.0 == exception);
        exceptions.next()
    })
}

/// The text of a nonce.
pub(crate) fn nonce_text(nonce: u64) -> String {
    format!("{nonce:x}")
}

/// The inverse of [`nonce_text`]; `None` for text it never writes.
pub(crate) fn parse_nonce(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|nonce| nonce_text(*nonce) == text)
}
