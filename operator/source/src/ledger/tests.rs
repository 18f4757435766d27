use osm_api::{Strictness, decode};
use serde_json::json;

use super::*;

fn account(name: &str, label: &str, generation: Option<i64>) -> Declared {
    let mut value =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "labels": {"l": label}}});
    if let Some(generation) = generation {
        value["metadata"]["generation"] = generation.into();
    }
    let object = decode(value, Strictness::Strict).unwrap();
    Declared { reference: object.reference(), object, place: Place { document: 1, line: 1 } }
}

fn file(objects: Vec<Declared>) -> Manifest {
    Manifest { objects, ..Manifest::default() }
}

fn path(name: &str) -> Arc<Path> {
    Arc::from(Path::new(name))
}

/// Name, label and generation of each change; a label of `-` for objects that are gone.
fn settle(ledger: &mut Ledger) -> Vec<(String, String, i64)> {
    let changes = ledger.settle();
    changes
        .into_iter()
        .map(|(reference, object)| match object {
            Some(object) => {
                let metadata = object.metadata();
                (reference.name, metadata.labels.as_ref().unwrap()["l"].clone(), metadata.generation.unwrap())
            }
            None => (reference.name, "-".to_owned(), 0),
        })
        .collect()
}

fn change(name: &str, label: &str, generation: i64) -> (String, String, i64) {
    (name.to_owned(), label.to_owned(), generation)
}

#[test]
fn generations_count_the_changes_of_content() {
    let mut ledger = Ledger::default();
    ledger.put(&path("a"), file(vec![account("x", "1", None), account("y", "1", None)]));
    assert_eq!(settle(&mut ledger), [change("x", "1", 1), change("y", "1", 1)]);
    ledger.put(&path("a"), file(vec![account("y", "1", None), account("x", "2", None)]));
    assert_eq!(settle(&mut ledger), [change("x", "2", 2)]);
    ledger.put(&path("a"), file(vec![account("y", "1", None), account("x", "2", None)]));
    assert_eq!(settle(&mut ledger), []);
    ledger.put(&path("a"), file(vec![account("x", "2", None)]));
    assert_eq!(settle(&mut ledger), [change("y", "-", 0)]);
    ledger.put(&path("b"), file(vec![account("y", "1", None)]));
    assert_eq!(settle(&mut ledger), [change("y", "1", 1)], "an object that comes back is a new one");
}

#[test]
fn a_generation_that_is_written_is_kept_and_counting_goes_on_from_it() {
    let mut ledger = Ledger::default();
    ledger.put(&path("a"), file(vec![account("x", "1", Some(40))]));
    assert_eq!(settle(&mut ledger), [change("x", "1", 40)]);
    ledger.put(&path("a"), file(vec![account("x", "1", Some(50))]));
    assert_eq!(settle(&mut ledger), [change("x", "1", 50)]);
    ledger.put(&path("a"), file(vec![account("x", "2", None)]));
    assert_eq!(settle(&mut ledger), [change("x", "2", 51)]);
    ledger.put(&path("a"), file(vec![account("x", "2", Some(i64::MAX))]));
    assert_eq!(settle(&mut ledger), [change("x", "2", i64::MAX)]);
    ledger.put(&path("a"), file(vec![account("x", "3", None)]));
    assert_eq!(settle(&mut ledger), [change("x", "3", i64::MAX)]);
}

#[test]
fn an_object_that_moves_to_another_file_does_not_change() {
    let mut ledger = Ledger::default();
    ledger.put(&path("a"), file(vec![account("x", "1", None)]));
    settle(&mut ledger);
    ledger.put(&path("b"), file(vec![account("x", "1", None)]));
    let problems = ledger.problems();
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["b:1: serviceaccount/default/x: is declared already at a:1 (document 1); remove one of the two or rename it"]
    );
    ledger.remove(Path::new("a"));
    assert_eq!(ledger.problems(), []);
    assert_eq!(settle(&mut ledger), []);
}

#[test]
fn duplicates_are_found_within_a_file_and_gone_with_it() {
    let mut ledger = Ledger::default();
    ledger.put(&path("a"), file(vec![account("x", "1", None), account("x", "2", None), account("x", "3", None)]));
    assert_eq!(ledger.problems().len(), 2);
    ledger.remove(Path::new("a"));
    assert_eq!(ledger.problems(), []);
    assert_eq!(settle(&mut ledger), []);
}

#[test]
fn settled_objects_share_memory_with_the_last_good_state() {
    let mut ledger = Ledger::default();
    ledger.put(&path("a"), file(vec![account("x", "1", None)]));
    let changes = ledger.settle();
    let Some(Object::ServiceAccount(given)) = &changes[0].1 else { panic!("{changes:?}") };
    ledger.put(&path("a"), file(vec![account("x", "1", None)]));
    assert_eq!(ledger.settle(), []);
    // The one given out, the last good state's, and the file's.
    assert_eq!(Arc::strong_count(given), 3);
}

#[test]
fn ignored_kinds_are_counted_over_all_files() {
    let kind = IgnoredKind { api_version: "apps/v1".to_owned(), kind: "Deployment".to_owned() };
    let ignoring = |count| Manifest { ignored: BTreeMap::from([(kind.clone(), count)]), ..Manifest::default() };
    let mut ledger = Ledger::default();
    ledger.put(&path("a"), ignoring(2));
    ledger.put(&path("b"), ignoring(3));
    assert_eq!(ledger.ignored()[&kind], 5);
    ledger.remove(Path::new("a"));
    assert_eq!(ledger.ignored()[&kind], 3);
    ledger.put(&path("b"), Manifest::default());
    assert!(ledger.ignored().is_empty());
}
