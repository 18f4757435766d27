//! What a client subscribes to for one type.

use std::sync::Arc;

use crate::cache::NameList;
use crate::layer::{Delivery, Entry};

/// The name that stands for everything.
pub(crate) const WILDCARD: &str = "*";

/// Whether "everything" is subscribed to, and how that was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wildcard {
    /// Not subscribed to.
    No,
    /// Said by a first request without names.
    Legacy,
    /// Said by the name `*`.
    Explicit,
}

/// A subscription: everything, names, both or nothing.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) wildcard: Wildcard,
    /// Whether a request of this type has named anything or `*`: after that an empty list means nothing.
    pub(crate) has_named: bool,
    /// Sorted; shared with other streams that subscribe to the same.
    names: NameList,
}

impl Default for Subscription {
    fn default() -> Self {
        Self { wildcard: Wildcard::No, has_named: false, names: NameList::default() }
    }
}

impl Subscription {
    pub(crate) fn is_wildcard(&self) -> bool {
        self.wildcard != Wildcard::No
    }

    pub(crate) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Whether an entry of this name is delivered to the subscription.
    pub(crate) fn covers(&self, name: &str, entry: &Entry) -> bool {
        (self.is_wildcard() && entry.delivery == Delivery::Wildcard) || self.contains(name)
    }

    /// Whether nothing at all is subscribed to.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.is_wildcard() && self.names.is_empty()
    }

    /// Adds a name; whether it is new.
    pub(crate) fn insert(&mut self, name: &Arc<str>) -> bool {
        match self.position(name) {
            Ok(_) => false,
            Err(position) => {
                Arc::make_mut(&mut self.names).insert(position, Arc::clone(name));
                true
            }
        }
    }

    /// Takes a name out; whether it was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let position = self.position(name);
        if let Ok(position) = position {
            Arc::make_mut(&mut self.names).remove(position);
        }
        position.is_ok()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|present| present.as_ref().cmp(name))
    }

    /// Makes room for many names that are about to be added one by one, in any order.
    pub(crate) fn insert_all(&mut self, names: &[Arc<str>]) -> Vec<Arc<str>> {
        const FEW: usize = 16;
        if names.len() <= FEW {
            return names.iter().filter(|name| self.insert(name)).cloned().collect();
        }
        let mut fresh: Vec<Arc<str>> = names.iter().filter(|name| !self.contains(name)).cloned().collect();
        fresh.sort();
        fresh.dedup();
        let names = Arc::make_mut(&mut self.names);
        names.reserve_exact(fresh.len());
        names.extend(fresh.iter().cloned());
        names.sort();
        fresh
    }

    /// Puts the list of names in the place of an equal one.
    pub(crate) fn share_names(&mut self, share: impl FnOnce(&NameList) -> NameList) {
        /// Shorter lists are not worth the search.
        const WORTH_SHARING: usize = 32;
        if self.names.len() >= WORTH_SHARING {
            self.names = share(&self.names);
        }
    }
}
