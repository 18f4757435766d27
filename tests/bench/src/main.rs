//! The benchmark's command line: the measured servers, the fleet, and the run that brings them together.

use std::net::SocketAddr;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use osm_bench::figure::Figure;
use osm_bench::fleet::{self, Fleet, Subscription};
use osm_bench::machine::{self, Machine};
use osm_bench::measure::{self, Effort, progress};
use osm_bench::process::Placement;
use osm_bench::report::Report;
use osm_bench::sandboxed::Scene;
use osm_bench::subject::{self, Programs};
use osm_bench::{floor, ours};
use osm_testkit::sandbox::{self, Side};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measure everything and report.
    Run(RunArguments),
    /// Serve by the floor server, steered on standard input.
    Floor(Serve),
    /// Serve by the project's own xDS server, steered on standard input.
    Ours(Serve),
    /// Connect synthetic proxies to a server that holds the synthetic mesh, and report when all hold it.
    Fleet(FleetArguments),
    /// Take one measure of the whole mesh in a sandbox, and print its figures.
    Scene(SceneArguments),
}

/// What can be measured, in the order of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Measure {
    /// Exact counts of what is sent and encoded.
    Counts,
    /// One changed cluster to every proxy, against the peers.
    Push,
    /// Resident memory of each further proxy.
    Memory,
    /// What moves when the whole fleet reconnects.
    Reconnect,
    /// Whether proxies that stop reading slow the others.
    Stalled,
    /// What resolving and translating costs.
    Core,
    /// From a changed file to a real Envoy that runs it.
    Propagation,
    /// Memory of a real Envoy by size of the mesh.
    EnvoyMemory,
    /// Requests through real sidecars.
    Requests,
    /// Pods that one core admits.
    Admission,
    /// What a certificate costs.
    Issuing,
    /// From an object at an API server to a real Envoy that runs it, and what policies write.
    ApiServer,
    /// Memory and idle requests in a mesh of 1,600 pods.
    Footprint,
    /// How much later a pod is ready because of its sidecar.
    Pods,
}

/// What a run measures if nothing is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The control plane on a folder, against its peers.
    #[default]
    Mesh,
    /// The control plane in a cluster.
    Cluster,
}

impl Part {
    /// Title of its report, and how it is measured.
    fn says(self, effort: Effort) -> (String, String) {
        let rounds = effort.rounds;
        let (title, method) = match self {
            Self::Mesh => (
                "Benchmark report",
                "interleaved rounds, ratios round by round, medians and extremes of them; every server that has a peer has one \
                 thread on one core, the fleet runs on another; the measures of the whole mesh (`event_to_ack…`, `envoy…`, \
                 requests) leave all processes of a sandbox to the kernel",
            ),
            Self::Cluster => (
                "Benchmark report: the control plane in a cluster",
                "rounds where there are several, ratios round by round, medians and extremes of them; admission and issuing run in \
                 one thread; of the other measures all processes (API server, etcd, control plane, proxies, kubelet where there is \
                 one) share the machine",
            ),
        };
        let optimised = if cfg!(debug_assertions) { "no" } else { "yes" };
        (title.to_owned(), format!("{rounds} {method}; build without debug assertions: {optimised}."))
    }
}

impl Measure {
    async fn take(self, programs: &Programs, effort: Effort) -> anyhow::Result<Vec<Figure>> {
        match self {
            Self::Counts => measure::counts::measure(programs).await,
            Self::Push => measure::push::measure(programs, effort).await,
            Self::Memory => measure::memory::measure(programs, effort).await,
            Self::Reconnect => measure::reconnect::measure(programs, effort).await,
            Self::Stalled => measure::stalled::measure(programs, effort).await,
            Self::Core => measure::core::measure(effort),
            Self::Propagation => Scene::Propagation.measure(programs, effort).await,
            Self::EnvoyMemory => Scene::EnvoyMemory.measure(programs, effort).await,
            Self::Requests => Scene::Requests.measure(programs, effort).await,
            Self::Admission => measure::admission::measure(effort),
            Self::Issuing => measure::issuing::measure(effort).await,
            Self::ApiServer => Scene::ApiServer.measure(programs, effort).await,
            Self::Footprint => Scene::Footprint.measure(programs, effort).await,
            Self::Pods => measure::pods::measure(effort).await,
        }
    }

