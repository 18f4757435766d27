//! Programs drawn at random, and one interpreter for them that runs on an engine and on the naive evaluator alike.

use std::collections::BTreeMap;

use osm_incremental::{Program, Reader, Role};
use proptest::prelude::*;

pub(crate) const INPUTS: u8 = 4;
pub(crate) const STAGES: u8 = 4;
const NODES_PER_STAGE: u8 = 3;
const INDEXES_PER_STAGE: u8 = 2;
const ITEMS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    // Indexes sort before nodes, and stages sort downwards, so that no result is right merely because keys happen to
    // sort in the order of evaluation.
    Index { downwards: u8, number: u8 },
    Node { downwards: u8, number: u8 },
    Input(u8),
}

impl Key {
    pub(crate) fn stage(self) -> u8 {
        match self {
            Self::Input(_) => 0,
            Self::Node { downwards, .. } | Self::Index { downwards, .. } => STAGES + 1 - downwards,
        }
    }
}

fn node(stage: u8, number: u8) -> Key {
    Key::Node { downwards: STAGES + 1 - stage, number: number % NODES_PER_STAGE }
}

fn index(stage: u8, number: u8) -> Key {
    Key::Index { downwards: STAGES + 1 - stage, number: number % INDEXES_PER_STAGE }
}

/// Every node and input there can be, in the order of the keys.
pub(crate) fn all_nodes() -> Vec<Key> {
    let mut keys: Vec<Key> = (0..INPUTS).map(Key::Input).collect();
    keys.extend((1..=STAGES).flat_map(|stage| (0..NODES_PER_STAGE).map(move |number| node(stage, number))));
    keys.sort_unstable();
    keys
}

pub(crate) fn all_indexes() -> Vec<Key> {
    let mut keys: Vec<Key> =
        (1..=STAGES).flat_map(|stage| (0..INDEXES_PER_STAGE).map(move |number| index(stage, number))).collect();
    keys.sort_unstable();
    keys
}

/// One step of a computation. `state` is a number that every step may change and on which later steps depend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Get(Key),
    GetItem(Key),
    GetItems(Key),
    Contribute(Key),
    Spawn(Key),
    /// Leaves out the next steps for some states: what is read and done depends on what was read before.
    SkipIf {
        remainder: u32,
        steps: usize,
    },
    /// There is no such node for some states.
    VanishIf {
        remainder: u32,
    },
}

/// What a computation may do, on whatever evaluates it.
pub(crate) trait Access {
    fn get(&mut self, key: Key) -> Option<u32>;
    fn get_item(&mut self, index: Key, item: u32) -> Option<u32>;
    fn get_items(&mut self, index: Key) -> Vec<(u32, u32)>;
    fn contribute(&mut self, index: Key, item: u32, value: u32);
    fn spawn(&mut self, key: Key);
}

