//! The demo and test applications: see `osm_testkit::apps`.

use clap::Parser as _;
use osm_testkit::apps::{Program, run};

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    run(Program::parse()).await
}
