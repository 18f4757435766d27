//! Slots, the edges between them, and the agenda of what is to be looked at in this update.

use std::collections::BTreeMap;
use std::mem;
use std::ops::{Index, IndexMut};

use imbl::OrdMap;

use crate::Program;
use crate::cell::Cell;
use crate::edges::{Difference, EdgeSet, Id, differences};
use crate::reader::Recording;
use crate::slot::{Record, Slot};
use crate::slots::Slots;

/// All slots of an engine.
pub(crate) struct Graph<P: Program> {
    slots: Slots<P>,
    /// What an index without entries reads as.
    empty: OrdMap<P::Item, P::ItemValue>,
    /// Per stage, the slots to be looked at.
    agenda: BTreeMap<u8, Vec<Id>>,
    /// Slots that may have become useless in this update.
    suspects: Vec<Id>,
}

impl<P: Program> Index<Id> for Graph<P> {
    type Output = Slot<P>;

    fn index(&self, id: Id) -> &Slot<P> {
        self.slots.get(id).expect("a slot with an edge or a place on the agenda is not freed")
    }
}

impl<P: Program> IndexMut<Id> for Graph<P> {
    fn index_mut(&mut self, id: Id) -> &mut Slot<P> {
        self.slots.get_mut(id).expect("a slot with an edge or a place on the agenda is not freed")
    }
}

impl<P: Program> Graph<P> {
    pub(crate) fn new() -> Self {
        Self { slots: Slots::default(), empty: OrdMap::new(), agenda: BTreeMap::new(), suspects: Vec::new() }
    }

