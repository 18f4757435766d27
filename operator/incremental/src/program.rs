//! What the user of the engine supplies: the keys, what each of them is, and how a node is computed.

use std::fmt::Debug;
use std::hash::Hash;

use crate::Reader;

/// What a key stands for, and where in the order of evaluation it sits.
///
/// Whoever reads a key sits strictly above it, and whoever writes one (by contributing to an index, or by asking for
/// a node to exist) sits strictly below it. Cycles are therefore impossible, and one pass over the stages, upwards,
/// settles everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A value set from outside with [`Engine::update`](crate::Engine::update). Its stage is 0.
    Input,
    /// A node computed by [`Program::compute`] while something asks for it.
    Derived {
        /// At least 1.
        stage: u8,
    },
    /// An ordered map that is the sum of what many nodes contribute to it.
    Index {
        /// At least 1; above the stage of every contributor.
        stage: u8,
    },
}

impl Role {
    /// The place in the order of evaluation; 0 for inputs.
    #[must_use]
    pub fn stage(self) -> u8 {
        match self {
            Self::Input => 0,
            Self::Derived { stage } | Self::Index { stage } => stage,
        }
    }
}

/// A computation over keyed values.
///
/// Every function here must be pure: its result may depend on its arguments, and on what it reads through the
/// [`Reader`], and on nothing else. The engine calls it as seldom as it can and in an order of its own.
pub trait Program: Sized {
    /// Names an input, a derived node or an index: usually one `enum` over all of them, cheap to clone.
    type Key: Clone + Ord + Hash + Debug;
    /// What inputs and derived nodes hold: usually an `enum` of `Arc`s. Equality is the early cut-off: a node whose
    /// new value equals its former one does not disturb its readers.
    type Value: Clone + Eq;
    /// The key of an entry within an index.
    type Item: Clone + Ord + Hash + Debug;
    /// The value of an entry within an index.
    type ItemValue: Clone + Eq;

    /// What `key` is. Must give the same answer for the same key always.
    fn role(&self, key: &Self::Key) -> Role;

    /// Derived nodes that exist whatever the inputs are.
    fn roots(&self) -> Vec<Self::Key> {
        Vec::new()
    }

    /// What follows from an input having a value: nodes to be spawned, entries contributed to indexes. Called when
    /// the value is set or changed. An input reads nothing.
    fn on_input(&self, _input: &Self::Key, _value: &Self::Value, _reader: &mut Reader<'_, Self>) {}

    /// The value of the derived node `key`.
    ///
    /// `None` says that there is no such thing: readers see the key as absent, and whatever this run contributed or
    /// spawned is discarded. What it read stays recorded, so the node is computed again when that changes.
    fn compute(&self, key: &Self::Key, reader: &mut Reader<'_, Self>) -> Option<Self::Value>;

    /// Whether changes of this derived node or index are listed in [`Changes`](crate::Changes).
    fn is_output(&self, _key: &Self::Key) -> bool {
        false
    }
}
