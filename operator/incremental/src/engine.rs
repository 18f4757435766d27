//! The update loop and the questions an engine answers.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;

use imbl::OrdMap;

use crate::changes::{Changes, ItemChange, NodeChange, Rule, Stats, Violation, Work};
use crate::edges::{EdgeSet, Id};
use crate::graph::Graph;
use crate::slot::Record;
use crate::{Program, Reader, Role};

/// Holds the inputs of a [`Program`] and everything that follows from them, and keeps the latter up to date.
///
/// If [`Program::compute`] panics and the panic is caught, the engine is left in the middle of an update:
/// [`is_poisoned`](Self::is_poisoned) says so, its values can no longer be trusted, and a new engine has to be built.
pub struct Engine<P: Program> {
    program: P,
    graph: Graph<P>,
    total: Work,
    /// Met while the engine was built; reported by the first update.
    violations: Vec<Violation<P::Key>>,
    updating: bool,
}

impl<P: Program> fmt::Debug for Engine<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Engine").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<P: Program> Engine<P> {
    /// An engine without inputs. The roots are computed by the first update.
    #[must_use]
    pub fn new(program: P) -> Self {
        let mut graph = Graph::new();
        let mut violations = Vec::new();
        for root in program.roots() {
            match program.role(&root) {
                Role::Derived { stage: 1.. } => {
                    let id = graph.intern(&program, root);
                    graph.want(id);
                }
                Role::Derived { stage: 0 } | Role::Input | Role::Index { .. } => {
                    violations.push(Violation { actor: root.clone(), target: root, rule: Rule::RootsAreDerived });
                }
            }
        }
        Self { program, graph, total: Work::default(), violations, updating: false }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &P {
        &self.program
    }

    /// Sets inputs (`None` removes one) and recomputes what they affect, each node at most once. All changes of one
    /// call take effect together; if a key occurs more than once, its last value counts. An input that gets the value
    /// it has is no change. The cost follows what is affected, not what the engine holds.
    ///
    /// # Panics
    ///
    /// With debug assertions, when the program breaks a [`Rule`]; without, see [`Changes::violations`].
    pub fn update(&mut self, changes: impl IntoIterator<Item = (P::Key, Option<P::Value>)>) -> Changes<P> {
        let changes: BTreeMap<_, _> = changes.into_iter().collect();
        let mut report = Changes::new();
        report.violations.append(&mut self.violations);
        self.updating = true;
        for (key, value) in changes {
            self.set_input(key, value, &mut report);
        }
        while let Some(ids) = self.graph.take_lowest_stage() {
            for id in ids {
                match self.graph[id].role {
                    Role::Input => {}
                    Role::Derived { .. } => self.evaluate(id, &mut report),
                    Role::Index { .. } => self.settle(id, &mut report),
                }
            }
        }
        self.graph.sweep();
        report.sort();
        self.total.add(&report.work);
        self.updating = false;
        if let Some(violation) = report.violations.first() {
            debug_assert!(false, "{violation}");
        }
        report
    }

    fn set_input(&mut self, key: P::Key, value: Option<P::Value>, report: &mut Changes<P>) {
        if self.program.role(&key) != Role::Input {
            report.violations.push(Violation { actor: key.clone(), target: key, rule: Rule::SetsOnlyInputs });
            return;
        }
        if self.get(&key) == value.as_ref() {
            return;
        }
        report.work.inputs_changed += 1;
        let id = self.graph.intern(&self.program, key);
        let record = match &value {
            None => Record::default(),
            Some(value) => {
                let key = &self.graph[id].key;
                let mut reader = Reader::new(&self.program, &self.graph, key, Role::Input.stage());
                self.program.on_input(key, value, &mut reader);
                let mut recording = reader.recording;
                report.violations.append(&mut recording.violations);
                self.graph.resolve(&self.program, recording, true)
            }
        };
        self.graph.connect(id, record);
        self.graph[id].value = value;
        self.graph.disturb_readers(id);
        self.graph.suspect(id);
    }

    fn evaluate(&mut self, id: Id, report: &mut Changes<P>) {
        let slot = &mut self.graph[id];
        let stale = mem::take(&mut slot.stale);
        if slot.wanted == 0 {
            if mem::take(&mut slot.live) {
                report.work.removed += 1;
                self.graph.connect(id, Record::default());
                self.replace_value(id, None, report);
            }
            self.graph.suspect(id);
            return;
        }
        if slot.live && !stale {
            // It was dropped and asked for again within this update.
            return;
        }
        let slot = &self.graph[id];
        let mut reader = Reader::new(&self.program, &self.graph, &slot.key, slot.role.stage());
        let value = self.program.compute(&slot.key, &mut reader);
        let mut recording = reader.recording;
        report.violations.append(&mut recording.violations);
        let record = self.graph.resolve(&self.program, recording, value.is_some());
        report.work.computed += 1;
        report.work.reads += record.read_count();
        self.graph.connect(id, record);
        let was_live = mem::replace(&mut self.graph[id].live, true);
        let changed = self.replace_value(id, value, report);
        if was_live && !changed {
            report.work.cut_off += 1;
        }
    }

    /// Returns whether the value is another one than before.
    fn replace_value(&mut self, id: Id, value: Option<P::Value>, report: &mut Changes<P>) -> bool {
        let slot = &mut self.graph[id];
        if slot.value == value {
            return false;
        }
        if slot.is_output {
            report.nodes.push(NodeChange { key: slot.key.clone(), value: value.clone() });
        }
        slot.value = value;
        self.graph.disturb_readers(id);
        true
    }

    fn settle(&mut self, id: Id, report: &mut Changes<P>) {
        let changed = self.graph.settle(id);
        report.work.items_changed += changed.len();
        let slot = &self.graph[id];
        if slot.is_output {
            let index = &slot.key;
            report.items.extend(changed.into_iter().map(|(item, value)| ItemChange {
                index: index.clone(),
                item,
                value,
            }));
        }
    }

    /// Whether a computation panicked in the middle of an update.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.updating
    }

    /// The value of an input or derived node; `None` if it does not exist.
    #[must_use]
    pub fn get(&self, key: &P::Key) -> Option<&P::Value> {
        self.graph[self.graph.find(key)?].value.as_ref()
    }

    /// The entries of an index; empty if nobody contributes. A clone shares its structure, and stays as it is while
    /// the engine moves on.
    #[must_use]
    pub fn get_items(&self, index: &P::Key) -> &OrdMap<P::Item, P::ItemValue> {
        self.graph.find(index).map_or_else(|| self.graph.empty(), |id| self.graph.items(id))
    }

    /// Every input and derived node that has a value, in the order of the keys. Sorts: for dumps, not for hot paths.
    pub fn values(&self) -> impl Iterator<Item = (&P::Key, &P::Value)> {
        let mut values: Vec<_> =
            self.graph.slots().filter_map(|slot| Some((&slot.key, slot.value.as_ref()?))).collect();
        values.sort_unstable_by_key(|(key, _)| *key);
        values.into_iter()
    }

    /// Every index that has entries, in the order of the keys. Sorts: for dumps, not for hot paths.
    pub fn indexes(&self) -> impl Iterator<Item = (&P::Key, &OrdMap<P::Item, P::ItemValue>)> {
        let mut indexes: Vec<_> = self
            .graph
            .slots()
            .filter(|slot| matches!(slot.role, Role::Index { .. }))
            .map(|slot| (&slot.key, self.get_items(&slot.key)))
            .filter(|(_, items)| !items.is_empty())
            .collect();
        indexes.sort_unstable_by_key(|(key, _)| *key);
        indexes.into_iter()
    }

    /// What a derived node read in its last computation, in the order of the keys; for an index of which it read
    /// single entries, these entries.
    #[must_use]
    pub fn reads(&self, key: &P::Key) -> Vec<(&P::Key, Option<&P::Item>)> {
        let Some(id) = self.graph.find(key) else { return Vec::new() };
        let record = &self.graph[id].record;
        let whole = record.reads.iter().map(|target| (&self.graph[*target].key, None));
        let items = record.item_reads.iter().map(|(target, item)| (&self.graph[*target].key, Some(item)));
        let mut reads: Vec<_> = whole.chain(items).collect();
        reads.sort_unstable();
        reads
    }

    /// Who reads the value of a key or all entries of an index, in the order of the keys.
    #[must_use]
    pub fn readers(&self, key: &P::Key) -> Vec<&P::Key> {
        self.sorted_keys(self.graph.find(key).map(|id| self.graph.readers(id)))
    }

    /// Who reads one entry of an index by its key, in the order of the keys.
    #[must_use]
    pub fn item_readers(&self, index: &P::Key, item: &P::Item) -> Vec<&P::Key> {
        let cell = self.graph.find(index).and_then(|id| self.graph.cell(id));
        self.sorted_keys(cell.and_then(|cell| cell.readers_of(item)))
    }

    /// Who contributes an entry of an index, in the order of the keys; the first one's value counts.
    #[must_use]
    pub fn contributors(&self, index: &P::Key, item: &P::Item) -> Vec<&P::Key> {
        let cell = self.graph.find(index).and_then(|id| self.graph.cell(id));
        cell.map_or_else(Vec::new, |cell| cell.contributors_of(item))
    }

    fn sorted_keys<'a>(&'a self, ids: Option<&'a EdgeSet>) -> Vec<&'a P::Key> {
        let mut keys: Vec<_> = ids.into_iter().flat_map(EdgeSet::iter).map(|id| &self.graph[id].key).collect();
        keys.sort_unstable();
        keys
    }

    /// Counts what the engine holds. Visits every slot: for metrics and tests, not for hot paths.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { work: self.total, ..Stats::default() };
        for slot in self.graph.slots() {
            stats.keys += 1;
            stats.reads += slot.record.read_count();
            stats.contributions += slot.record.contributions.len();
            match slot.role {
                Role::Input => stats.inputs += usize::from(slot.value.is_some()),
                Role::Derived { .. } => stats.derived += usize::from(slot.live),
                Role::Index { .. } => {
                    let items = self.get_items(&slot.key).len();
                    stats.indexes += usize::from(items > 0);
                    stats.items += items;
                }
            }
        }
        stats
    }
}
