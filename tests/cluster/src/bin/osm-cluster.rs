//! A real Kubernetes cluster on this machine, its programs and its images, from the command line.
#![allow(clippy::print_stdout, reason = "what was asked for goes to standard output")]
#![allow(clippy::print_stderr, reason = "what went wrong goes to standard error")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use osm_cluster::images::{self, Image};
use osm_cluster::{Cluster, ClusterOptions, KubernetesVersion, Lifetime, Tier, Tool};
use serde_json::json;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 it failed (standard error says why), 2 it was not understood.";

const EXAMPLES: &str = "\
Examples:
  osm-cluster up
  osm-cluster kubectl get pods --all-namespaces
  osm-cluster load image.tar
  osm-cluster down

Exit codes: 0 done, 1 it failed (standard error says why), 2 it was not understood; kubectl's own with kubectl.";

/// A real Kubernetes cluster on this machine, without a container engine and without a registry.
#[derive(Debug, Parser)]
#[command(name = "osm-cluster", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster that stays until `down`; waits until it is ready, and prints its kubeconfig's path
    #[command(after_help = format!("Examples:\n  osm-cluster up\n  osm-cluster up --version 1.33 --name old\n  export KUBECONFIG=$(osm-cluster up --api-only)\n\n{EXIT_CODES}"))]
    Up(Up),
    /// End a cluster, dead or alive, and remove everything that it left
    #[command(after_help = format!("Examples:\n  osm-cluster down\n  osm-cluster down --name old\n\n{EXIT_CODES}"))]
    Down(Name),
    /// Import image archives (of `docker save` or `osm-cluster images`), so that pods can use them
    #[command(after_help = format!("Examples:\n  osm-cluster load operator.tar envoy.tar\n\n{EXIT_CODES}"))]
    Load {
        #[command(flatten)]
        name: Name,
        /// The archives
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Run kubectl against a cluster
    #[command(
        after_help = "Examples:\n  osm-cluster kubectl get nodes\n  osm-cluster kubectl --name old version\n\nExit codes: kubectl's own."
    )]
    Kubectl {
        #[command(flatten)]
        name: Name,
        /// What kubectl is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// List the clusters of this machine
    #[command(after_help = format!("Examples:\n  osm-cluster status\n  osm-cluster status --output json\n\n{EXIT_CODES}"))]
    Status {
        /// How to print
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Build or fetch the programs that clusters and tests use, unless they are in the cache; prints their paths
    #[command(after_help = format!("Examples:\n  osm-cluster prepare\n  osm-cluster prepare kubernetes helm\n  osm-cluster prepare kubernetes@1.33\n\n{EXIT_CODES}"))]
    Prepare {
        /// kubernetes, kubernetes@VERSION, coredns, helm, cert-manager, openbao; all when none is named
        tools: Vec<Tool>,
    },
    /// Make images of programs; prints what they are called and where their archives are, as JSON
    #[command(after_help = format!("Examples:\n  osm-cluster images --operator target/debug/osm-operator --bookstore target/debug/osm-bookstore\n\n{EXIT_CODES}"))]
    Images(Images),
}

#[derive(Debug, Args)]
struct Name {
    /// Which cluster
    #[arg(long, default_value = "osm")]
    name: String,
}

#[derive(Debug, Args)]
struct Up {
    #[command(flatten)]
    name: Name,
    /// Which Kubernetes: 1.36 or 1.33
    #[arg(long, default_value_t = KubernetesVersion::NEWEST)]
    version: KubernetesVersion,
    /// Start etcd, the API server and its controllers alone, without a node
    #[arg(long)]
    api_only: bool,
}

#[derive(Debug, Args)]
struct Images {
    /// The program osm-operator
    #[arg(long)]
    operator: Option<PathBuf>,
    /// The program osm-bookstore
    #[arg(long)]
    bookstore: Option<PathBuf>,
    /// Which Envoy, of those that hack/setup fetched; the newest when none is named
    #[arg(long)]
    envoy: Option<String>,
    /// Also copy the archives into this folder, as NAME.tar
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Also load them into this cluster
    #[arg(long, value_name = "CLUSTER")]
    load: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// A table
    #[default]
    Table,
    /// JSON
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().verb).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(arguments) => up(arguments).await?,
        Verb::Down(Name { name }) => Cluster::down(&name)?,
        Verb::Load { name, archives } => {
            let cluster = Cluster::attach(&name.name)?;
            archives.iter().try_for_each(|archive| cluster.load(archive))?;
        }
        Verb::Kubectl { name, arguments } => return kubectl(&name.name, &arguments),
        Verb::Status { output } => status(output)?,
        Verb::Prepare { tools } => {
            let tools = if tools.is_empty() { Tool::ALL.to_vec() } else { tools };
            for tool in tools {
                println!("{}", tool.prepare()?.program().display());
            }
        }
        Verb::Images(arguments) => make_images(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(arguments: Up) -> Result<()> {
    let options = ClusterOptions {
        version: arguments.version,
        tier: if arguments.api_only { Tier::ApiServer } else { Tier::Whole },
        lifetime: Lifetime::Kept,
        ..ClusterOptions::new(arguments.name.name)
    };
    let started = std::time::Instant::now();
    let cluster = Cluster::up(options).await?;
    let (name, version, url) = (cluster.name(), cluster.version().release(), cluster.url());
    eprintln!("cluster: {name}: Kubernetes {version} at {url}, ready after {:.1} s", started.elapsed().as_secs_f64());
    println!("{}", cluster.kubeconfig().display());
    Ok(())
}

fn kubectl(name: &str, arguments: &[String]) -> Result<ExitCode> {
    let cluster = Cluster::attach(name)?;
    let mut command = Command::new(cluster.kubectl().program());
    let status =
        command.env("KUBECONFIG", cluster.kubeconfig()).args(arguments).status().context("starting kubectl")?;
    // As a shell says it when a signal ended the program.
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn status(output: Output) -> Result<()> {
    let mut clusters = Vec::new();
    for name in Cluster::names()? {
        clusters.push(match Cluster::attach(&name) {
            Ok(cluster) => json!({
                "name": name,
                "state": "Running",
                "version": cluster.version().release(),
                "url": cluster.url(),
                "kubeconfig": cluster.kubeconfig(),
            }),
            Err(error) => json!({ "name": name, "state": "Dead", "message": format!("{error:#}") }),
        });
    }
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&clusters)?);
        return Ok(());
    }
    if clusters.is_empty() {
        println!("no clusters");
        return Ok(());
    }
    println!("{:<21} {:<8} {:<8} {:<26} KUBECONFIG", "NAME", "STATE", "VERSION", "URL");
    for cluster in clusters {
        let [name, state, version, url, kubeconfig] = ["name", "state", "version", "url", "kubeconfig"]
            .map(|field| cluster[field].as_str().unwrap_or("-").to_owned());
        println!("{name:<21} {state:<8} {version:<8} {url:<26} {kubeconfig}");
    }
    Ok(())
}

fn make_images(arguments: &Images) -> Result<()> {
    let mut made: Vec<Image> = Vec::new();
    if let Some(program) = &arguments.operator {
        made.push(images::operator(program)?);
    }
    if let Some(program) = &arguments.bookstore {
        made.push(images::bookstore(program)?);
    }
    let envoy = arguments.envoy.clone().map_or_else(images::newest_envoy, Ok)?;
    made.push(images::envoy(&envoy)?);
    made.extend([images::busybox()?, images::pause()?, images::coredns()?]);
    if let Some(folder) = &arguments.folder {
        std::fs::create_dir_all(folder)?;
        for image in &made {
            let Some((_, name)) = image.repository().rsplit_once('/') else {
                bail!("images have a folder in their name")
            };
            std::fs::copy(image.archive(), folder.join(format!("{name}.tar")))?;
        }
    }
    if let Some(name) = &arguments.load {
        let cluster = Cluster::attach(name)?;
        made.iter().try_for_each(|image| cluster.load_image(image))?;
    }
    println!("{}", serde_json::to_string_pretty(&made)?);
    Ok(())
}
