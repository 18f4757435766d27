//! What to say next of one type.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Context, Desired, Outgoing, SubStream, nonce_text};
use crate::cache::Published;
use crate::layer::Delivery;
use crate::policy::Variant;
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::stream::flight::{Flight, Item, Part};
use crate::stream::gate::RemovalGate;
use crate::stream::held::Held;
use crate::stream::response::{Content, Draft};
use crate::stream::scan::{Scan, Step, merge};
use crate::version::{SetDigest, Version};

impl SubStream {
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

    pub(super) fn send(
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
    pub(super) fn scan_isolated(&mut self, context: &Context<'_>, removals: &RemovalGate) -> Option<Scan> {
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
    pub(super) fn scan(&mut self, context: &Context<'_>, removals: &RemovalGate, only: Option<&Arc<str>>) -> Scan {
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
    pub(super) fn full_state(&self, snapshot: &Snapshot, context: &Context<'_>, scan: &Scan) -> (Content, Version) {
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
    pub(super) fn is_claimed(&self, version: Version) -> bool {
        self.subscription.is_wildcard() && self.subscription.names().is_empty() && self.claimed_set == Some(version)
    }

    pub(super) fn take_claim(&mut self, items: &[Item]) {
        self.answer_due = false;
        self.claimed_set = None;
        for item in items {
            self.note_held(item.clone());
        }
    }

    /// Nothing is owed but removals.
    pub(super) fn settle(&mut self, base: Arc<Published>) {
        if self.rejected.as_ref().is_some_and(|rejected| rejected.set.is_some()) {
            // The state that was refused is not wanted any more.
            self.rejected = None;
        }
        self.settled = Some(base);
    }
}
