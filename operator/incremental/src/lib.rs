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
mod program;
mod reader;

pub use changes::{Changes, ItemChange, NodeChange, Rule, Stats, Violation, Work};
pub use engine::Engine;
pub use program::{Program, Role};
pub use reader::Reader;
