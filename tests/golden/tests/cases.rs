//! Every case gives what is written, and every snapshot in it is closed under reference.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::LazyLock;

use osm_golden::fragments::{Fragments, REFERENCE};
use osm_golden::{Case, Mesh, golden};

static FRAGMENTS: LazyLock<Fragments> = LazyLock::new(|| Fragments::load().unwrap());

fn check(name: &str) {
    let case = Case::read(name).unwrap();
    let mesh = Mesh::new(case.options.engine().unwrap(), case.objects.iter().cloned());
    for workload in mesh.workloads() {
        assert_eq!(mesh.faults(&workload).unwrap(), Vec::<String>::new(), "in {name}");
    }
    let fragments = (name != REFERENCE).then(|| &*FRAGMENTS);
    let files = golden::files(&mesh, fragments).unwrap();
    let complaints = golden::compare(&case.folder.join("out"), &files).unwrap();
    assert!(
        complaints.is_empty(),
        "{name}: not what is written; if it is meant, run with {}=1 and read the difference\n{}",
        golden::UPDATE,
        complaints.join("\n")
    );
}

include!(concat!(env!("OUT_DIR"), "/cases.rs"));
