//! An index: an ordered map maintained from the contributions of many nodes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;

use imbl::OrdMap;

use crate::Program;
use crate::edges::{EdgeSet, Id};
use crate::hash::FixedState;

/// All who contribute one entry, ordered by contributor: the first one's value is the entry's value, so that the
/// order of events never matters.
enum Contributors<P: Program> {
    /// By far the most frequent case, kept free of a tree's memory.
    One(P::Key, P::ItemValue),
    /// Never empty.
    Many(BTreeMap<P::Key, P::ItemValue>),
}

impl<P: Program> Contributors<P> {
    fn winner(&self) -> Option<&P::ItemValue> {
        match self {
            Self::One(_, value) => Some(value),
            Self::Many(values) => values.first_key_value().map(|(_, value)| value),
        }
    }

    fn insert(&mut self, contributor: P::Key, value: P::ItemValue) {
        match self {
            Self::One(sole, current) if *sole == contributor => *current = value,
            Self::One(sole, current) => {
                let first = (sole.clone(), current.clone());
                *self = Self::Many(BTreeMap::from([first, (contributor, value)]));
            }
            Self::Many(values) => {
                values.insert(contributor, value);
            }
        }
    }

    /// Returns whether nobody is left.
    fn remove(&mut self, contributor: &P::Key) -> bool {
        match self {
            Self::One(sole, _) => sole == contributor,
            Self::Many(values) => {
                values.remove(contributor);
                values.is_empty()
            }
        }
    }
}

/// The entries of an index, who contributes them and who reads them. What nobody walks through is hashed: finding one of very
/// many entries by comparing names touches memory that no cache holds at each step down a tree.
pub(crate) struct Cell<P: Program> {
    /// As of the last settling.
    items: OrdMap<P::Item, P::ItemValue>,
    contributors: HashMap<P::Item, Contributors<P>, FixedState>,
    /// Who reads one entry, also entries that do not exist.
    item_readers: HashMap<P::Item, EdgeSet, FixedState>,
    /// Entries whose contributors changed since the last settling.
    touched: BTreeSet<P::Item>,
}

impl<P: Program> Default for Cell<P> {
    fn default() -> Self {
        Self {
            items: OrdMap::new(),
            contributors: HashMap::default(),
            item_readers: HashMap::default(),
            touched: BTreeSet::new(),
        }
    }
}

impl<P: Program> Cell<P> {
    pub(crate) fn items(&self) -> &OrdMap<P::Item, P::ItemValue> {
        &self.items
    }

    pub(crate) fn contribute(&mut self, item: &P::Item, contributor: P::Key, value: P::ItemValue) {
        match self.contributors.entry(item.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Contributors::One(contributor, value));
            }
            Entry::Occupied(mut entry) => entry.get_mut().insert(contributor, value),
        }
        self.touched.insert(item.clone());
    }

    pub(crate) fn withdraw(&mut self, item: &P::Item, contributor: &P::Key) {
        if let Entry::Occupied(mut entry) = self.contributors.entry(item.clone())
            && entry.get_mut().remove(contributor)
        {
            entry.remove();
        }
        self.touched.insert(item.clone());
    }

    pub(crate) fn watch(&mut self, item: &P::Item, reader: Id) {
        self.item_readers.entry(item.clone()).or_default().insert(reader);
    }

    pub(crate) fn unwatch(&mut self, item: &P::Item, reader: Id) {
        if let Entry::Occupied(mut entry) = self.item_readers.entry(item.clone()) {
            entry.get_mut().remove(reader);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    pub(crate) fn readers_of(&self, item: &P::Item) -> Option<&EdgeSet> {
        self.item_readers.get(item)
    }

    /// Everyone who contributes `item`, the one whose value counts first.
    pub(crate) fn contributors_of(&self, item: &P::Item) -> Vec<&P::Key> {
        match self.contributors.get(item) {
            None => Vec::new(),
            Some(Contributors::One(sole, _)) => vec![sole],
            Some(Contributors::Many(values)) => values.keys().collect(),
        }
    }

    /// Brings the entries up to date with their contributors; the answer lists those that are different now.
    pub(crate) fn settle(&mut self) -> Vec<(P::Item, Option<P::ItemValue>)> {
        let mut changed = Vec::new();
        for item in mem::take(&mut self.touched) {
            let value = self.contributors.get(&item).and_then(Contributors::winner);
            if self.items.get(&item) == value {
                continue;
            }
            let value = value.cloned();
            match value.clone() {
                Some(value) => self.items.insert(item.clone(), value),
                None => self.items.remove(&item),
            };
            changed.push((item, value));
        }
        changed
    }

    /// Whether nobody contributes to it and nobody reads single entries of it.
    pub(crate) fn is_unused(&self) -> bool {
        self.contributors.is_empty() && self.item_readers.is_empty()
    }
}
