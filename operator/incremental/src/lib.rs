//! Keeps what follows from changing inputs up to date, with work proportional to what a change affects.
//!
//! A [`Program`] says how values follow from other values; an [`Engine`] holds them all. [`Engine::update`] sets
//! inputs, recomputes the nodes that read them, stops wherever a value turns out to be the same as before, and
//! returns the exact list of outputs that are different now.
//!
//! - **Reads are recorded.** A node reads through its [`Reader`], which makes the read a dependency: on a key
//!   ([`get`](Reader::get)), on a whole index ([`get_items`](Reader::get_items)) or on one entry of an index
//!   ([`get_item`](Reader::get_item)). That something is absent is a dependency too.
//! - **Indexes are sums.** An index is an ordered map to which many nodes [`contribute`](Reader::contribute) entries:
//!   reverse look-ups, and the outputs. When a node runs again, its contributions are compared with its former ones
//!   and only the entries that differ are touched, so an index of ten thousand entries costs nothing when one changes.
//! - **Nodes live while they are asked for.** Inputs and nodes [`spawn`](Reader::spawn) other nodes. What nobody asks
//!   for is removed, its contributions are withdrawn, and its memory is freed.
//! - **Stages forbid cycles.** Every key has a stage ([`Role`]); reads go down, contributions and spawned nodes go up.
//!   One pass over the stages settles an update, and each node runs at most once in it.
//!
//! The result depends on the inputs alone: not on the order in which they arrived, nor on what was there before.
//! Nothing here does I/O, reads a clock or uses randomness.
//!
//! # What this is not
//!
//! - A database or a dataflow system: no queries, no joins, no timestamps. Programs are plain functions.
//! - Parallel or asynchronous. An update is one pass on the caller's thread.
//! - Demand-driven. Everything that is asked for is kept up to date at once, because a change has to be *pushed* to
//!   those whom it concerns, and somebody has to say who they are.
//!
//! # Why not `salsa`
//!
//! `salsa` memoises functions, and checks on demand whether a result is still valid by walking the result's
//! dependencies. Whoever asks for an aggregate, such as all clusters of a mesh, pays for a walk over all its parts
//! after every change, the parts that nobody touched included; and as there are no reverse edges, nobody can ask
//! which results a change concerns. One change of one of *n* items, then the new state of what is made of all of
//! them (medians, in microseconds, `salsa` 0.28.5, release build, both on the same machine):
//!
//! | *n* | `salsa`: sum over the items | `salsa`: same, item cut off | `salsa`: only the changed item | here: the changed entry of an index | here: cut off |
//! |---|---|---|---|---|---|
//! | 100 | 9 | 6 | 0.2 | 1.1 | 0.7 |
//! | 1,000 | 87 | 56 | 0.2 | 1.2 | 0.6 |
//! | 10,000 | 914 | 567 | 0.5 | 2.2 | 0.6 |
//! | 100,000 | 12,600 | 5,850 | 6 | 3.5 | 0.6 |
//!
//! The column "only the changed item" shows that `salsa` itself is fast: what is missing is knowing which item that is.
//! The price of keeping the edges is memory: about 700 bytes for an input, the node that reads it, and the entry that
//! the node contributes.
//!
//! # The path through it
//!
//! `engine` sets the inputs and takes one stage of the agenda after the other; `reader` records what a computation
//! reads and does; `graph` numbers the keys (a `slot` each), compares a computation's record with its former one,
//! moves the edges and schedules who is affected; `cell` sums contributions into an index; `changes` is what comes out.
//!
//! # Example
//!
//! Which text contains a word:
//!
//! ```
//! use osm_incremental::{Engine, Program, Reader, Role};
//!
//! #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
//! enum Key {
//!     Text(&'static str),
//!     Words(&'static str),
//!     TextOfWord,
//! }
//!
//! struct Search;
//!
//! impl Program for Search {
//!     type Key = Key;
//!     type Value = String;
//!     type Item = String;
//!     type ItemValue = &'static str;
//!
//!     fn role(&self, key: &Key) -> Role {
//!         match key {
//!             Key::Text(_) => Role::Input,
//!             Key::Words(_) => Role::Derived { stage: 1 },
//!             Key::TextOfWord => Role::Index { stage: 2 },
//!         }
//!     }
//!     fn on_input(&self, input: &Key, _: &String, reader: &mut Reader<'_, Self>) {
//!         if let Key::Text(name) = input {
//!             reader.spawn(Key::Words(name));
//!         }
//!     }
//!     fn compute(&self, key: &Key, reader: &mut Reader<'_, Self>) -> Option<String> {
//!         let Key::Words(name) = key else { return None };
//!         let text = reader.get(&Key::Text(name))?.to_lowercase();
//!         for word in text.split_whitespace() {
//!             reader.contribute(Key::TextOfWord, word.to_owned(), name);
//!         }
//!         Some(text)
//!     }
//!     fn is_output(&self, key: &Key) -> bool {
//!         *key == Key::TextOfWord
//!     }
//! }
//!
//! let mut engine = Engine::new(Search);
//! engine.update([
//!     (Key::Text("a"), Some("Envoy asks".into())),
//!     (Key::Text("b"), Some("envoy answers".into())),
//! ]);
//! // Both have the word: the smallest contributor counts.
//! assert_eq!(engine.get_items(&Key::TextOfWord).get("envoy"), Some(&"a"));
//!
//! let changes = engine.update([(Key::Text("a"), None)]);
//! let changed: Vec<_> = changes.items.iter().map(|change| (change.item.as_str(), change.value)).collect();
//! assert_eq!(changed, [("asks", None), ("envoy", Some("b"))]);
//! assert_eq!(changes.work.computed, 0); // nothing had to run: one node was removed
//! ```

mod cell;
mod changes;
mod edges;
mod engine;
mod graph;
mod hash;
mod program;
mod reader;
mod slot;
mod slots;

pub use changes::{Changes, ItemChange, NodeChange, Rule, Stats, Violation, Work};
pub use engine::Engine;
pub use program::{Program, Role};
pub use reader::Reader;
