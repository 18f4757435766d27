//! The commands as a user meets them: output, exit codes, errors.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::{Command, Output};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/samples/bookstore");

fn operator(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_osm-operator")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The bookstore as it is after the stages named.
fn bookstore(stages: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for stage in stages {
        for file in std::fs::read_dir(Path::new(SAMPLES).join(stage)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    folder
}

fn render(folder: &Path, more: &[&str]) -> Output {
    operator(&[&["render", folder.to_str().unwrap()], more].concat())
}

#[test]
fn a_clean_folder_renders_with_exit_code_0() {
    let folder = bookstore(&["00-base", "02-deny-by-default", "03-grants"]);
    let output = render(folder.path(), &["--proxy", "bookbuyer/bookbuyer", "--type", "clusters"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("10.96.0.20:14001") && table.contains("traffictarget/bookstore/"), "{table}");
    assert!(!table.contains("listeners"), "{table}");
}

#[test]
fn findings_name_object_field_and_remedy_and_give_exit_code_1() {
    let folder = bookstore(&["00-base", "02-deny-by-default", "03-grants"]);
    let dangling = "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\n\
                    metadata: {namespace: bookstore, name: dangling}\n\
                    spec:\n  destination: {kind: ServiceAccount, name: bookstore-v1, namespace: bookstore}\n  \
                    sources: [{kind: ServiceAccount, name: bookbuyer, namespace: bookbuyer}]\n  \
                    rules: [{kind: HTTPRouteGroup, name: missing}]\n";
    std::fs::write(folder.path().join("dangling.yaml"), dangling).unwrap();
    let output = render(folder.path(), &["-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &document["findings"][0];
    assert_eq!(finding["field"], "spec.rules[0].name");
    assert!(finding["message"].as_str().unwrap().contains("\"missing\""));
    assert!(!finding["remedy"].as_str().unwrap().is_empty());
    assert!(document["proxies"]["bookbuyer/bookbuyer"]["clusters"].is_object(), "neighbours keep working");
}

#[test]
fn an_unusable_folder_says_where_and_gives_exit_code_2() {
    let folder = bookstore(&["00-base"]);
    std::fs::write(folder.path().join("broken.yaml"), "kind: [").unwrap();
    let output = render(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("broken.yaml"), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());

    let output = render(Path::new("/does/not/exist"), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/does/not/exist"));
}

#[test]
fn rendering_is_the_same_every_time_and_shows_no_key() {
    let folder = bookstore(&["00-base", "01-permissive", "03-grants", "05-split-50-50"]);
    let first = render(folder.path(), &["-o", "yaml"]);
    assert_eq!(first.stdout, render(folder.path(), &["-o", "yaml"]).stdout);
    let yaml = text(&first.stdout);
    assert!(yaml.contains("[redacted]") && !yaml.contains("PRIVATE KEY"));
}

#[test]
fn a_workload_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let folder = bookstore(&["00-base"]);
    let output = render(folder.path(), &["--proxy", "bookstore/nobody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("bookstore/bookstore-v1"));
}

#[test]
fn every_command_has_help_with_examples_and_exit_codes() {
    for command in ["standalone", "render", "bootstrap", "intercept"] {
        let output = operator(&[command, "--help"]);
        let help = text(&output.stdout);
        assert!(
            output.status.success() && help.contains("Examples:") && help.contains("Exit codes:"),
            "{command}: {help}"
        );
    }
}

#[test]
fn a_bootstrap_is_bound_to_its_certificate_and_keeps_its_key_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (state, certificates) = (folder.path().join("state"), folder.path().join("certificates"));
    let output = operator(&[
        "bootstrap",
        "--proxy",
        "shop/api.v1",
        "--node",
        "vm-1",
        "--state-dir",
        state.to_str().unwrap(),
        "--certificate-dir",
        certificates.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bootstrap = text(&output.stdout);
    assert!(bootstrap.contains("id: vm-1") && bootstrap.contains("DELTA_GRPC"), "{bootstrap}");
    assert!(!bootstrap.contains("PRIVATE KEY"));
    for file in std::fs::read_dir(&certificates).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    let wrong =
        operator(&["bootstrap", "--proxy", "nonsense", "--node", "a", "--state-dir", "x", "--certificate-dir", "y"]);
    assert!(text(&wrong.stderr).contains("NAMESPACE/SERVICEACCOUNT"));
}

#[test]
fn redirect_rules_can_be_printed_without_being_applied() {
    let output = operator(&["intercept", "--print", "--outbound-port-exclusion", "5432,9999"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rules = text(&output.stdout);
    assert!(rules.contains("# IPv4") && rules.contains("# IPv6") && rules.contains("5432,9999"), "{rules}");
}
