//! The Deployment starts the program with arguments that it understands.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use clap::Parser as _;
use osm_chart_tests::{Helm, Repository, objects};
use osm_operator::Cli;
use serde_json::Value;

/// The command line of the container, as the kubelet would expand it.
fn command_line(arguments: &[&str]) -> Vec<String> {
    let rendered = Helm::prepare().unwrap().template(&Repository::this().operator_chart(), arguments).unwrap();
    let objects = objects(&rendered).unwrap();
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let declared = |name: &str| container["env"].as_array().unwrap().iter().any(|env| env["name"] == name);
    let arguments = container["args"].as_array().unwrap().iter().map(Value::as_str).map(Option::unwrap);
    let arguments = arguments.map(|argument| match argument.split_once("$(") {
        None => argument.to_owned(),
        Some((before, rest)) => {
            let (name, after) = rest.split_once(')').unwrap();
            assert!(declared(name), "{name} is in the environment");
            format!("{before}{}{after}", name.to_lowercase().replace('_', "-"))
        }
    });
    std::iter::once("osm-operator".to_owned()).chain(arguments).collect()
}

#[test]
fn the_program_understands_what_the_deployment_passes() {
    let everything = [
        "--set=osm.serviceCIDRs={10.96.0.0/16,fd00:96::/112}",
        "--set=osm.osmController.otlpEndpoint=http://collector:4317",
        "--set=osm.injector.initResources.limits.memory=64Mi",
        "--set=osm.injector.healthcheckResources.requests.cpu=5m",
        "--set=osm.image.pullPolicy=Always",
        "--set=osm.trustDomain=mesh.example",
    ];
    for arguments in [&[][..], &everything] {
        let line = command_line(arguments);
        assert_eq!(line[1], "run");
        if let Err(error) = Cli::try_parse_from(&line) {
            panic!("{line:?}: {error}");
        }
    }
    let mut wrong = command_line(&[]);
    wrong.push("--no-such-flag".to_owned());
    assert!(Cli::try_parse_from(wrong).is_err(), "the check can fail");
}
