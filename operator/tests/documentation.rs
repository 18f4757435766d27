//! The pages for users (`docs/`) say what the program does: their manifests, commands, annotations and reasons are its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

#[path = "documentation/blocks.rs"]
mod blocks;

use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser as _};
use osm_admission::{Injection, InjectorConfig, NamespaceSettings, PodAdmission, inject};
use osm_api::{
    ConditionType, HttpRouteGroupReason, MeshConfigReason, MeshRootCertificateReason, Object, ProxySnapshotReason,
    Strictness, TcpRouteReason, TrafficSplitReason, TrafficTargetReason, decode,
};
use osm_engine::Options;
use osm_operator::{Cli, Outcome, Output, Selection, WebhookArgs, render};
use serde_json::Value;

use blocks::{blocks, folder, pages};

fn page(name: &str) -> String {
    pages().into_iter().find_map(|(page, text)| (page == name).then_some(text)).unwrap_or_else(|| panic!("docs/{name}"))
}

fn documents(block: &str) -> Vec<Value> {
    block
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}")))
        .collect()
}

fn options() -> Options {
    Options {
        mesh_name: "osm".into(),
        control_plane_namespace: "osm-system".into(),
        trust_domain: osm_model::TrustDomain::new("cluster.local").unwrap(),
        cluster_domain: "cluster.local".into(),
        service_ranges: Vec::new(),
    }
}

#[test]
fn every_manifest_is_read_and_renders_without_a_finding() {
    let mut manifests = 0;
    for (page, text) in pages() {
        for block in blocks(&text, "yaml") {
            manifests += 1;
            for document in documents(&block) {
                let object =
                    decode(document, Strictness::Strict).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"));
                if let Object::MeshRootCertificate(root) = &object {
                    let findings = osm_mesh::mesh_root_certificate(root).findings;
                    assert_eq!(findings, [], "{page}:\n{block}");
                }
            }
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("block.yaml"), &block).unwrap();
            let selection = Selection { proxy: None, kind: None, output: Output::Table };
            let (text, outcome) = render(folder.path(), options(), &selection);
            assert_eq!(outcome, Outcome::Clean, "{page}:\n{block}\n{text}");
        }
    }
    assert!(manifests >= 12, "{manifests} manifests");
}

#[derive(Debug, clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    webhooks: WebhookArgs,
}

#[test]
fn every_pod_is_injected_as_the_page_says() {
    let mut pods = 0;
    for block in blocks(&page("injection.md"), "yaml") {
        let documents = documents(&block);
        let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind);
        let Some(pod) = of_kind("Pod") else { continue };
        pods += 1;
        let namespace = of_kind("Namespace").expect("a Pod is shown with its Namespace");
        let metadata = serde_json::from_value(namespace["metadata"].clone()).unwrap();
        let settings = NamespaceSettings::read(&metadata, "osm");
        let namespace = metadata.name.unwrap();
        let review = PodAdmission { uid: "a".to_owned(), namespace, pod: pod.clone() };
        let defaults = CommandLine::parse_from(["run"]).webhooks.injector(&options());
        match inject(&review, &settings, &InjectorConfig::new(defaults, None)) {
            Injection::Patch { warnings, .. } => assert_eq!(warnings, Vec::<String>::new(), "{block}"),
            other => panic!("{other:?}:\n{block}"),
        }
    }
    assert!(pods > 0);
}

#[test]
fn every_command_is_one() {
    let mut commands = 0;
    for (page, text) in pages() {
        for line in blocks(&text, "sh").iter().flat_map(|block| block.lines()) {
            let command = line.split(" #").next().unwrap_or_default().split(" > ").next().unwrap_or_default();
            if command.starts_with("osm-operator ") {
                commands += 1;
                let parsed = Cli::try_parse_from(command.split_whitespace());
                assert!(parsed.is_ok(), "{page}: {line}\n{}", parsed.unwrap_err());
            }
        }
    }
    assert!(commands >= 10, "{commands} commands");
}

/// Names of the options of a command and of those below it.
fn options_of(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
    own.chain(command.get_subcommands().flat_map(options_of)).collect()
}

