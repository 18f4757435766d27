//! What an update reports.

use std::fmt;

use crate::Program;

/// An entry of an output index that differs from what it was before the update.
pub struct ItemChange<P: Program> {
    /// The index.
    pub index: P::Key,
    /// The entry.
    pub item: P::Item,
    /// Its value now; `None` when it is gone.
    pub value: Option<P::ItemValue>,
}

/// An output node that differs from what it was before the update.
pub struct NodeChange<P: Program> {
    /// The node.
    pub key: P::Key,
    /// Its value now; `None` when it is gone.
    pub value: Option<P::Value>,
}

/// The effect of one [`Engine::update`](crate::Engine::update).
pub struct Changes<P: Program> {
    /// Entries of output indexes that changed, ordered by index and entry, each listed once.
    pub items: Vec<ItemChange<P>>,
    /// Output nodes that changed, ordered by key, each listed once.
    pub nodes: Vec<NodeChange<P>>,
    /// What the update cost.
    pub work: Work,
    /// Programming errors that were met. Each offending access was answered with "absent", or left out, so the
    /// results of the update cannot be trusted. A build with debug assertions panics instead.
    pub violations: Vec<Violation<P::Key>>,
}

impl<P: Program> Changes<P> {
    pub(crate) fn new() -> Self {
        Self { items: Vec::new(), nodes: Vec::new(), work: Work::default(), violations: Vec::new() }
    }

    /// Whether no output changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.nodes.is_empty()
    }

    /// Puts the lists into the order they promise: stages are an order of evaluation, not of presentation.
    pub(crate) fn sort(&mut self) {
        self.items.sort_by(|a, b| (&a.index, &a.item).cmp(&(&b.index, &b.item)));
        self.nodes.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

/// Names keys and entries, never values: those may hold secrets.
impl<P: Program> fmt::Debug for Changes<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<_> = self.items.iter().map(|change| (&change.index, &change.item)).collect();
        let nodes: Vec<_> = self.nodes.iter().map(|change| &change.key).collect();
        formatter
            .debug_struct("Changes")
            .field("items", &items)
            .field("nodes", &nodes)
            .field("work", &self.work)
            .field("violations", &self.violations)
            .finish()
    }
}

impl<P: Program> fmt::Debug for ItemChange<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ItemChange")
            .field("index", &self.index)
            .field("item", &self.item)
            .field("present", &self.value.is_some())
            .finish()
    }
}

impl<P: Program> fmt::Debug for NodeChange<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NodeChange").field("key", &self.key).field("present", &self.value.is_some()).finish()
    }
}

/// What an update cost, in counts that do not depend on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Inputs whose value became another one.
    pub inputs_changed: usize,
    /// Calls of [`Program::compute`].
    pub computed: usize,
    /// Computed nodes that existed before and whose value stayed the same: their readers were left alone.
    pub cut_off: usize,
    /// Derived nodes that were removed because nothing asks for them any more.
    pub removed: usize,
    /// Entries of indexes, outputs or not, that changed.
    pub items_changed: usize,
    /// Distinct keys and entries that were read by the computed nodes.
    pub reads: usize,
}

impl Work {
    pub(crate) fn add(&mut self, other: &Self) {
        self.inputs_changed += other.inputs_changed;
        self.computed += other.computed;
        self.cut_off += other.cut_off;
        self.removed += other.removed;
        self.items_changed += other.items_changed;
        self.reads += other.reads;
    }
}

/// What an engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys known, those included that are only read and do not exist.
    pub keys: usize,
    /// Inputs that have a value.
    pub inputs: usize,
    /// Derived nodes that are asked for.
    pub derived: usize,
    /// Indexes with at least one entry.
    pub indexes: usize,
    /// Entries of all indexes.
    pub items: usize,
    /// Recorded reads of keys and of entries.
    pub reads: usize,
    /// Recorded contributions.
    pub contributions: usize,
    /// The sum over all updates.
    pub work: Work,
}

/// A program broke a rule of the stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation<K> {
    /// Who did it; for [`Rule::SetsOnlyInputs`], the key itself.
    pub actor: K,
    /// The key that was accessed.
    pub target: K,
    /// The rule.
    pub rule: Rule,
}

/// The rules that keep evaluation free of cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// [`Reader::get`](crate::Reader::get) takes an input or derived node of a strictly lower stage.
    ReadsNodesBelow,
    /// [`Reader::get_items`](crate::Reader::get_items) and [`Reader::get_item`](crate::Reader::get_item) take an
    /// index of a strictly lower stage.
    ReadsIndexesBelow,
    /// [`Reader::contribute`](crate::Reader::contribute) takes an index of a strictly higher stage.
    ContributesToIndexesAbove,
    /// [`Reader::spawn`](crate::Reader::spawn) takes a derived node of a strictly higher stage.
    SpawnsNodesAbove,
    /// [`Program::roots`] are derived nodes.
    RootsAreDerived,
    /// [`Engine::update`](crate::Engine::update) sets inputs only.
    SetsOnlyInputs,
}

impl<K: fmt::Debug> fmt::Display for Violation<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { actor, target, rule } = self;
        match rule {
            Rule::ReadsNodesBelow => {
                write!(formatter, "{actor:?} reads {target:?}, which is not an input or node of a lower stage")
            }
            Rule::ReadsIndexesBelow => {
                write!(formatter, "{actor:?} reads entries of {target:?}, which is not an index of a lower stage")
            }
            Rule::ContributesToIndexesAbove => {
                write!(formatter, "{actor:?} contributes to {target:?}, which is not an index of a higher stage")
            }
            Rule::SpawnsNodesAbove => {
                write!(formatter, "{actor:?} spawns {target:?}, which is not a derived node of a higher stage")
            }
            Rule::RootsAreDerived => write!(formatter, "the root {target:?} is not a derived node"),
            Rule::SetsOnlyInputs => write!(formatter, "{target:?} was set from outside but is not an input"),
        }
    }
}