    fn part(self) -> Part {
        match self {
            Self::Admission | Self::Issuing | Self::ApiServer | Self::Footprint | Self::Pods => Part::Cluster,
            _ => Part::Mesh,
        }
    }
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Fewer rounds of the same sizes.
    #[arg(long)]
    quick: bool,
    /// What to measure where no measures are named.
    #[arg(long, value_enum, default_value = "mesh")]
    part: Part,
    /// Measures to take, all of the part by default; `counts` does not depend on machine or build.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
    /// File for the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// File for the report as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// The go-control-plane server; without it there is no comparison with that peer.
    #[arg(long)]
    gcp: Option<PathBuf>,
    /// Versions of the peers, for the report.
    #[arg(long, default_value = "")]
    peers: String,
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
    /// Stay connected until standard input ends.
    #[arg(long)]
    hold: bool,
}

#[derive(Debug, clap::Args)]
struct SceneArguments {
    /// What to measure.
    #[arg(value_enum)]
    scene: Scene,
    /// Fewer rounds.
    #[arg(long)]
    quick: bool,
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
    say(&serde_json::json!({"seconds": (end - start).as_secs_f64(), "counters": fleet.counters()}))?;
    if arguments.hold {
        tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    }
    Ok(())
}

async fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    let load_at_start = machine::load();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let programs = Programs {
        own: std::env::current_exe().context("find this program")?,
        gcp: arguments.gcp.clone(),
        placement: if cores > 1 { Placement::Core(0) } else { Placement::Free },
    };
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let mut figures = Vec::new();
    for measure in Measure::value_variants() {
        let wanted = match &*arguments.only {
            [] => measure.part() == arguments.part,
            only => only.contains(measure),
        };
        if wanted {
            figures.extend(measure.take(&programs, effort).await.with_context(|| format!("measure {measure:?}"))?);
            progress(&format!("{measure:?} done"));
        }
    }
    let (title, method) = arguments.part.says(effort);
    let machine = Machine::of(load_at_start);
    let left_out = Vec::new();
    let report = Report { machine, title, method, peers: arguments.peers.clone(), figures, left_out };
    say(&report.to_json())?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{:#}\n", report.to_json()))
            .with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &arguments.markdown {
        std::fs::write(path, report.to_markdown()).with_context(|| format!("write {}", path.display()))?;
    }
    let missed_count = report.figures.iter().find(|figure| figure.is_exact() && figure.is_met() == Some(false));
    anyhow::ensure!(missed_count.is_none(), "an exact count is wrong: {missed_count:?}");
    Ok(())
}

/// What happens in a sandbox, which is another run of this program.
fn run_scene(arguments: &SceneArguments) -> anyhow::Result<()> {
    if let Side::Outside(status) = sandbox::enter()? {
        anyhow::ensure!(status.success(), "the sandbox ended with {status}");
        return Ok(());
    }
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(arguments.scene.play(effort))?;
    say(&serde_json::to_value(figures)?)
}

/// Prints a result.
fn say(value: &serde_json::Value) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{value:#}")?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let client_runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match Arguments::parse().action {
        Action::Run(arguments) => client_runtime()?.block_on(run(&arguments)),
        Action::Floor(serve) => floor::run(&serve.runtime()?, serve.listen),
        Action::Ours(serve) => ours::run(&serve.runtime()?, serve.listen),
        Action::Scene(arguments) => run_scene(&arguments),
        Action::Fleet(arguments) => client_runtime()?.block_on(run_fleet(&arguments)),
    }
}
