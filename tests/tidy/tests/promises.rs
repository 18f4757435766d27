//! The promises of the workspace.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use osm_tidy::{Workspace, sources};

/// Which crate knows which: all arrows, none upward. Whoever adds one says so here.
const ARROWS: [(&str, &[&str]); 16] = [
    ("osm-api", &[]),
    ("osm-xds", &[]),
    ("osm-xds-json", &[]),
    ("osm-model", &[]),
    ("osm-incremental", &[]),
    ("osm-intercept", &[]),
    ("osm-issuer", &[]),
    ("osm-source", &["osm-api"]),
    ("osm-kubernetes", &["osm-api", "osm-source"]),
    ("osm-bootstrap", &["osm-model", "osm-translate"]),
    ("osm-admission", &["osm-api", "osm-bootstrap", "osm-intercept", "osm-mesh", "osm-model", "osm-translate"]),
    ("osm-mesh", &["osm-api", "osm-model"]),
    ("osm-translate", &["osm-model"]),
    ("osm-engine", &["osm-api", "osm-incremental", "osm-mesh", "osm-model", "osm-translate"]),
    (
        "osm-operator",
        &[
            "osm-admission",
            "osm-api",
            "osm-bootstrap",
            "osm-engine",
            "osm-intercept",
            "osm-issuer",
            "osm-kubernetes",
            "osm-mesh",
            "osm-model",
            "osm-source",
            "osm-translate",
            "osm-xds",
            "osm-xds-json",
        ],
    ),
    // Only for the tests of the protocol's library.
    ("osm-xds-test-support", &["osm-xds"]),
];

/// Crates that only compute.
const PURE: [&str; 8] = [
    "osm-admission",
    "osm-api",
    "osm-bootstrap",
    "osm-engine",
    "osm-incremental",
    "osm-mesh",
    "osm-model",
    "osm-translate",
];

/// What a pure crate must not reach: runtimes, clients, clocks, sources of randomness.
const EFFECTS: [&str; 24] = [
    "async-std",
    "axum",
    "chrono",
    "fastrand",
    "getrandom",
    "h2",
    "hyper",
    "hyper-util",
    "kube-client",
    "kube-runtime",
    "mio",
    "notify",
    "rand",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tokio-util",
    "tonic",
    "tower",
    "ureq",
];

/// Crates that pure ones may know although they could do more, with what keeps the rest out.
/// `envoy-types`: messages, beside which it has clients and servers; sources may use its messages alone (see below).
const OPAQUE: [&str; 1] = ["envoy-types"];

/// What the sources of pure crates must not mention. `jiff` (the time stamps of Kubernetes' objects) and the generated
/// clients of Envoy's messages can be reached, so their effects are named here.
const WORDS: [&str; 14] = [
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::env",
    "std::process",
    "std::thread",
    "_client::",
    "_server::",
    "tonic",
    "tokio",
];

#[test]
fn crates_know_only_whom_the_table_of_arrows_says() {
    let workspace = Workspace::load().unwrap();
    let tests = workspace.folder.join("tests");
    let found: BTreeMap<&str, BTreeSet<&str>> = workspace
        .packages
        .values()
        .filter(|package| !package.folder.starts_with(&tests))
        .map(|package| (package.name.as_str(), package.knows.iter().map(String::as_str).collect()))
        .collect();
    let said = ARROWS.map(|(name, knows)| (name, knows.iter().copied().collect())).into();
    assert_eq!(found, said);
}

#[test]
fn pure_crates_cannot_reach_a_runtime_a_client_a_clock_or_a_random_source() {
    let workspace = Workspace::load().unwrap();
    for name in PURE {
        let reach = workspace.reach(name, &OPAQUE).unwrap();
        let effects: Vec<_> = EFFECTS.iter().filter(|effect| reach.contains(**effect)).collect();
        assert!(effects.is_empty(), "{name} reaches {effects:?}");
    }
    // The check can fail, and the exception is one.
    assert!(workspace.reach("osm-operator", &OPAQUE).unwrap().contains("tokio"));
    assert!(workspace.reach("osm-translate", &[]).unwrap().contains("tonic"));
}

#[test]
fn sources_of_pure_crates_name_no_effect() {
    let workspace = Workspace::load().unwrap();
    let mut lines = 0;
    for name in PURE {
        let folder = workspace.packages[name].folder.join("src");
        // Binaries beside a library do what it does not.
        for file in sources::rust_files(&folder, &|path| path.ends_with("src/bin")).unwrap() {
            for line in sources::code(&file).unwrap() {
                lines += 1;
                let word = WORDS.iter().find(|word| line.contains(**word));
                assert!(word.is_none(), "{}: {} in {line:?}", file.display(), word.unwrap_or(&""));
            }
        }
    }
    assert!(lines > 3000, "sources were read");
}

#[test]
fn every_source_file_is_part_of_a_crate() {
    let workspace = Workspace::load().unwrap();
    let folders: BTreeSet<&Path> = workspace.packages.values().map(|package| package.folder.as_path()).collect();
    for package in workspace.packages.values() {
        let mut reached = BTreeSet::new();
        for root in &package.roots {
            reached.extend(sources::modules(root).unwrap());
        }
        let foreign = |path: &Path| folders.contains(path) || path.ends_with("target");
        let files = sources::rust_files(&package.folder, &foreign).unwrap();
        let orphans: Vec<_> = files.difference(&reached).collect();
        assert!(orphans.is_empty(), "{}: no `mod` leads to {orphans:?}", package.name);
    }
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn what_the_architecture_names_is_there() {
    let workspace = Workspace::load().unwrap();
    let text = std::fs::read_to_string(workspace.folder.join("ARCHITECTURE.md")).unwrap();
    let mut prose = String::new();
    for part in text.split("```").step_by(2) {
        prose.push_str(part);
    }
    let is_path = |text: &&str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
        text.bytes().all(legal)
            && text.contains('/')
            && Path::new(text).extension().is_some_and(|it| it == "rs" || it == "md")
    };
    let missing: Vec<&str> =
        quoted(&prose).filter(is_path).filter(|path| !workspace.folder.join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names {missing:?}");
}

#[test]
fn every_invariant_of_the_architecture_names_a_test() {
    let workspace = Workspace::load().unwrap();
    let text = std::fs::read_to_string(workspace.folder.join("ARCHITECTURE.md")).unwrap();
    let (_, rest) = text.split_once("<!-- invariants:begin -->").expect("the invariants have a beginning");
    let (invariants, _) = rest.split_once("<!-- invariants:end -->").expect("the invariants have an end");
    let mut sources = String::new();
    for file in sources::rust_files(&workspace.folder, &|path| path.ends_with("target")).unwrap() {
        sources.push_str(&std::fs::read_to_string(file).unwrap());
    }
    let is_test = |name: &str| sources.contains(&format!("fn {name}("));
    for line in invariants.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())) {
        let tests = quoted(line).filter(|name| is_test(name)).count();
        assert!(tests > 0, "no test is named by {line:?}");
    }
}
