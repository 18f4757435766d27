//! What a program may rely on, and what happens when it breaks a rule of the stages.

use osm_incremental::{Engine, Program, Reader, Role};

type Compute = fn(&'static str, &mut Reader<'_, Small>) -> Option<u32>;

/// A program of a few named keys: `input…` is an input, `index…` an index, others are nodes; a digit at the end is
/// the stage.
struct Small {
    roots: Vec<&'static str>,
    on_input: fn(&'static str, u32, &mut Reader<'_, Self>),
    compute: Compute,
}

impl Small {
    fn with_root(root: &'static str, compute: Compute) -> Engine<Self> {
        Engine::new(Self { roots: vec![root], on_input: |_, _, _| {}, compute })
    }

    fn with_inputs(on_input: fn(&'static str, u32, &mut Reader<'_, Self>), compute: Compute) -> Engine<Self> {
        Engine::new(Self { roots: Vec::new(), on_input, compute })
    }
}

impl Program for Small {
    type Key = &'static str;
    type Value = u32;
    type Item = &'static str;
    type ItemValue = u32;

    fn role(&self, key: &&'static str) -> Role {
        let stage = || key.as_bytes().last().map_or(0, |digit| digit - b'0');
        if key.starts_with("input") {
            Role::Input
        } else if key.starts_with("index") {
            Role::Index { stage: stage() }
        } else {
            Role::Derived { stage: stage() }
        }
    }
    fn roots(&self) -> Vec<&'static str> {
        self.roots.clone()
    }
    fn on_input(&self, input: &&'static str, value: &u32, reader: &mut Reader<'_, Self>) {
        (self.on_input)(input, *value, reader);
    }
    fn compute(&self, key: &&'static str, reader: &mut Reader<'_, Self>) -> Option<u32> {
        (self.compute)(key, reader)
    }
    fn is_output(&self, _: &&'static str) -> bool {
        true
    }
}

/// The owner of an engine may move to another thread, and share it for reading.
#[test]
fn an_engine_of_sendable_parts_can_be_sent_and_shared() {
    fn assert_send_and_sync<T: Send + Sync>() {}
    assert_send_and_sync::<Engine<Small>>();
}

fn nothing(_: &'static str, _: &mut Reader<'_, Small>) -> Option<u32> {
    None
}

#[test]
fn the_smallest_contributor_counts_and_the_next_one_succeeds_it() {
    let contribute =
        |_: &'static str, value: u32, reader: &mut Reader<'_, Small>| reader.contribute("index1", "x", value);
    let mut engine = Small::with_inputs(contribute, nothing);
    engine.update([("input b", Some(2))]);
    assert_eq!(engine.get_items(&"index1").get("x"), Some(&2));
    engine.update([("input a", Some(1)), ("input c", Some(3))]);
    assert_eq!(engine.get_items(&"index1").get("x"), Some(&1));
    assert_eq!(engine.contributors(&"index1", &"x"), [&"input a", &"input b", &"input c"]);

    let changes = engine.update([("input c", Some(30))]);
    assert!(changes.items.is_empty(), "one that does not count changes nothing");
    let changes = engine.update([("input a", None), ("input b", None)]);
    assert_eq!(changes.items.len(), 1);
    assert_eq!(changes.items[0].value, Some(30));
}

#[test]
fn an_entry_that_changes_hands_at_the_same_value_has_not_changed() {
    let contribute =
        |_: &'static str, value: u32, reader: &mut Reader<'_, Small>| reader.contribute("index1", "x", value);
    let mut engine = Small::with_inputs(contribute, nothing);
    engine.update([("input a", Some(1))]);
    let changes = engine.update([("input a", None), ("input b", Some(1))]);
    assert!(changes.items.is_empty());
    assert_eq!(changes.work.items_changed, 0);
}

