//! What a computation may do: read below itself, write above itself.

use imbl::OrdMap;

use crate::changes::{Rule, Violation};
use crate::edges::Id;
use crate::graph::Graph;
use crate::{Program, Role};

/// Given to a computation: every read is recorded as a dependency, every contribution and spawned node as an effect.
///
/// What a read returns lives as long as the computation, not only until the next call.
pub struct Reader<'a, P: Program> {
    program: &'a P,
    graph: &'a Graph<P>,
    actor: &'a P::Key,
    stage: u8,
    pub(crate) recording: Recording<P>,
}

/// What a computation read and did, before keys that are new become known to the graph.
pub(crate) struct Recording<P: Program> {
    pub(crate) reads: Vec<Id>,
    pub(crate) absent_reads: Vec<P::Key>,
    pub(crate) item_reads: Vec<(Id, P::Item)>,
    pub(crate) absent_item_reads: Vec<(P::Key, P::Item)>,
    pub(crate) spawned: Vec<P::Key>,
    pub(crate) contributions: Vec<(P::Key, P::Item, P::ItemValue)>,
    pub(crate) violations: Vec<Violation<P::Key>>,
}

impl<P: Program> Default for Recording<P> {
    fn default() -> Self {
        Self {
            reads: Vec::new(),
            absent_reads: Vec::new(),
            item_reads: Vec::new(),
            absent_item_reads: Vec::new(),
            spawned: Vec::new(),
            contributions: Vec::new(),
            violations: Vec::new(),
        }
    }
}

impl<P: Program> std::fmt::Debug for Reader<'_, P> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").field("actor", self.actor).finish_non_exhaustive()
    }
}

impl<'a, P: Program> Reader<'a, P> {
    pub(crate) fn new(program: &'a P, graph: &'a Graph<P>, actor: &'a P::Key, stage: u8) -> Self {
        Self { program, graph, actor, stage, recording: Recording::default() }
    }

    /// The value of an input or derived node of a lower stage; `None` if it does not exist. The computation runs
    /// again when the value becomes another one, or appears, or disappears.
    pub fn get(&mut self, key: &P::Key) -> Option<&'a P::Value> {
        let known = self.graph.find(key);
        let role = known.map_or_else(|| self.program.role(key), |id| self.graph[id].role);
        if matches!(role, Role::Index { .. }) || role.stage() >= self.stage {
            self.violate(key, Rule::ReadsNodesBelow);
            return None;
        }
        let Some(id) = known else {
            self.recording.absent_reads.push(key.clone());
            return None;
        };
        self.recording.reads.push(id);
        self.graph[id].value.as_ref()
    }

    /// All entries of an index of a lower stage. The computation runs again when any entry changes: where one entry
    /// is enough, [`get_item`](Self::get_item) costs less.
    pub fn get_items(&mut self, index: &P::Key) -> &'a OrdMap<P::Item, P::ItemValue> {
        let known = self.graph.find(index);
        if self.refuses_index(known, index) {
            return self.graph.empty();
        }
        let Some(id) = known else {
            self.recording.absent_reads.push(index.clone());
            return self.graph.empty();
        };
        self.recording.reads.push(id);
        self.graph.items(id)
    }

    /// One entry of an index of a lower stage; `None` if there is no such entry. The computation runs again only when
    /// that entry changes, appears or disappears.
    pub fn get_item(&mut self, index: &P::Key, item: &P::Item) -> Option<&'a P::ItemValue> {
        let known = self.graph.find(index);
        if self.refuses_index(known, index) {
            return None;
        }
        let Some(id) = known else {
            self.recording.absent_item_reads.push((index.clone(), item.clone()));
            return None;
        };
        self.recording.item_reads.push((id, item.clone()));
        self.graph.items(id).get(item)
    }

    /// Puts an entry into an index of a higher stage, for as long as the computation goes on doing so.
    ///
    /// Several nodes may contribute the same entry: the value of the one with the smallest key counts, and when that
    /// one withdraws, the next one's. A second contribution of the same entry by one computation replaces the first.
    pub fn contribute(&mut self, index: P::Key, item: P::Item, value: P::ItemValue) {
        let role = self.program.role(&index);
        if !matches!(role, Role::Index { .. }) || role.stage() <= self.stage {
            self.violate(&index, Rule::ContributesToIndexesAbove);
            return;
        }
        self.recording.contributions.push((index, item, value));
    }

    /// Asks for a derived node of a higher stage to exist. It lives while at least one computation asks for it.
    pub fn spawn(&mut self, key: P::Key) {
        let role = self.program.role(&key);
        if !matches!(role, Role::Derived { .. }) || role.stage() <= self.stage {
            self.violate(&key, Rule::SpawnsNodesAbove);
            return;
        }
        self.recording.spawned.push(key);
    }

    /// The key being computed.
    #[must_use]
    pub fn key(&self) -> &'a P::Key {
        self.actor
    }

    fn refuses_index(&mut self, known: Option<Id>, index: &P::Key) -> bool {
        let role = known.map_or_else(|| self.program.role(index), |id| self.graph[id].role);
        let refused = !matches!(role, Role::Index { .. }) || role.stage() >= self.stage;
        if refused {
            self.violate(index, Rule::ReadsIndexesBelow);
        }
        refused
    }

    fn violate(&mut self, target: &P::Key, rule: Rule) {
        self.recording.violations.push(Violation { actor: self.actor.clone(), target: target.clone(), rule });
    }
}
