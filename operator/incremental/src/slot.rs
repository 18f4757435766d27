//! What is known about one key.

use crate::cell::Cell;
use crate::edges::{EdgeSet, Id};
use crate::{Program, Role};

/// Everything known about one key.
pub(crate) struct Slot<P: Program> {
    pub(crate) key: P::Key,
    pub(crate) role: Role,
    pub(crate) is_output: bool,
    /// Of an input or a derived node.
    pub(crate) value: Option<P::Value>,
    /// A derived node that has been computed since something asked for it.
    pub(crate) live: bool,
    /// Something it read has changed since it was computed.
    pub(crate) stale: bool,
    /// It is on the agenda.
    pub(crate) scheduled: bool,
    /// How many ask for a derived node to exist.
    pub(crate) wanted: u32,
    /// Who reads the value, or all entries of the index.
    pub(crate) readers: EdgeSet,
    pub(crate) record: Record<P>,
    /// Of an index that has contributors or readers of single entries.
    pub(crate) cell: Option<Box<Cell<P>>>,
}

impl<P: Program> Slot<P> {
    /// A key of which nothing is known yet but what the program says.
    pub(crate) fn new(key: P::Key, program: &P) -> Self {
        Self {
            role: program.role(&key),
            is_output: program.is_output(&key),
            key,
            value: None,
            live: false,
            stale: false,
            scheduled: false,
            wanted: 0,
            readers: EdgeSet::default(),
            record: Record::default(),
            cell: None,
        }
    }
}

/// What the last computation of a node read and did; each list is sorted and free of duplicates.
pub(crate) struct Record<P: Program> {
    pub(crate) reads: Vec<Id>,
    pub(crate) item_reads: Vec<(Id, P::Item)>,
    pub(crate) spawned: Vec<Id>,
    pub(crate) contributions: Vec<(Id, P::Item, P::ItemValue)>,
}

impl<P: Program> Default for Record<P> {
    fn default() -> Self {
        Self { reads: Vec::new(), item_reads: Vec::new(), spawned: Vec::new(), contributions: Vec::new() }
    }
}

impl<P: Program> Record<P> {
    pub(crate) fn read_count(&self) -> usize {
        self.reads.len() + self.item_reads.len()
    }
}