#[test]
fn a_second_contribution_of_an_entry_replaces_the_first() {
    let mut engine = Small::with_root("node1", |_, reader| {
        reader.contribute("index2", "x", 1);
        reader.contribute("index2", "y", 2);
        reader.contribute("index2", "x", 3);
        Some(0)
    });
    engine.update([]);
    assert_eq!(engine.get_items(&"index2").iter().collect::<Vec<_>>(), [(&"x", &3), (&"y", &2)]);
}

#[test]
fn an_absent_node_has_no_effects_but_keeps_watching() {
    let mut engine = Small::with_root("node1", |key, reader| {
        if key == "node2" {
            return Some(9);
        }
        reader.contribute("index2", "x", 1);
        reader.spawn("node2");
        reader.get(&"input a").copied()
    });
    engine.update([]);
    assert!(engine.get_items(&"index2").is_empty());
    assert_eq!((engine.get(&"node1"), engine.get(&"node2")), (None, None));

    let changes = engine.update([("input a", Some(5))]);
    assert_eq!(changes.nodes.iter().map(|change| change.key).collect::<Vec<_>>(), ["node1", "node2"]);
    assert_eq!(engine.get_items(&"index2").get("x"), Some(&1));

    engine.update([("input a", None)]);
    assert_eq!(engine.get(&"node2"), None);
    assert!(engine.get_items(&"index2").is_empty());
}

#[test]
fn a_node_that_passes_from_one_spawner_to_another_is_not_computed_again() {
    let spawn = |input: &'static str, _: u32, reader: &mut Reader<'_, Small>| {
        if input != "input c" {
            reader.spawn("node1");
        }
    };
    let mut engine = Small::with_inputs(spawn, |_, reader| reader.get(&"input c").copied());
    assert_eq!(engine.update([("input a", Some(0))]).work.computed, 1);
    assert_eq!(engine.update([("input c", Some(0))]).work.computed, 1);
    let changes = engine.update([("input a", None), ("input b", Some(0)), ("input d", Some(0))]);
    assert_eq!((changes.work.computed, changes.work.removed), (0, 0));
    let changes = engine.update([("input b", None), ("input d", None), ("input c", None), ("input e", Some(0))]);
    assert_eq!((changes.work.computed, changes.work.removed), (1, 0));
    assert_eq!(engine.update([("input e", None)]).work.removed, 1);
    assert_eq!(engine.stats().keys, 0);
}

#[test]
fn the_last_value_of_an_input_within_one_update_counts() {
    let mut engine = Small::with_inputs(|_, _, _| {}, nothing);
    engine.update([("input a", Some(1)), ("input a", None), ("input a", Some(2))]);
    assert_eq!(engine.get(&"input a"), Some(&2));
    let changes = engine.update([("input a", Some(3)), ("input a", Some(2))]);
    assert_eq!(changes.work.inputs_changed, 0);
}

#[test]
fn a_snapshot_of_an_index_stays_as_it_is() {
    let contribute =
        |key: &'static str, value: u32, reader: &mut Reader<'_, Small>| reader.contribute("index1", key, value);
    let mut engine = Small::with_inputs(contribute, nothing);
    engine.update([("input a", Some(1))]);
    let before = engine.get_items(&"index1").clone();
    engine.update([("input a", Some(2)), ("input b", Some(2))]);
    assert_eq!(before.into_iter().collect::<Vec<_>>(), [("input a", 1)]);
}

#[test]
fn what_was_read_is_known_both_ways() {
    let mut engine = Small::with_root("node2", |_, reader| {
        reader.get(&"input a");
        reader.get_item(&"index1", &"x");
        reader.get_items(&"index 1");
        Some(0)
    });
    engine.update([]);
    assert_eq!(engine.reads(&"node2"), [(&"index 1", None), (&"index1", Some(&"x")), (&"input a", None)]);
    assert_eq!(engine.readers(&"input a"), [&"node2"]);
    assert_eq!(engine.item_readers(&"index1", &"x"), [&"node2"]);
    assert!(engine.readers(&"index1").is_empty());
}

