//! Which streams hold what, so that a publication wakes only those it affects.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::layer::{Delivery, Difference, Entry};
use crate::type_url::TypeUrl;

/// A change of what a stream subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterestChange {
    pub(crate) type_url: TypeUrl,
    pub(crate) what: Interest,
    pub(crate) held: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Wildcard,
    /// All of these.
    Names(Vec<Arc<str>>),
}

/// Streams by type and name. A stream is the number of its slot.
#[derive(Default)]
pub(super) struct InterestIndex {
    types: HashMap<TypeUrl, TypeInterest>,
}

#[derive(Default)]
struct TypeInterest {
    wildcard: BTreeSet<u32>,
    /// Sorted; four bytes for each stream and name.
    names: HashMap<Arc<str>, Vec<u32>>,
}

impl TypeInterest {
    fn remove_name(&mut self, name: &str, slot: u32) {
        if let Some(slots) = self.names.get_mut(name) {
            if let Ok(position) = slots.binary_search(&slot) {
                slots.remove(position);
            }
            if slots.is_empty() {
                self.names.remove(name);
            }
        }
    }
}

impl InterestIndex {
    pub(super) fn apply(&mut self, slot: u32, change: InterestChange) {
        let interest = self.types.entry(change.type_url).or_default();
        match (change.what, change.held) {
            (Interest::Wildcard, true) => {
                interest.wildcard.insert(slot);
            }
            (Interest::Wildcard, false) => {
                interest.wildcard.remove(&slot);
            }
            (Interest::Names(names), true) => {
                for name in names {
                    let slots = interest.names.entry(name).or_default();
                    if let Err(position) = slots.binary_search(&slot) {
                        slots.insert(position, slot);
                    }
                }
            }
            (Interest::Names(names), false) => {
                for name in names {
                    interest.remove_name(&name, slot);
                }
            }
        }
    }

    pub(super) fn remove_wildcards(&mut self, slot: u32) {
        for interest in self.types.values_mut() {
            interest.wildcard.remove(&slot);
        }
    }

    /// The streams that hold something of what differs.
    pub(super) fn affected_by(&self, differences: &[Difference]) -> Affected {
        let mut affected = Affected::default();
        let mut wildcards_done: BTreeSet<&TypeUrl> = BTreeSet::new();
        for difference in differences {
            let Some(interest) = self.types.get(&difference.type_url) else {
                continue;
            };
            let by_wildcard =
                |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.delivery == Delivery::Wildcard);
            if (by_wildcard(&difference.old) || by_wildcard(&difference.new))
                && wildcards_done.insert(&difference.type_url)
            {
                affected.0.extend(&interest.wildcard);
            }
            if let Some(slots) = interest.names.get(&difference.name) {
                affected.0.extend(slots);
            }
        }
        affected
    }
}

/// A set of slots.
#[derive(Default)]
pub(super) struct Affected(BTreeSet<u32>);

impl Affected {
    pub(super) fn contains(&self, slot: usize) -> bool {
        u32::try_from(slot).is_ok_and(|slot| self.0.contains(&slot))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
