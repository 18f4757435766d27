//! What the values are, said as directly as possible: recursion, no memory of anything, no engine.

use std::collections::{BTreeMap, BTreeSet};

use super::random_program::{Access, Key, RandomProgram, all_nodes};

pub(crate) struct Naive<'a> {
    pub(crate) program: &'a RandomProgram,
    pub(crate) inputs: &'a BTreeMap<Key, u32>,
}

/// A node that exists, and what it does.
pub(crate) struct Outcome {
    pub(crate) value: u32,
    spawned: BTreeSet<Key>,
    contributions: BTreeMap<(Key, u32), u32>,
}

struct NaiveAccess<'a> {
    naive: &'a Naive<'a>,
    spawned: BTreeSet<Key>,
    contributions: BTreeMap<(Key, u32), u32>,
}

impl Access for NaiveAccess<'_> {
    fn get(&mut self, key: Key) -> Option<u32> {
        self.naive.outcome(key).map(|outcome| outcome.value)
    }
    fn get_item(&mut self, index: Key, item: u32) -> Option<u32> {
        self.naive.items(index).get(&item).copied()
    }
    fn get_items(&mut self, index: Key) -> Vec<(u32, u32)> {
        self.naive.items(index).into_iter().collect()
    }
    fn contribute(&mut self, index: Key, item: u32, value: u32) {
        self.contributions.insert((index, item), value);
    }
    fn spawn(&mut self, key: Key) {
        self.spawned.insert(key);
    }
}

impl Naive<'_> {
    pub(crate) fn outcome(&self, key: Key) -> Option<Outcome> {
        let mut access = NaiveAccess { naive: self, spawned: BTreeSet::new(), contributions: BTreeMap::new() };
        let value = if let Key::Input(_) = key {
            let value = *self.inputs.get(&key)?;
            self.program.run(key, value, &mut access);
            value
        } else if self.is_wanted(key) {
            self.program.run(key, 0, &mut access)?
        } else {
            return None;
        };
        Some(Outcome { value, spawned: access.spawned, contributions: access.contributions })
    }

    fn is_wanted(&self, key: Key) -> bool {
        self.program.roots.contains(&key)
            || below(key).any(|other| self.outcome(other).is_some_and(|outcome| outcome.spawned.contains(&key)))
    }

    pub(crate) fn items(&self, index: Key) -> BTreeMap<u32, u32> {
        let mut items = BTreeMap::new();
        for contributor in below(index) {
            for ((target, item), value) in
                self.outcome(contributor).into_iter().flat_map(|outcome| outcome.contributions)
            {
                if target == index {
                    items.entry(item).or_insert(value);
                }
            }
        }
        items
    }
}

fn below(key: Key) -> impl Iterator<Item = Key> {
    all_nodes().into_iter().filter(move |other| other.stage() < key.stage())
}