    pub(crate) fn find(&self, key: &P::Key) -> Option<Id> {
        self.slots.find(key)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot<P>> {
        self.slots.iter()
    }

    pub(crate) fn empty(&self) -> &OrdMap<P::Item, P::ItemValue> {
        &self.empty
    }

    /// The entries of an index.
    pub(crate) fn items(&self, id: Id) -> &OrdMap<P::Item, P::ItemValue> {
        self[id].cell.as_ref().map_or(&self.empty, |cell| cell.items())
    }

    pub(crate) fn cell(&self, id: Id) -> Option<&Cell<P>> {
        self[id].cell.as_deref()
    }

    pub(crate) fn readers(&self, id: Id) -> &EdgeSet {
        &self[id].readers
    }

    /// The number of a key, given to it now if it has none. The caller connects something to it at once: what is held
    /// by nothing becomes suspect only when its last edge goes.
    pub(crate) fn intern(&mut self, program: &P, key: P::Key) -> Id {
        self.find(&key).unwrap_or_else(|| self.slots.insert(Slot::new(key, program)))
    }

    /// Turns what a computation did into edges' ends. Without `effects`, only what it read counts.
    pub(crate) fn resolve(&mut self, program: &P, recording: Recording<P>, effects: bool) -> Record<P> {
        let mut record = Record { reads: recording.reads, item_reads: recording.item_reads, ..Record::default() };
        for key in recording.absent_reads {
            record.reads.push(self.intern(program, key));
        }
        for (key, item) in recording.absent_item_reads {
            record.item_reads.push((self.intern(program, key), item));
        }
        if effects {
            for key in recording.spawned {
                record.spawned.push(self.intern(program, key));
            }
            for (key, item, value) in recording.contributions {
                record.contributions.push((self.intern(program, key), item, value));
            }
        }
        record.reads.sort_unstable();
        record.reads.dedup();
        record.item_reads.sort_unstable();
        record.item_reads.dedup();
        record.spawned.sort_unstable();
        record.spawned.dedup();
        record.contributions.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        record.contributions.dedup_by(|next, kept| {
            let same = (next.0, &next.1) == (kept.0, &kept.1);
            if same {
                // The last contribution of an entry counts, and `dedup_by` keeps the first place.
                mem::swap(next, kept);
            }
            same
        });
        record
    }

    /// Replaces the record of `id`, and every edge that differs.
    pub(crate) fn connect(&mut self, id: Id, record: Record<P>) {
        let former = mem::take(&mut self[id].record);
        self.connect_reads(id, &former, &record);
        self.connect_spawned(&former.spawned, &record.spawned);
        self.connect_contributions(id, &former, &record);
        self[id].record = record;
    }

    fn connect_reads(&mut self, id: Id, former: &Record<P>, record: &Record<P>) {
        for difference in differences(&former.reads, &record.reads, Id::cmp) {
            match difference {
                Difference::Kept(..) => {}
                Difference::Added(target) => self[*target].readers.insert(id),
                Difference::Removed(target) => {
                    self[*target].readers.remove(id);
                    self.suspects.push(*target);
                }
            }
        }
        for difference in differences(&former.item_reads, &record.item_reads, Ord::cmp) {
            match difference {
                Difference::Kept(..) => {}
                Difference::Added((target, item)) => self.cell_mut(*target).watch(item, id),
                Difference::Removed((target, item)) => {
                    self.cell_mut(*target).unwatch(item, id);
                    self.suspects.push(*target);
                }
            }
        }
    }

    fn connect_spawned(&mut self, former: &[Id], spawned: &[Id]) {
        for difference in differences(former, spawned, Id::cmp) {
            match difference {
                Difference::Kept(..) => {}
                Difference::Added(target) => self.want(*target),
                Difference::Removed(target) => {
                    let slot = &mut self[*target];
                    slot.wanted -= 1;
                    if slot.wanted == 0 {
                        self.schedule(*target);
                    }
                }
            }
        }
    }

    /// One more asks for the derived node `id` to exist.
    pub(crate) fn want(&mut self, id: Id) {
        let slot = &mut self[id];
        slot.wanted += 1;
        if slot.wanted == 1 {
            self.schedule(id);
        }
    }

    fn connect_contributions(&mut self, id: Id, former: &Record<P>, record: &Record<P>) {
        let order = |a: &(Id, P::Item, P::ItemValue), b: &(Id, P::Item, P::ItemValue)| (a.0, &a.1).cmp(&(b.0, &b.1));
        for difference in differences(&former.contributions, &record.contributions, order) {
            match difference {
                Difference::Kept((_, _, before), (_, _, now)) if before == now => {}
                Difference::Added((index, item, value)) | Difference::Kept(_, (index, item, value)) => {
                    let contributor = self[id].key.clone();
                    self.cell_mut(*index).contribute(item, contributor, value.clone());
                    self.schedule(*index);
                }
                Difference::Removed((index, item, _)) => {
                    let contributor = self[id].key.clone();
                    self.cell_mut(*index).withdraw(item, &contributor);
                    self.schedule(*index);
                }
            }
        }
    }

    fn cell_mut(&mut self, id: Id) -> &mut Cell<P> {
        self[id].cell.get_or_insert_default()
    }

    /// Brings an index up to date, disturbs the readers of what changed, and lists what changed.
    pub(crate) fn settle(&mut self, id: Id) -> Vec<(P::Item, Option<P::ItemValue>)> {
        self.suspects.push(id);
        let Some(mut cell) = self[id].cell.take() else { return Vec::new() };
        let changed = cell.settle();
        for (item, _) in &changed {
            for reader in cell.readers_of(item).into_iter().flat_map(EdgeSet::iter) {
                self.disturb(reader);
            }
        }
        self[id].cell = Some(cell);
        if !changed.is_empty() {
            self.disturb_readers(id);
        }
        changed
    }

    /// Schedules everyone who reads the value of `id`, or all its entries.
    pub(crate) fn disturb_readers(&mut self, id: Id) {
        let readers = mem::take(&mut self[id].readers);
        for reader in readers.iter() {
            self.disturb(reader);
        }
        self[id].readers = readers;
    }

    fn disturb(&mut self, id: Id) {
        self[id].stale = true;
        self.schedule(id);
    }

    fn schedule(&mut self, id: Id) {
        let slot = &mut self[id];
        if !mem::replace(&mut slot.scheduled, true) {
            let stage = slot.role.stage();
            self.agenda.entry(stage).or_default().push(id);
        }
    }

    /// Takes what is scheduled for the lowest stage, in the order of the keys: the order has no influence on the
    /// results, but what a log or a debugger shows is then the same everywhere. Whatever is scheduled while the stage
    /// is worked off belongs to a higher one.
    pub(crate) fn take_lowest_stage(&mut self) -> Option<Vec<Id>> {
        let (_, mut ids) = self.agenda.pop_first()?;
        ids.sort_unstable_by(|a, b| self[*a].key.cmp(&self[*b].key));
        for id in &ids {
            self[*id].scheduled = false;
        }
        Some(ids)
    }

    /// Marks a slot for inspection at the end of the update.
    pub(crate) fn suspect(&mut self, id: Id) {
        self.suspects.push(id);
    }

    /// Frees the slots that became useless. A useless slot has no edges, so freeing it makes no other one useless.
    pub(crate) fn sweep(&mut self) {
        for id in mem::take(&mut self.suspects) {
            let Some(slot) = self.slots.get_mut(id) else { continue };
            if slot.cell.as_ref().is_some_and(|cell| cell.is_unused()) {
                slot.cell = None;
            }
            // At the end of an update nothing is scheduled, and exactly the wanted nodes are live.
            let held = slot.value.is_some() || slot.live || !slot.readers.is_empty() || slot.cell.is_some();
            if !held {
                self.slots.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Graph;
    use crate::slots::tests::Inputs;

    #[test]
    fn what_nothing_holds_is_freed_and_the_rest_stays() {
        let mut graph = Graph::new();
        let kept = graph.intern(&Inputs, 1_000);
        graph[kept].value = Some(0);
        for key in 0..100 {
            let id = graph.intern(&Inputs, key);
            graph.suspect(kept);
            graph.suspect(id);
            graph.sweep();
            assert_eq!((graph.find(&1_000), graph.find(&key)), (Some(kept), None));
        }
        assert_eq!(graph.slots().count(), 1);
    }
}
