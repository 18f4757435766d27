//! Reviewable examples: `cases/<name>/in.yaml` holds the settings of the Namespace, a MeshConfig and the Pod,
//! `cases/<name>/out.yaml` what comes of it. `UPDATE_GOLDEN=1 cargo test -p osm-admission` writes the latter.

use std::path::{Path, PathBuf};

use osm_admission::{Injection, PodAdmission, inject};
use serde_json::{Value, json};

use crate::support::{Case, apply};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// What is written of a decision: the Pod as it is created, not the patch, so that a reader sees what runs.
fn outcome(case: &Case) -> Value {
    match inject(&case.review, &case.namespace, &case.config) {
        Injection::Skip(reason) => json!({ "skipped": reason.to_string() }),
        Injection::Refuse(refusal) => json!({ "refused": refusal.to_string() }),
        Injection::Patch { patch, warnings } => json!({ "pod": apply(&case.review.pod, &patch), "warnings": warnings }),
    }
}

#[test]
fn pods_come_out_as_reviewed() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 20, "the examples are there");
    for folder in cases {
        let case = Case::read(&folder.join("in.yaml"));
        let text = serde_saphyr::to_string(&outcome(&case)).unwrap();
        let file = folder.join("out.yaml");
        if update {
            std::fs::write(&file, &text).unwrap();
        } else if std::fs::read_to_string(&file).unwrap_or_default() != text {
            different.push(format!("{}:\n{text}", file.display()));
        }
    }
    assert!(different.is_empty(), "review and UPDATE_GOLDEN=1:\n{}", different.join("\n"));
}

#[test]
fn injecting_an_injected_pod_again_changes_nothing() {
    let mut injected = 0;
    for folder in cases() {
        let case = Case::read(&folder.join("in.yaml"));
        let Injection::Patch { patch, .. } = inject(&case.review, &case.namespace, &case.config) else { continue };
        let pod = apply(&case.review.pod, &patch);
        let again = PodAdmission { pod, ..case.review.clone() };
        let Injection::Patch { patch, .. } = inject(&again, &case.namespace, &case.config) else {
            panic!("{} is not injected the second time", folder.display())
        };
        assert!(patch.0.is_empty(), "{}: {patch}", folder.display());
        injected += 1;
    }
    assert!(injected > 10, "there were Pods to inject");
}
