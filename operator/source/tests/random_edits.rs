//! After any edits of a folder, what was told adds up to what is there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use osm_api::{Object, ObjectRef};
use osm_source::{Folder, Hint, Problem};
use proptest::prelude::*;

const FILES: [&str; 5] = ["a.yaml", "b.yml", "sub/a.yaml", "sub/deep/c.yaml", "ignored.txt"];

/// What is done to a file, and what is told of it.
#[derive(Clone, Debug)]
enum Edit {
    /// The file holds these objects, by name and label.
    Write {
        file: usize,
        objects: Vec<(u8, u8)>,
    },
    /// The file is no YAML.
    Break {
        file: usize,
    },
    Remove {
        file: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    RemoveFolder,
}

#[derive(Clone, Copy, Debug)]
enum Telling {
    /// The paths are told at once.
    Paths,
    /// Everything is to be looked at.
    Everything,
    /// It is told with the next edit.
    Later,
}

fn edit() -> impl Strategy<Value = Edit> {
    let file = 0..FILES.len();
    prop_oneof![
        6 => (file.clone(), proptest::collection::vec((0u8..6, 0u8..3), 0..4)).prop_map(|(file, objects)| Edit::Write { file, objects }),
        1 => file.clone().prop_map(|file| Edit::Break { file }),
        2 => file.clone().prop_map(|file| Edit::Remove { file }),
        2 => (file.clone(), file).prop_map(|(from, to)| Edit::Rename { from, to }),
        1 => Just(Edit::RemoveFolder),
    ]
}

fn telling() -> impl Strategy<Value = Telling> {
    prop_oneof![4 => Just(Telling::Paths), 1 => Just(Telling::Everything), 2 => Just(Telling::Later)]
}

/// Does it and gives the paths that were touched. What cannot be done is left undone.
fn apply(root: &Path, edit: &Edit) -> Vec<PathBuf> {
    let path = |file: usize| root.join(FILES[file]);
    match edit {
        Edit::Write { file, objects } => {
            let documents: Vec<_> = objects
                .iter()
                .map(|(name, label)| {
                    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: x{name}, labels: {{l: \"{label}\"}}}}\n")
                })
                .collect();
            write(&path(*file), &documents.join("---\n"))
        }
        Edit::Break { file } => write(&path(*file), "kind: ["),
        Edit::Remove { file } => {
            let _ = fs::remove_file(path(*file));
            vec![path(*file)]
        }
        Edit::Rename { from, to } => {
            let mut touched = make_parent(&path(*to));
            let _ = fs::rename(path(*from), path(*to));
            touched.extend([path(*from), path(*to)]);
            touched
        }
        Edit::RemoveFolder => {
            let _ = fs::remove_dir_all(root.join("sub"));
            vec![root.join("sub/a.yaml"), root.join("sub/deep/c.yaml"), root.join("sub/deep"), root.join("sub")]
        }
    }
}

fn write(path: &Path, text: &str) -> Vec<PathBuf> {
    let mut touched = make_parent(path);
    fs::write(path, text).unwrap();
    touched.push(path.to_owned());
    touched
}

/// Makes the folder that holds the path, and gives it if it is new: a watch tells of new folders.
fn make_parent(path: &Path) -> Vec<PathBuf> {
    let parent = path.parent().unwrap();
    let new = !parent.exists();
    fs::create_dir_all(parent).unwrap();
    if new { vec![parent.to_owned()] } else { Vec::new() }
}

/// The objects without generations: these tell of the history.
fn content(objects: &BTreeMap<ObjectRef, Object>) -> BTreeMap<ObjectRef, serde_json::Value> {
    let content = |object: &Object| {
        let mut value = object.to_value().unwrap();
        value["metadata"].as_object_mut().unwrap().remove("generation");
        value
    };
    objects.iter().map(|(reference, object)| (reference.clone(), content(object))).collect()
}

fn from_scratch(root: &Path) -> (BTreeMap<ObjectRef, Object>, Vec<Problem>) {
    let refresh = Folder::new(root).refresh(&Hint::Everything);
    let objects = refresh.changes.into_iter().filter_map(|(reference, object)| Some((reference, object?)));
    (objects.collect(), refresh.problems)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changes_add_up_to_the_folder(edits in proptest::collection::vec((edit(), telling()), 1..25)) {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let mut folder = Folder::new(&root);
        let mut objects = BTreeMap::<ObjectRef, Object>::new();
        let mut last_good = BTreeMap::new();
        let mut touched = Vec::new();
        folder.refresh(&Hint::Everything);
        let last = (Edit::Remove { file: 4 }, Telling::Paths);
        for (edit, telling) in edits.iter().chain([&last]) {
            touched.extend(apply(&root, edit));
            let hint = match telling {
                Telling::Paths => Hint::Paths(std::mem::take(&mut touched).into_iter().collect()),
                Telling::Everything => Hint::Everything,
                Telling::Later => continue,
            };
            touched.clear();
            let refresh = folder.refresh(&hint);
            prop_assert!(refresh.changes.is_empty() || refresh.problems.is_empty());
            prop_assert!(refresh.changes.is_sorted_by(|(a, _), (b, _)| a < b));
            for (reference, object) in refresh.changes {
                let before = match &object {
                    Some(object) => objects.insert(reference, object.clone()),
                    None => objects.remove(&reference),
                };
                let generation = |object: &Object| object.metadata().generation.unwrap();
                match (before, object) {
                    (Some(before), Some(object)) => {
                        prop_assert_ne!(content_of(&before), content_of(&object), "only real changes are told");
                        prop_assert_eq!(generation(&object), generation(&before) + 1);
                    }
                    (None, Some(object)) => prop_assert_eq!(generation(&object), 1),
                    (before, None) => prop_assert!(before.is_some(), "only what is there can go"),
                }
            }
            let (scratch, problems) = from_scratch(&root);
            prop_assert_eq!(&refresh.problems, &problems);
            if problems.is_empty() {
                last_good = content(&scratch);
            }
            prop_assert_eq!(content(&objects), last_good.clone());
        }
    }
}

fn content_of(object: &Object) -> serde_json::Value {
    content(&BTreeMap::from([(object.reference(), object.clone())])).into_values().next().unwrap()
}
