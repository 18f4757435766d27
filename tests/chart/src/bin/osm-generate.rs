//! Writes everything that is generated in `helm/` and `config/`, or checks that it is up to date.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use osm_chart_tests::{Helm, Repository, generate};

/// Writes the templates of CRDs, the tables of the charts' README.md and the manifests in config/.
#[derive(Parser)]
#[command(name = "osm-generate", after_help = "Exit codes: 0 done, 1 not up to date or could not be done.")]
struct Arguments {
    /// Write nothing; fail if a file is missing, differs, or should not be there
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            #[allow(clippy::print_stderr, reason = "this is what the program says")]
            {
                eprintln!("osm-generate: {problem:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let repository = Repository::this();
    let apply = if arguments.check { generate::check } else { generate::write };
    apply(&generate::parts_of_charts(&repository)?)?;
    apply(&generate::manifests(&repository, &Helm::prepare()?)?)
}
