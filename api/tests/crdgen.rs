//! The committed CRDs are those of the types, and `crdgen` notices when they are not.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn crdgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crdgen")).args(arguments).output().expect("crdgen can be started")
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_committed_definitions_are_up_to_date() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd");
    let output = crdgen(&["--check", committed.to_str().expect("the path is a text")]);
    assert!(output.status.success(), "{}", words(&output));
}

#[test]
fn what_was_just_written_is_up_to_date_and_written_again_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("crd");
    let path = path.to_str().expect("the path is a text");
    assert!(crdgen(&["--output", path]).status.success());
    let output = crdgen(&["--check", path]);
    assert!(output.status.success(), "{}", words(&output));
    let names = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(path).len(), osm_api::custom_resource_definitions().len() + 1);
}

#[test]
fn stale_missing_and_superfluous_files_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("the path is a text");
    assert!(crdgen(&["--output", path]).status.success());
    let file = |name: &str| directory.path().join(name);
    let split = fs::read_to_string(file("split.smi-spec.io_trafficsplits.yaml")).unwrap();
    fs::write(file("split.smi-spec.io_trafficsplits.yaml"), split.replace("weight", "wait")).unwrap();
    fs::rename(file("specs.smi-spec.io_tcproutes.yaml"), file("specs.smi-spec.io_gone.yaml")).unwrap();
    fs::write(file("notes.yaml"), "# by hand\n").unwrap();

    let output = crdgen(&["--check", path]);
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("split.smi-spec.io_trafficsplits.yaml differs"), "{said}");
    assert!(said.contains("specs.smi-spec.io_tcproutes.yaml is missing"), "{said}");
    assert!(said.contains("specs.smi-spec.io_gone.yaml belongs to no kind"), "{said}");
    assert!(!said.contains("notes.yaml"), "{said}");

    assert!(crdgen(&["--output", path]).status.success());
    let output = crdgen(&["--check", path]);
    assert!(output.status.success(), "{}", words(&output));
    assert!(file("notes.yaml").exists(), "files by hand are left alone");
    assert!(!file("specs.smi-spec.io_gone.yaml").exists());
}

#[test]
fn a_directory_that_does_not_exist_is_not_up_to_date() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("missing");
    let output = crdgen(&["--check", path.to_str().expect("the path is a text")]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
}

#[test]
fn help_has_examples() {
    let output = crdgen(&["--help"]);
    assert!(output.status.success());
    assert!(words(&output).contains("crdgen --check config/crd"), "{}", words(&output));
    assert!(!crdgen(&[]).status.success(), "one of the two modes must be chosen");
}

/// Readers of YAML 1.1, kubectl among them, take a bare off for false: OSM's own definition had that defect.
#[test]
fn words_that_old_yaml_takes_for_booleans_are_quoted() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd");
    let mut quoted = 0;
    for entry in fs::read_dir(committed).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let value = line.trim().trim_start_matches("- ");
            let bare = value.trim_matches(['"', '\'']).to_lowercase();
            if ["off", "on", "yes", "no", "y", "n", "*"].contains(&bare.as_str()) {
                assert_ne!(value.to_lowercase(), bare, "{line}");
                quoted += 1;
            }
        }
    }
    assert!(quoted >= 2, "the level off occurs in both versions of MeshConfig");
}
