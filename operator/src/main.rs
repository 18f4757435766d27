//! `osm-operator`: parse the command line and run it.

use std::process::ExitCode;

use clap::Parser;
use osm_operator::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
