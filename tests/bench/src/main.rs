//! The benchmark's command line: the measured servers, the fleet, and the run that brings them together.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use osm_bench::fleet::{self, Fleet, Subscription};
use osm_bench::{floor, subject};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve by the floor server, steered on standard input.
    Floor(Serve),
    /// Connect synthetic proxies to a server that holds the synthetic mesh, and report when all hold it.
    Fleet(FleetArguments),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Address to serve xDS on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Debug, clap::Args)]
struct FleetArguments {
    /// Address of the server.
    #[arg(long)]
    address: SocketAddr,
    /// Number of proxies.
    #[arg(long, default_value_t = 100)]
    proxies: u32,
    /// Services that the server holds.
    #[arg(long, default_value_t = 1000)]
    services: u32,
    /// Streams that share a connection.
    #[arg(long, default_value_t = 1)]
    streams_per_connection: u32,
    /// What each proxy asks for.
    #[arg(long, value_enum, default_value = "clusters-and-endpoints")]
    subscription: Subscription,
}

impl Serve {
    fn runtime(&self) -> std::io::Result<tokio::runtime::Runtime> {
        tokio::runtime::Builder::new_multi_thread().worker_threads(self.threads).enable_all().build()
    }
}

async fn run_fleet(arguments: &FleetArguments) -> anyhow::Result<()> {
    let mut fleet = Fleet::new(fleet::Config {
        address: arguments.address,
        proxies: arguments.proxies,
        streams_per_connection: arguments.streams_per_connection,
        subscription: arguments.subscription,
    });
    fleet.expect(&osm_bench::control::Command::Services(arguments.services));
    let start = std::time::Instant::now();
    fleet.connect().await?;
    let end = fleet.converged(subject::STEP_LIMIT).await?;
    say(&serde_json::json!({"seconds": (end - start).as_secs_f64(), "counters": fleet.counters()}))
}

/// Prints a result.
fn say(value: &serde_json::Value) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{value:#}")?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().action {
        Action::Floor(serve) => floor::run(&serve.runtime()?, serve.listen),
        Action::Fleet(arguments) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run_fleet(&arguments))
        }
    }
}