#[test]
fn a_panic_in_a_computation_poisons_the_engine() {
    let mut engine = Small::with_root("node1", |_, reader| Some(10 / *reader.get(&"input a").unwrap_or(&1)));
    engine.update([]);
    assert!(!engine.is_poisoned());
    let update = std::panic::AssertUnwindSafe(|| engine.update([("input a", Some(0))]));
    assert!(std::panic::catch_unwind(update).is_err(), "division by zero");
    assert!(engine.is_poisoned());
}

/// Each case breaks one rule in the only computation of its program.
mod broken_rules {
    use super::{Engine, Small, nothing};

    /// With debug assertions the update panics with the message; without, it reports the violation and goes on.
    fn assert_reported(mut engine: Engine<Small>, set: &'static str, message: &str) {
        let update = std::panic::AssertUnwindSafe(|| engine.update([(set, Some(1))]));
        let outcome = std::panic::catch_unwind(update)
            .map(|changes| changes.violations.iter().map(ToString::to_string).collect::<Vec<_>>())
            .map_err(|panic| panic.downcast_ref::<String>().cloned());
        if cfg!(debug_assertions) {
            assert_eq!(outcome, Err(Some(message.to_owned())));
        } else {
            assert_eq!(outcome, Ok(vec![message.to_owned()]));
        }
    }

    #[test]
    fn reading_a_node_of_the_own_stage() {
        let engine = Small::with_root("node1", |_, reader| reader.get(&"other1").copied());
        let message = r#""node1" reads "other1", which is not an input or node of a lower stage"#;
        assert_reported(engine, "input", message);
    }

    #[test]
    fn reading_an_index_as_a_node() {
        let engine = Small::with_root("node2", |_, reader| reader.get(&"index1").copied());
        let message = r#""node2" reads "index1", which is not an input or node of a lower stage"#;
        assert_reported(engine, "input", message);
    }

    #[test]
    fn reading_an_index_of_the_own_stage() {
        let engine = Small::with_root("node1", |_, reader| reader.get_item(&"index1", &"x").copied());
        let message = r#""node1" reads entries of "index1", which is not an index of a lower stage"#;
        assert_reported(engine, "input", message);
    }

    #[test]
    fn reading_a_node_as_an_index() {
        let engine = Small::with_root("node2", |_, reader| u32::try_from(reader.get_items(&"other1").len()).ok());
        let message = r#""node2" reads entries of "other1", which is not an index of a lower stage"#;
        assert_reported(engine, "input", message);
    }

    #[test]
    fn contributing_to_an_index_of_the_own_stage() {
        let engine = Small::with_root("node1", |_, reader| {
            reader.contribute("index1", "x", 1);
            Some(0)
        });
        let message = r#""node1" contributes to "index1", which is not an index of a higher stage"#;
        assert_reported(engine, "input", message);
    }

    #[test]
    fn spawning_a_node_of_a_lower_stage() {
        let engine = Small::with_root("node2", |_, reader| {
            reader.spawn("other1");
            Some(0)
        });
        let message = r#""node2" spawns "other1", which is not a derived node of a higher stage"#;
        assert_reported(engine, "input", message);
    }

    #[test]
    fn reading_from_an_input() {
        let engine = Small::with_inputs(
            |_, _, reader| {
                reader.get(&"input b");
            },
            nothing,
        );
        let message = r#""input a" reads "input b", which is not an input or node of a lower stage"#;
        assert_reported(engine, "input a", message);
    }

    #[test]
    fn an_index_as_root() {
        let message = r#"the root "index1" is not a derived node"#;
        assert_reported(Small::with_root("index1", nothing), "input", message);
    }

    #[test]
    fn setting_a_node() {
        let message = r#""node1" was set from outside but is not an input"#;
        assert_reported(Small::with_inputs(|_, _, _| {}, nothing), "node1", message);
    }
}
