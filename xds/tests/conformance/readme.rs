//! The table of rules in the README tells the truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every server-side rule of the protocol: how many there are of each letter.
const RULES: [(char, usize); 7] = [('N', 10), ('V', 12), ('S', 15), ('R', 10), ('C', 6), ('W', 10), ('F', 10)];

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table of rules: id to what follows the rule itself, that is its tests and its state.
fn rows() -> BTreeMap<String, String> {
    let readme = fs::read_to_string(crate_folder().join("README.md")).expect("read the README");
    let mut rows = BTreeMap::new();
    for line in readme.lines() {
        let Some((id, rest)) = line.strip_prefix("| ").and_then(|row| row.split_once(" | ")) else { continue };
        let is_id = id.len() >= 2 && id.starts_with(|letter: char| letter.is_ascii_uppercase());
        if is_id && id[1..].bytes().all(|byte| byte.is_ascii_digit()) {
            let (_, tests_and_state) = rest.split_once(" | ").expect("a row has four columns");
            assert!(rows.insert(id.to_owned(), tests_and_state.to_owned()).is_none(), "{id} is twice in the table");
        }
    }
    rows
}

/// What stands between backquotes.
fn quoted(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').skip(1).step_by(2)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("read a folder of the crate") {
        let path = entry.expect("read a folder of the crate").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Names of the functions that are tests, or are made into tests by a macro.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["tests", "src"] {
        rust_files(&crate_folder().join(folder), &mut files);
    }
    let mut tests = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("read a source file");
        let mut after_attribute = false;
        for line in text.lines().map(str::trim) {
            if let Some(made) = line.strip_prefix("in_variants!(").or_else(|| line.strip_prefix("in_envoys!(")) {
                tests.extend(made.split(',').next().map(str::to_owned));
            } else if after_attribute {
                let function = line.trim_start_matches("async ").strip_prefix("fn ");
                tests.extend(function.and_then(|rest| rest.split('(').next()).map(str::to_owned));
            }
            after_attribute = ["#[test]", "#[tokio::test]"].contains(&line);
        }
    }
    tests
}

#[test]
fn every_rule_is_in_the_table() {
    let rows = rows();
    for (letter, count) in RULES {
        for number in 1..=count {
            assert!(rows.contains_key(&format!("{letter}{number}")), "{letter}{number} is not in the table");
        }
    }
    assert!(rows.contains_key("O4"), "O4 is not in the table");
}

#[test]
fn every_test_in_the_table_exists_and_checks_its_rule() {
    let tests = tests();
    for (id, row) in rows() {
        let named: Vec<_> = quoted(&row).collect();
        for name in &named {
            assert!(tests.contains(*name), "{id}: there is no test `{name}`");
        }
        assert!(
            row.contains("left out") || !named.is_empty(),
            "{id}: a rule has a test or is left out with the reason: {row}"
        );
    }
}

#[test]
fn every_test_named_by_a_rule_is_in_the_table() {
    let rows = rows();
    let listed: BTreeSet<_> = rows.values().flat_map(|row| quoted(row)).collect();
    for test in tests() {
        let rule = test.split('_').next().unwrap_or_default().to_uppercase();
        if rows.contains_key(&rule) {
            assert!(listed.contains(test.as_str()), "`{test}` is not in the table");
        }
    }
}
