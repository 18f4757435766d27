//! The bookstore on real Envoys, from a folder of manifests or in a Kubernetes cluster: see `osm_e2e::demo`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use osm_cluster::Lifetime;
use osm_e2e::demo::{Record, View, namespaces, run};
use osm_e2e::{ClusterWorld, Programs};
use osm_testkit::sandbox::{self, Side};
use osm_testkit::{EnvoyBinary, NEWEST_ENVOY};

/// Runs the bookstore on real Envoys, stage by stage, in network namespaces of its own or in a Kubernetes cluster of its own, and
/// compares who reaches whom with what the manifests promise. Nothing is left behind, however it ends.
///
/// Exit codes: 0 every stage was observed, 1 one was not, 2 it could not run.
#[derive(Debug, Parser)]
#[command(name = "osm-demo", version, max_term_width = 100)]
struct Options {
    /// Write what was observed to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// In a Kubernetes cluster, with the mesh installed by helm
    #[arg(long)]
    cluster: bool,
    /// Leave everything running at the end, to look around in, until interrupted
    #[arg(long)]
    keep: bool,
    /// Folder of the stages
    #[arg(long, value_name = "DIR", default_value = "config/samples/bookstore")]
    samples: PathBuf,
    /// Version of Envoy
    #[arg(long, value_name = "VERSION", default_value = NEWEST_ENVOY)]
    envoy: String,
}

/// Name of the demo's cluster.
const CLUSTER: &str = "osm-demo";

const LOOK_AROUND: &str = "\
everything keeps running until this is interrupted; look around from another terminal:
  nsenter --all --target $(pgrep --newest --exact osm-demo)
manifests are in /run/osm/world/manifests, status in /run/osm/world/status, logs in /run/osm/log, pods in `ip netns`";

const LOOK_AROUND_CLUSTER: &str = "\
everything keeps running until this is interrupted; look around from another terminal:
  hack/cluster kubectl --name osm-demo -- get pods -A";

fn main() -> ExitCode {
    let options = Options::parse();
    match demo(&options) {
        Ok(code) => code,
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "osm-demo: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn demo(options: &Options) -> Result<ExitCode> {
    if let Some(file) = &options.json {
        let folder = std::path::absolute(file)?;
        ensure!(
            !folder.starts_with("/run"),
            "--json {}: /run is private to the run, choose another folder",
            file.display()
        );
    }
    let envoy = EnvoyBinary::find(&options.envoy)?;
    ensure!(options.samples.is_dir(), "there is no folder {}; give it by --samples", options.samples.display());
    // A cluster makes namespaces of its own.
    match if options.cluster { Side::Inside } else { sandbox::enter()? } {
        Side::Outside(status) => {
            // Killed from outside: as if this program had been.
            let code = status.code().map_or(2, |code| u8::try_from(code).unwrap_or(2));
            return Ok(ExitCode::from(code));
        }
        Side::Inside => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            ended = tell(options, envoy) => ended,
            interrupted = interruption() => {
                let name = interrupted?;
                View::default().say(&format!("\n{name}: ending everything"));
                Ok(ExitCode::from(2))
            }
        }
    })
}

async fn tell(options: &Options, envoy: EnvoyBinary) -> Result<ExitCode> {
    let view = View::default();
    let begin = Instant::now();
    let (record, keeping): (Record, Box<dyn std::fmt::Debug>) = if options.cluster {
        view.say("starting a Kubernetes cluster, and the applications in it");
        let programs = Programs::beside_this_one(&options.envoy)?;
        let mut world = ClusterWorld::without_mesh(CLUSTER, &options.samples, &programs, Lifetime::Owned).await?;
        (run(&options.samples, &mut world, begin, &view).await?, Box::new(world))
    } else {
        view.say("starting the applications, each in a network namespace of its own");
        let mut world = namespaces(&options.samples, envoy).await?;
        (run(&options.samples, &mut world, begin, &view).await?, Box::new(world))
    };
    if let Some(file) = &options.json {
        write(file, &record)?;
    }
    let verdict = if record.ok { "every stage was observed" } else { "a stage was not observed" };
    view.say(&format!("\n{verdict}, in {:.0} s", record.seconds));
    if options.keep {
        view.say(if options.cluster { LOOK_AROUND_CLUSTER } else { LOOK_AROUND });
        interruption().await?;
    }
    drop(keeping);
    Ok(if record.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn write(file: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_string_pretty(record)? + "\n";
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// Waits for SIGINT or SIGTERM.
async fn interruption() -> Result<&'static str> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "SIGINT").context("waiting for SIGINT"),
    }
}
