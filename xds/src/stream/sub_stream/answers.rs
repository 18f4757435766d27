//! What the client says to responses of one type.

use std::sync::Arc;

use super::SubStream;
use crate::stream::flight::{Item, Part, Rejected};
use crate::stream::held::Held;

impl SubStream {
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
    pub(super) fn land(&mut self) -> bool {
        let landed = self.flight.as_ref().is_some_and(|flight| !flight.sending && flight.parts.is_empty());
        if landed {
            self.flight = None;
        }
        landed
    }

    /// Notes what the client now holds under a name.
    pub(super) fn note_held(&mut self, item: Item) {
        let default = self.covered(&item.name);
        let held = item.resource.map_or(Held::Absent, Held::Resource);
        if held.is(default.as_ref()) {
            self.exceptions.remove(&item.name);
        } else {
            self.exceptions.insert(item.name, held);
        }
    }
}
