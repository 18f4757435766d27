//! The protocol of one stream as a pure state machine: requests, snapshots and time go in, responses and events come
//! out. It does no I/O and reads no clock.
//!
//! Nothing is queued: [`Stream::next_response`] computes what to say next from what the client holds and what it shall
//! hold, when the transport can take it. However slow a client is, it costs one response in memory.

mod flight;
mod gate;
mod request;
mod response;
mod sub_stream;
mod subscription;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::request::{Request, RequestError, RequestNames};
pub use self::response::Response;
pub use self::sub_stream::LastRejection;

use self::gate::{FOUNDATIONS, RemovalGate, is_gated, referrers};
use self::sub_stream::{Context, SubStream, parse_nonce};
use self::subscription::{WILDCARD, Wildcard};
use crate::cache::{Epoch, HoldBacks, Interest, InterestChange, NameList, Published};
use crate::policy::{CloseReason, Event, Rejection, Service, UnknownName, Variant};
use crate::resource::Resource;
use crate::settings::{Isolation, StreamSettings};
use crate::type_url::TypeUrl;
use crate::version::Version;

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
    announced: Option<Epoch>,
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
            announced: None,
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

    /// Takes a request.
    ///
    /// # Errors
    ///
    /// The request breaks the protocol or a limit; the stream must be closed.
    pub fn on_request(&mut self, request: Request, now: Instant) -> Result<(), CloseReason> {
        let type_url = self.type_of(&request)?;
        self.check_limits(&request.names)?;
        let first = !self.types.contains_key(&type_url);
        if first && self.types.len() >= self.settings.types_limit {
            return Err(CloseReason::Protocol(format!("more than {} types on one stream", self.settings.types_limit)));
        }
        let mut sub_stream = self.types.remove(&type_url).unwrap_or_else(|| Box::new(SubStream::new(type_url.clone())));
        match request.names {
            RequestNames::StateOfTheWorld { names, version } => {
                if self.answer_state_of_the_world(&mut sub_stream, &request.nonce, request.error, &names, now) {
                    self.set_names(&mut sub_stream, &names, first, &version);
                }
            }
            RequestNames::Delta { subscribe, unsubscribe, initial_versions } => {
                if let Some(nonce) = parse_nonce(&request.nonce) {
                    self.answer(&mut sub_stream, nonce, request.error, now);
                }
                self.unsubscribe(&mut sub_stream, &unsubscribe);
                self.subscribe(&mut sub_stream, &subscribe, first, &initial_versions);
            }
        }
        let names = sub_stream.subscription.names().len();
        self.types.insert(type_url, sub_stream);
        if names > self.settings.names_limit {
            return Err(CloseReason::Protocol(format!(
                "more than {} names subscribed to for one type",
                self.settings.names_limit
            )));
        }
        Ok(())
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

    /// The epoch of the snapshot of which the client has acknowledged everything, removals included, if it is the
    /// latest this stream was given.
    #[must_use]
    pub const fn synced(&self) -> Option<Epoch> {
        self.synced
    }

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

    /// Whether the client subscribes to anything of a type.
    #[must_use]
    pub fn subscribes_to(&self, type_url: &TypeUrl) -> bool {
        self.types.get(type_url).is_some_and(|sub_stream| !sub_stream.subscription.is_nothing())
    }

    // ---- requests ----

    fn type_of(&self, request: &Request) -> Result<TypeUrl, CloseReason> {
        match &self.service {
            Service::Aggregated if request.type_url.is_empty() => {
                Err(CloseReason::Protocol("a request on an aggregated stream has no type_url".to_owned()))
            }
            Service::Aggregated => Ok(TypeUrl::parse(&request.type_url)),
            Service::Single(type_url) if request.type_url.is_empty() || request.type_url == type_url.as_str() => {
                Ok(type_url.clone())
            }
            Service::Single(type_url) => Err(CloseReason::Protocol(format!(
                "type_url {:?} does not belong to the service of {type_url}",
                request.type_url
            ))),
        }
    }

    fn check_limits(&self, names: &RequestNames) -> Result<(), CloseReason> {
        let lists: [&[String]; 2] = match names {
            RequestNames::StateOfTheWorld { names, .. } => [names, &[]],
            RequestNames::Delta { subscribe, unsubscribe, initial_versions } => {
                if initial_versions.len() > self.settings.names_limit {
                    return Err(self.too_many_names());
                }
                [subscribe, unsubscribe]
            }
        };
        if lists.iter().map(|list| list.len()).sum::<usize>() > self.settings.names_limit {
            return Err(self.too_many_names());
        }
        let longest = self.settings.name_bytes_limit;
        if lists.into_iter().flatten().any(|name| name.len() > longest) {
            return Err(CloseReason::Protocol(format!("a name is longer than {longest} bytes")));
        }
        Ok(())
    }

    fn too_many_names(&self) -> CloseReason {
        CloseReason::Protocol(format!("more than {} names in one request", self.settings.names_limit))
    }

    /// Takes the answer to a response, if that is what the nonce says.
    fn answer(&mut self, sub_stream: &mut SubStream, nonce: u64, error: Option<RequestError>, now: Instant) {
        let Some(epoch) = sub_stream.base.as_ref().map(|base| base.epoch) else {
            return;
        };
        let full_state = sub_stream.is_full_state(self.variant);
        match error {
            None => {
                if sub_stream.acknowledge(nonce) == Some(true) && sub_stream.rejected.is_none() {
                    // Noted at once: by the next step newer inputs may have brought new work.
                    let removals = self.removal_gate(sub_stream, now);
                    sub_stream.settle_if_done(&self.context(now), &removals);
                    self.events.push(Event::Acknowledged { type_url: sub_stream.type_url.clone(), epoch });
                }
            }
            Some(error) => {
                let isolation = self.settings.isolation;
                let part = sub_stream.reject(nonce, full_state, |part| {
                    isolation == Isolation::OneAtATime
                        && mentioned(part.items.iter().map(|item| &item.name), &error.message).is_empty()
                });
                let Some(part) = part else { return };
                let (mut resources, mut removed) = (BTreeMap::new(), Vec::new());
                for item in &part.items {
                    let name = Arc::clone(&item.name);
                    match &item.resource {
                        Some(resource) => {
                            resources.insert(name, resource.version());
                        }
                        None => removed.push(name),
                    }
                }
                sub_stream.last_rejection = Some(LastRejection {
                    message: error.message.clone(),
                    code: error.code,
                    resources: resources.clone(),
                    at: now,
                });
                self.events.push(Event::Rejected(Rejection {
                    type_url: sub_stream.type_url.clone(),
                    epoch,
                    mentioned: mentioned(resources.keys().chain(&removed), &error.message),
                    resources,
                    removed,
                    message: error.message,
                    code: error.code,
                }));
            }
        }
    }

    /// Takes the answer in a state-of-the-world request; whether its list counts, which it does not when the request
    /// was sent before the client saw the newest response.
    fn answer_state_of_the_world(
        &mut self,
        sub_stream: &mut SubStream,
        nonce: &str,
        error: Option<RequestError>,
        names: &[String],
        now: Instant,
    ) -> bool {
        let Some(last) = sub_stream.last_nonce else {
            // Nothing was sent: a nonce is another stream's.
            return true;
        };
        let nonce = parse_nonce(nonce);
        if nonce == Some(last) {
            self.answer(sub_stream, last, error, now);
            sub_stream.answered_nonce = Some(last);
            sub_stream.older_nonce = None;
            return true;
        }
        let unsubscribes = names.is_empty() && sub_stream.subscription.has_named;
        if sub_stream.older_nonce == Some(nonce) {
            return true;
        }
        if unsubscribes && nonce == sub_stream.answered_nonce {
            // The client will ignore what is on its way, and go on with this nonce.
            sub_stream.flight = None;
            sub_stream.older_nonce = Some(nonce);
            return true;
        }
        false
    }

    /// Takes the list of a state-of-the-world request, which replaces the one before.
    fn set_names(&mut self, sub_stream: &mut SubStream, names: &[String], first: bool, version: &str) {
        let type_url = sub_stream.type_url.clone();
        if !names.is_empty() {
            sub_stream.subscription.has_named = true;
        }
        let legacy = type_url.is_wildcard_capable() && !sub_stream.subscription.has_named;
        if first && legacy {
            sub_stream.claimed_set = Version::parse(version);
        }
        let wildcard = if legacy {
            Wildcard::Legacy
        } else if names.iter().any(|name| name == WILDCARD) {
            Wildcard::Explicit
        } else {
            Wildcard::No
        };
        if first && wildcard == Wildcard::Explicit {
            sub_stream.claimed_set = Version::parse(version);
        }
        let named: std::collections::BTreeSet<&str> =
            names.iter().map(String::as_str).filter(|name| !name.is_empty() && *name != WILDCARD).collect();
        let dropped: Vec<Arc<str>> =
            sub_stream.subscription.names().iter().filter(|name| !named.contains(name.as_ref())).cloned().collect();
        self.set_wildcard(sub_stream, wildcard);
        for name in &dropped {
            sub_stream.drop_name(name);
        }
        self.note_names(&type_url, dropped, false);
        let names: Vec<Arc<str>> = named.into_iter().map(|name| self.shared_name(&type_url, name)).collect();
        let fresh = sub_stream.subscription.insert_all(&names);
        for name in &fresh {
            sub_stream.must_answer(name);
        }
        self.note_names(&type_url, fresh, true);
    }

    fn unsubscribe(&mut self, sub_stream: &mut SubStream, names: &[String]) {
        let type_url = sub_stream.type_url.clone();
        for name in names {
            if name == WILDCARD {
                self.set_wildcard(sub_stream, Wildcard::No);
            } else if sub_stream.subscription.remove(name) {
                let name: Arc<str> = self.shared_name(&type_url, name);
                if sub_stream.subscription.is_wildcard() {
                    sub_stream.must_answer(&name);
                } else {
                    sub_stream.forget(&name);
                }
                self.note_interest(&type_url, Interest::Names(vec![name]), false);
            }
        }
    }

    fn subscribe(
        &mut self,
        sub_stream: &mut SubStream,
        names: &[String],
        first: bool,
        initial_versions: &std::collections::HashMap<String, String>,
    ) {
        let type_url = sub_stream.type_url.clone();
        if first {
            // Counts only in the first request of a type.
            for (name, version) in initial_versions {
                let name = self.shared_name(&type_url, name);
                sub_stream.claim(name, version);
            }
            if names.is_empty() && type_url.is_wildcard_capable() {
                self.set_wildcard(sub_stream, Wildcard::Legacy);
            }
        }
        if names.iter().any(|name| name == WILDCARD) {
            self.set_wildcard(sub_stream, Wildcard::Explicit);
        }
        let named: Vec<Arc<str>> = names
            .iter()
            .filter(|name| !name.is_empty() && *name != WILDCARD)
            .map(|name| self.shared_name(&type_url, name))
            .collect();
        sub_stream.subscription.has_named |= !names.is_empty();
        for name in &named {
            // A reconnecting Envoy names everything it holds. Clusters, listeners and routes it does hold need not be
            // sent; endpoints and secrets are, because it may be waiting for them.
            let trusted = first
                && initial_versions.contains_key(name.as_ref())
                && (type_url.is_wildcard_capable() || type_url == TypeUrl::RouteConfiguration);
            if !trusted {
                sub_stream.must_answer(name);
            }
        }
        let fresh = sub_stream.subscription.insert_all(&named);
        self.note_names(&type_url, fresh, true);
        if first && !sub_stream.subscription.is_wildcard() {
            sub_stream.forget_uncovered();
        }
    }

    fn set_wildcard(&mut self, sub_stream: &mut SubStream, wildcard: Wildcard) {
        let before = sub_stream.subscription.is_wildcard();
        if wildcard != Wildcard::No {
            sub_stream.subscribe_wildcard(wildcard);
        } else if before {
            sub_stream.unsubscribe_wildcard();
        }
        let after = sub_stream.subscription.is_wildcard();
        if before != after {
            self.note_interest(&sub_stream.type_url.clone(), Interest::Wildcard, after);
        }
    }

    fn note_names(&mut self, type_url: &TypeUrl, names: Vec<Arc<str>>, held: bool) {
        if !names.is_empty() {
            self.note_interest(type_url, Interest::Names(names), held);
        }
    }

    fn note_interest(&mut self, type_url: &TypeUrl, what: Interest, held: bool) {
        self.interest.push(InterestChange { type_url: type_url.clone(), what, held });
    }

    /// The text of a name, shared with the snapshot where it is known there.
    fn shared_name(&self, type_url: &TypeUrl, name: &str) -> Arc<str> {
        self.latest
            .as_ref()
            .and_then(|latest| latest.snapshot.get(type_url, name))
            .map_or_else(|| Arc::from(name), |entry| Arc::clone(entry.resource.name()))
    }

    // ---- responses ----

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
        self.synced = synced.then_some(latest.epoch);
        if synced && self.announced < self.synced {
            self.announced = self.synced;
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

/// Those of the names that a client's text mentions as words of their own.
fn mentioned<'a>(names: impl Iterator<Item = &'a Arc<str>>, text: &str) -> Vec<Arc<str>> {
    names.filter(|name| is_mentioned(name, text)).cloned().collect()
}

fn is_mentioned(name: &str, text: &str) -> bool {
    let is_part_of_name = |character: char| character.is_alphanumeric() || "-_./|@".contains(character);
    text.match_indices(name).any(|(start, matched)| {
        let before = text[..start].chars().next_back();
        let mut after = text[start + matched.len()..].chars();
        let next = after.next();
        let ends = match next {
            // The full stop that ends a sentence.
            Some('.') => after.next().is_none_or(|character| !is_part_of_name(character)),
            Some(character) => !is_part_of_name(character),
            None => true,
        };
        ends && before.is_none_or(|character| !is_part_of_name(character))
    })
}
