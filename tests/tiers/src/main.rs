//! Runs every test of the workspace, tier by tier, and ends with a line for each tier.
//!
//! What this is not: a test runner of its own. It builds by `cargo test --no-run` once, runs what cargo says it built, each where
//! cargo would, and adds up what the tests say. A tier that ran no test has failed, and so has a test program that no tier names.
//!
//! The path through it: [`build`] asks cargo for the test programs; [`Tier`] is where each belongs; [`run`] runs one; [`Summary`]
//! is what is printed at the end.

mod build;
mod run;
mod summary;
mod tier;

use std::process::ExitCode;

use summary::Summary;
use tier::Tier;

const HELP: &str = "\
Runs every test, tier by tier, and prints a line for each tier at the end.

Usage: osm-tiers [TIER...] [--list]

  TIER    only these tiers; --list names them
  --list  print the tiers and what belongs to them, and run nothing

Examples:
  osm-tiers
  osm-tiers pure stream

Exit codes: 0 all passed, 1 a test failed or a tier ran none, 2 the tests could not be built or the arguments make no sense.";

fn main() -> ExitCode {
    match carry_out(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

fn carry_out(arguments: Vec<String>) -> Result<ExitCode, String> {
    let mut wanted = Vec::new();
    let mut list = false;
    for argument in arguments {
        match argument.as_str() {
            "-h" | "--help" => {
                print(HELP);
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => list = true,
            name => wanted.push(Tier::of_name(name)?),
        }
    }
    if wanted.is_empty() {
        wanted = Tier::ALL.to_vec();
    }
    say("building the tests (minutes when nothing is cached)");
    let programs = build::programs()?;
    if list {
        for program in &programs {
            print(&format!("{:11} {}", Tier::of(program).name(), program.label()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut summary = Summary::default();
    for tier in wanted {
        say(&format!("tier {}: {}", tier.name(), tier.what()));
        for program in programs.iter().filter(|program| Tier::of(program) == tier) {
            summary.add(tier, &run::program(program, tier.tests_per_core(program)));
        }
        if tier == Tier::Pure {
            summary.add(tier, &run::doc_tests());
        }
        summary.require(tier);
    }
    print(&summary.to_string());
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

#[expect(clippy::print_stderr, reason = "progress of a command")]
fn say(text: &str) {
    eprintln!("test: {text}");
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(text: &str) {
    println!("{text}");
}
