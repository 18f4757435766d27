//! Whatever happened before, an engine holds what follows from its inputs, and no more.

#[path = "scratch/naive.rs"]
mod naive;
#[path = "scratch/random_program.rs"]
mod random_program;

use std::collections::BTreeMap;

use naive::Naive;
use osm_incremental::{Changes, Engine, Program, Stats, Work};
use proptest::prelude::*;
use random_program::{Change, Key, RandomProgram, all_indexes, all_nodes, histories, programs};

/// Everything an engine holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    values: BTreeMap<Key, u32>,
    items: BTreeMap<(Key, u32), u32>,
}

impl State {
    fn of(engine: &Engine<RandomProgram>) -> Self {
        Self {
            values: engine.values().map(|(key, value)| (*key, *value)).collect(),
            items: engine
                .indexes()
                .flat_map(|(index, items)| items.iter().map(|(item, value)| ((*index, *item), *value)))
                .collect(),
        }
    }

    fn naive(program: &RandomProgram, inputs: &BTreeMap<Key, u32>) -> Self {
        let naive = Naive { program, inputs };
        Self {
            values: all_nodes().into_iter().filter_map(|key| Some((key, naive.outcome(key)?.value))).collect(),
            items: all_indexes()
                .into_iter()
                .flat_map(|index| naive.items(index).into_iter().map(move |(item, value)| ((index, item), value)))
                .collect(),
        }
    }

    fn outputs(&self, program: &RandomProgram) -> Self {
        Self {
            values: self.values.iter().filter(|(key, _)| program.is_output(key)).map(|(k, v)| (*k, *v)).collect(),
            items: self
                .items
                .iter()
                .filter(|((index, _), _)| program.is_output(index))
                .map(|(k, v)| (*k, *v))
                .collect(),
        }
    }
}

/// Nodes, and entries of indexes, with their values after an update.
type Reported = (Vec<(Key, Option<u32>)>, Vec<((Key, u32), Option<u32>)>);

/// The changes that lead from one state to the next, in the order and form in which an engine must report them.
fn expected_changes(before: &State, after: &State) -> Reported {
    (map_changes(&before.values, &after.values), map_changes(&before.items, &after.items))
}

fn map_changes<K: Ord + Copy>(before: &BTreeMap<K, u32>, after: &BTreeMap<K, u32>) -> Vec<(K, Option<u32>)> {
    let keys: std::collections::BTreeSet<K> = before.keys().chain(after.keys()).copied().collect();
    keys.into_iter()
        .filter(|key| before.get(key) != after.get(key))
        .map(|key| (key, after.get(&key).copied()))
        .collect()
}

fn reported_changes(changes: &Changes<RandomProgram>) -> Reported {
    (
        changes.nodes.iter().map(|change| (change.key, change.value)).collect(),
        changes.items.iter().map(|change| ((change.index, change.item), change.value)).collect(),
    )
}

/// What an engine holds, without how it came to hold it.
fn holdings(engine: &Engine<RandomProgram>) -> Stats {
    Stats { work: Work::default(), ..engine.stats() }
}

fn scratch(program: &RandomProgram, inputs: &BTreeMap<Key, u32>) -> Engine<RandomProgram> {
    let mut engine = Engine::new(program.clone());
    engine.update(inputs.iter().map(|(key, value)| (*key, Some(*value))));
    engine
}

fn apply(inputs: &mut BTreeMap<Key, u32>, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => inputs.insert(*key, *value),
            None => inputs.remove(key),
        };
    }
}

/// Every recorded read is known to the one that is read, and nothing else is.
fn assert_edges_agree(engine: &Engine<RandomProgram>) {
    for key in all_nodes() {
        for (target, item) in engine.reads(&key) {
            let readers = match item {
                None => engine.readers(target),
                Some(item) => engine.item_readers(target, item),
            };
            assert!(readers.contains(&&key), "{key:?} reads {target:?} {item:?}, which does not know");
        }
    }
    for key in all_nodes().into_iter().chain(all_indexes()) {
        for reader in engine.readers(&key) {
            assert!(engine.reads(reader).contains(&(&key, None)), "{key:?} thinks that {reader:?} reads it");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_scratch(program in programs(), history in histories()) {
        let mut engine = Engine::new(program.clone());
        let mut inputs = BTreeMap::new();
        let mut before = State::default();
        for changes in &history {
            let report = engine.update(changes.iter().copied());
            apply(&mut inputs, changes);
            let state = State::of(&engine);
            let fresh = scratch(&program, &inputs);
            prop_assert_eq!(&state, &State::of(&fresh), "values");
            prop_assert_eq!(holdings(&engine), holdings(&fresh), "memory depends on the past");
            let after = state.outputs(&program);
            prop_assert_eq!(reported_changes(&report), expected_changes(&before, &after), "reported changes");
            assert_edges_agree(&engine);
            before = after;
        }
        let again = engine.update(inputs.iter().map(|(key, value)| (*key, Some(*value))));
        prop_assert!(again.is_empty());
        prop_assert_eq!(again.work, Work::default(), "equal inputs are no work");

        engine.update(inputs.keys().map(|key| (*key, None)));
        prop_assert_eq!(holdings(&engine), holdings(&scratch(&program, &BTreeMap::new())), "something was left over");
    }

    #[test]
    fn the_order_of_events_does_not_matter(
        program in programs(),
        (events, permuted) in histories()
            .prop_map(|history| {
                let mut inputs = BTreeMap::new();
                history.iter().for_each(|changes| apply(&mut inputs, changes));
                inputs.into_iter().map(|(key, value)| (key, Some(value))).collect::<Vec<_>>()
            })
            .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
    ) {
        let mut together = Engine::new(program.clone());
        together.update(events);
        let mut one_by_one = Engine::new(program);
        one_by_one.update([]);
        for event in permuted {
            one_by_one.update([event]);
        }
        prop_assert_eq!(State::of(&together), State::of(&one_by_one));
        prop_assert_eq!(holdings(&together), holdings(&one_by_one));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_naive_recursion(program in programs(), history in histories()) {
        let mut engine = Engine::new(program.clone());
        let mut inputs = BTreeMap::new();
        for changes in &history {
            engine.update(changes.iter().copied());
            apply(&mut inputs, changes);
        }
        prop_assert_eq!(State::of(&engine), State::naive(&program, &inputs));
    }
}

/// The properties above would hold in a world where nothing ever happens. This one shows that things happen in it.
#[test]
fn random_programs_reach_every_mechanism() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut work = Work::default();
    let (mut shared_entries, mut absent_reads, mut item_reads) = (0, 0, 0);
    for _ in 0..200 {
        let program = programs().new_tree(&mut runner).expect("no filter can fail").current();
        let history = histories().new_tree(&mut runner).expect("no filter can fail").current();
        let mut engine = Engine::new(program);
        for changes in history {
            engine.update(changes);
            let state = State::of(&engine);
            shared_entries +=
                state.items.keys().filter(|(index, item)| engine.contributors(index, item).len() > 1).count();
            for (target, item) in all_nodes().iter().flat_map(|key| engine.reads(key)) {
                item_reads += usize::from(item.is_some());
                absent_reads += usize::from(item.is_none() && engine.get(target).is_none());
            }
        }
        let total = engine.stats().work;
        work.cut_off += total.cut_off;
        work.removed += total.removed;
        work.items_changed += total.items_changed;
    }
    let seen = [work.cut_off, work.removed, work.items_changed, shared_entries, absent_reads, item_reads];
    assert!(seen.iter().all(|count| *count > 100), "too little happens: {seen:?}");
}