#[test]
fn every_option_of_roots_is_one_and_has_the_default_that_is_told() {
    let (text, command) = (page("certificates.md"), Cli::command());
    let known = options_of(&command);
    let told = quoted(&text, "--");
    assert!(told.len() >= 5, "{told:?}");
    for option in told {
        assert!(known.contains(option), "{option}");
    }
    assert!(text.contains("looked at once a minute"));
    for (name, option) in [("run", "provider_check_seconds"), ("standalone", "provider_check")] {
        let command = command.find_subcommand(name).unwrap();
        let argument = command.get_arguments().find(|argument| argument.get_id() == option).unwrap();
        assert_eq!(argument.get_default_values(), ["60"], "{option}");
    }
}

/// Texts in backticks that begin with `start`.
fn quoted<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    text.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with(start)).collect()
}

#[test]
fn labels_and_annotations_are_those_that_are_read() {
    use osm_admission as keys;
    let known = BTreeSet::from([
        keys::MONITORED_BY_LABEL,
        keys::IGNORE_LABEL,
        keys::INJECTION_ANNOTATION,
        keys::METRICS_ANNOTATION,
        keys::INBOUND_PORT_EXCLUSIONS,
        keys::OUTBOUND_PORT_EXCLUSIONS,
        keys::OUTBOUND_RANGE_EXCLUSIONS,
        keys::OUTBOUND_RANGE_INCLUSIONS,
        keys::PROXY_UID_ANNOTATION,
        keys::VERSION_ANNOTATION,
    ]);
    let text = page("injection.md");
    assert_eq!(quoted(&text, "openservicemesh.io/"), known);
    assert!(text.contains(keys::PROXY_UUID_LABEL));
    let roots = page("certificates.md");
    for annotation in
        [osm_api::WAIVE_PROXIES_ANNOTATION, osm_api::REMOVE_ROOT_NOW_ANNOTATION, osm_api::REMOVE_ROOT_NOW_VALUE]
    {
        assert!(roots.contains(annotation), "{annotation}");
    }
}

/// First cells of the tables below a heading.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let below = text.lines().skip_while(|line| *line != heading).skip(1);
    let section = below.take_while(|line| !line.starts_with("## "));
    section.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[test]
fn conditions_and_reasons_are_those_that_are_written() {
    let text = page("conditions.md");
    let types: Vec<&str> = ConditionType::ALL.iter().map(|one| one.as_str()).collect();
    assert_eq!(rows(&text, "# Conditions"), types);
    macro_rules! own {
        ($($heading:literal: $reasons:ty),+ $(,)?) => {$(
            let own: Vec<&str> = <$reasons>::OWN.iter().map(|reason| reason.as_str()).collect();
            assert!(text.contains($heading), "{}", $heading);
            assert_eq!(rows(&text, $heading), own, "{}", $heading);
        )+};
    }
    own!(
        "## MeshConfig": MeshConfigReason,
        "## MeshRootCertificate": MeshRootCertificateReason,
        "## TrafficTarget": TrafficTargetReason,
        "## HTTPRouteGroup": HttpRouteGroupReason,
        "## TCPRoute": TcpRouteReason,
        "## TrafficSplit": TrafficSplitReason,
        "## ProxySnapshot": ProxySnapshotReason,
    );
    let common: Vec<&str> = MeshConfigReason::COMMON.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(rows(&text, "## Reasons of all kinds"), common);
    let told: Vec<(&str, Vec<&str>)> = vec![
        ("Service", osm_api::ServiceReason::OWN.iter().map(|reason| reason.as_str()).collect()),
        ("EndpointSlice", osm_api::EndpointSliceReason::OWN.iter().map(|reason| reason.as_str()).collect()),
    ];
    for (kind, reasons) in told {
        for reason in reasons {
            assert!(text.contains(&format!("| {kind} | `{reason}` |")), "{kind} {reason}");
        }
    }
}

#[test]
fn every_link_leads_to_a_page() {
    for (page, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            assert!(target.starts_with("https://") || folder().join(file).exists(), "{page} links to {target}");
        }
    }
}
