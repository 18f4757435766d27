//! Slots by number and by key. Each key is kept once, in its slot; and slots stay where they are when there are more, because
//! moving many of them would keep an update waiting and take twice their memory.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::Program;
use crate::edges::Id;
use crate::hash::FixedState;
use crate::slot::Slot;

/// Slots that lie side by side.
const CHUNK: usize = 256;

/// See the module.
pub(crate) struct Slots<P: Program> {
    /// All but the last are full.
    chunks: Vec<Vec<Option<Slot<P>>>>,
    /// Places without a slot.
    vacant: Vec<Id>,
    ids: HashTable<Id>,
}

impl<P: Program> Default for Slots<P> {
    fn default() -> Self {
        Self { chunks: Vec::new(), vacant: Vec::new(), ids: HashTable::new() }
    }
}

fn hash(key: &impl std::hash::Hash) -> u64 {
    FixedState::default().hash_one(key)
}

fn place<P: Program>(chunks: &[Vec<Option<Slot<P>>>], id: Id) -> Option<&Slot<P>> {
    chunks.get(id as usize / CHUNK)?.get(id as usize % CHUNK)?.as_ref()
}

impl<P: Program> Slots<P> {
    pub(crate) fn get(&self, id: Id) -> Option<&Slot<P>> {
        place(&self.chunks, id)
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut Slot<P>> {
        self.chunks.get_mut(id as usize / CHUNK)?.get_mut(id as usize % CHUNK)?.as_mut()
    }

    pub(crate) fn find(&self, key: &P::Key) -> Option<Id> {
        let is_of = |id: &Id| self.get(*id).is_some_and(|slot| slot.key == *key);
        self.ids.find(hash(key), is_of).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot<P>> {
        self.chunks.iter().flatten().flatten()
    }

    /// Gives a slot a number. Its key must have none.
    pub(crate) fn insert(&mut self, slot: Slot<P>) -> Id {
        let hashed = hash(&slot.key);
        let id = self.vacant.pop().unwrap_or_else(|| self.add_place());
        self.chunks[id as usize / CHUNK][id as usize % CHUNK] = Some(slot);
        let chunks = &self.chunks;
        self.ids.insert_unique(hashed, id, |id| place(chunks, *id).map_or(0, |slot| hash(&slot.key)));
        id
    }

    fn add_place(&mut self) -> Id {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first one grows as it is needed: an engine may be small.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("one was added where there was none");
        chunk.push(None);
        Id::try_from(before + chunk.len() - 1).expect("memory ends long before the numbers do")
    }

    /// Frees a slot. Its number is used again.
    pub(crate) fn remove(&mut self, id: Id) {
        let place = self.chunks.get_mut(id as usize / CHUNK).and_then(|chunk| chunk.get_mut(id as usize % CHUNK));
        if let Some(slot) = place.and_then(Option::take) {
            if let Ok(entry) = self.ids.find_entry(hash(&slot.key), |other| *other == id) {
                entry.remove();
            }
            self.vacant.push(id);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Reader, Role};

    /// A program of inputs alone.
    pub(crate) struct Inputs;

    impl Program for Inputs {
        type Key = u32;
        type Value = u32;
        type Item = ();
        type ItemValue = ();

        fn role(&self, _: &u32) -> Role {
            Role::Input
        }
        fn compute(&self, _: &u32, _: &mut Reader<'_, Self>) -> Option<u32> {
            None
        }
    }

    #[test]
    fn every_key_is_found_by_its_number_and_the_numbers_of_freed_slots_are_used_again() {
        let mut slots = Slots::default();
        let many = u32::try_from(3 * CHUNK + 1).expect("it is small");
        let add = |slots: &mut Slots<Inputs>, key| slots.insert(Slot::new(key, &Inputs));
        let ids: Vec<Id> = (0..many).map(|key| add(&mut slots, key)).collect();
        for (key, id) in (0..many).zip(&ids) {
            assert_eq!((slots.find(&key), slots.get(*id).map(|slot| slot.key)), (Some(*id), Some(key)));
        }
        for id in ids.iter().step_by(2) {
            slots.remove(*id);
        }
        assert_eq!((slots.find(&0), slots.get(ids[0]).is_none(), slots.find(&1)), (None, true, Some(ids[1])));
        let again: std::collections::BTreeSet<Id> =
            (0..many).step_by(2).map(|key| add(&mut slots, many + key)).collect();
        assert_eq!(again, ids.iter().copied().step_by(2).collect());
        assert_eq!(slots.iter().count(), ids.len());
    }
}