impl Access for Reader<'_, RandomProgram> {
    fn get(&mut self, key: Key) -> Option<u32> {
        Reader::get(self, &key).copied()
    }
    fn get_item(&mut self, index: Key, item: u32) -> Option<u32> {
        Reader::get_item(self, &index, &item).copied()
    }
    fn get_items(&mut self, index: Key) -> Vec<(u32, u32)> {
        Reader::get_items(self, &index).iter().map(|(item, value)| (*item, *value)).collect()
    }
    fn contribute(&mut self, index: Key, item: u32, value: u32) {
        Reader::contribute(self, index, item, value);
    }
    fn spawn(&mut self, key: Key) {
        Reader::spawn(self, key);
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RandomProgram {
    pub(crate) steps: BTreeMap<Key, Vec<Step>>,
    pub(crate) roots: Vec<Key>,
}

impl RandomProgram {
    /// Runs the steps of `key`. Values are few, so that they often stay the same.
    pub(crate) fn run(&self, key: Key, start: u32, access: &mut impl Access) -> Option<u32> {
        let mut state = start;
        let mix = |state: &mut u32, read: u32| *state = (*state * 7 + read + 1) % 59;
        let mut steps = self.steps[&key].iter();
        while let Some(step) = steps.next() {
            match *step {
                Step::Get(key) => mix(&mut state, access.get(key).map_or(0, |value| value + 1)),
                Step::GetItem(index) => {
                    let value = access.get_item(index, state % ITEMS);
                    mix(&mut state, value.map_or(0, |value| value + 1));
                }
                Step::GetItems(index) => {
                    for (item, value) in access.get_items(index) {
                        mix(&mut state, item * 5 + value);
                    }
                }
                Step::Contribute(index) => access.contribute(index, state % ITEMS, state % 4),
                Step::Spawn(key) => access.spawn(key),
                Step::SkipIf { remainder, steps: count } => {
                    if state % 3 == remainder {
                        steps.by_ref().take(count).for_each(drop);
                    }
                }
                Step::VanishIf { remainder } => {
                    if state % 4 == remainder {
                        return None;
                    }
                }
            }
        }
        Some(state % 4)
    }
}

impl Program for RandomProgram {
    type Key = Key;
    type Value = u32;
    type Item = u32;
    type ItemValue = u32;

    fn role(&self, key: &Key) -> Role {
        match key {
            Key::Input(_) => Role::Input,
            Key::Node { .. } => Role::Derived { stage: key.stage() },
            Key::Index { .. } => Role::Index { stage: key.stage() },
        }
    }

    fn roots(&self) -> Vec<Key> {
        self.roots.clone()
    }

    fn on_input(&self, input: &Key, value: &u32, reader: &mut Reader<'_, Self>) {
        // An input's value is what was set, whatever its steps make of it.
        self.run(*input, *value, reader);
    }

    fn compute(&self, key: &Key, reader: &mut Reader<'_, Self>) -> Option<u32> {
        self.run(*key, 0, reader)
    }

    fn is_output(&self, key: &Key) -> bool {
        matches!(key, Key::Node { number: 0 | 1, .. } | Key::Index { number: 0, .. })
    }
}

fn step_of(key: Key, (kind, stage, number): (u8, u8, u8)) -> Option<Step> {
    let own = key.stage();
    let below = (own > 0).then(|| stage % own);
    let nodes_below = below.map(|stage| if stage == 0 { Key::Input(number % INPUTS) } else { node(stage, number) });
    let index_below = below.filter(|stage| *stage > 0).map(|stage| index(stage, number));
    let above = (own < STAGES).then(|| own + 1 + stage % (STAGES - own));
    match kind {
        0..=3 => nodes_below.map(Step::Get),
        4..=6 => index_below.map(Step::GetItem),
        7..=8 => index_below.map(Step::GetItems),
        9..=12 => above.map(|stage| Step::Contribute(index(stage, number))),
        13..=20 => above.map(|stage| Step::Spawn(node(stage, number))),
        21..=22 => Some(Step::SkipIf { remainder: u32::from(stage) % 3, steps: 1 + usize::from(number % 2) }),
        // Inputs do not vanish.
        _ => (own > 0).then_some(Step::VanishIf { remainder: u32::from(stage) % 4 }),
    }
}

pub(crate) fn programs() -> impl Strategy<Value = RandomProgram> {
    let raw = proptest::collection::vec((0..24_u8, any::<u8>(), any::<u8>()), 2..10);
    let keys = all_nodes();
    let per_key = proptest::collection::vec(raw, keys.len());
    let roots = proptest::collection::vec((1..=STAGES, 0..NODES_PER_STAGE), 0..3);
    (per_key, roots).prop_map(move |(per_key, roots)| RandomProgram {
        steps: keys
            .iter()
            .zip(per_key)
            .map(|(key, raw)| (*key, raw.into_iter().filter_map(|raw| step_of(*key, raw)).collect()))
            .collect(),
        roots: roots
            .into_iter()
            .map(|(stage, number)| node(stage, number))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect(),
    })
}

pub(crate) type Change = (Key, Option<u32>);

/// Updates, each of which sets, changes and removes a few inputs.
pub(crate) fn histories() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change =
        (0..INPUTS, proptest::option::weighted(0.7, 0..6_u32)).prop_map(|(input, value)| (Key::Input(input), value));
    proptest::collection::vec(proptest::collection::vec(change, 0..4), 1..14)
}
