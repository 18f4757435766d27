//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use osm_engine::Options;
use osm_issuer::{Clock, TrustDomain};
use osm_model::Identity;

use crate::bootstrap::{self, Bootstrap};
use crate::logging::{Collector, LogFormat};
use crate::render::{self, Outcome, Output, Selection, Type};
use crate::roots::{self, Factory, Timing};
use crate::run::RunArgs;
use crate::standalone::{self, Standalone};
use crate::{commands, healthcheck, identity, init, intercept, logging, run};

/// A service mesh from Kubernetes objects: SMI policies and MeshConfig in, Envoy configuration out.
#[derive(Debug, Parser)]
#[command(name = "osm-operator", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a mesh in a cluster: the control plane
    #[command(after_help = run::HELP)]
    Run(Box<RunArgs>),
    /// Serve a mesh from a folder of manifests, without a cluster
    #[command(after_help = STANDALONE_HELP)]
    Standalone(StandaloneArgs),
    /// Print what each proxy would get from a folder of manifests, and everything that is wrong with it
    #[command(after_help = RENDER_HELP)]
    Render(RenderArgs),
    /// Print the bootstrap of an Envoy on a VM or in a network namespace, and write its certificate
    #[command(after_help = BOOTSTRAP_HELP)]
    Bootstrap(BootstrapArgs),
    /// Redirect a workload's TCP connections to the Envoy beside it, or stop doing so
    #[command(after_help = intercept::HELP)]
    Intercept(intercept::InterceptArgs),
    /// Prepare a pod for its sidecar: the init container's part
    #[command(after_help = init::HELP)]
    Init(Box<init::InitArgs>),
    /// Answer probes that the sidecar of a pod cannot pass on
    #[command(after_help = healthcheck::HELP)]
    Healthcheck(healthcheck::HealthCheckArgs),
    /// Install the mesh into a cluster, or upgrade it
    Install(commands::install::InstallArgs),
    /// Remove the mesh from a cluster
    Uninstall(commands::install::UninstallArgs),
    /// Put namespaces into the mesh, take them out, list them
    Namespace(commands::namespace::NamespaceArgs),
    /// List the proxies of the mesh, ask one
    Proxy(commands::proxy::ProxyArgs),
    /// Say who may talk to whom, and which object says so
    Policy(commands::policy::PolicyArgs),
    /// Find out why a call works or does not
    Verify(commands::verify::VerifyArgs),
    /// Check whether a cluster can have the mesh, and whether the one it has is well
    Check(commands::check::CheckArgs),
    /// Print versions
    Version(commands::version::VersionArgs),
    /// See what signs and what is trusted, when certificates end, and how far a rotation of roots has come
    Certificate(commands::certificate::CertificateArgs),
    /// Print what a shell needs to complete this command line
    Completion(commands::completion::CompletionArgs),
}

const STANDALONE_HELP: &str = "\
Examples:
  osm-operator standalone ./manifests --state-dir ./state
  osm-operator standalone ./manifests --state-dir ./state --status-dir ./status --listen 10.0.0.1:15128

Exit codes: 0 stopped by SIGTERM or SIGINT, 2 could not start or had to give up.";

const RENDER_HELP: &str = "\
Examples:
  osm-operator render ./manifests
  osm-operator render ./manifests --proxy bookbuyer/bookbuyer --type clusters -o yaml

Exit codes: 0 clean, 1 there are findings, 2 the folder cannot be used.";

const BOOTSTRAP_HELP: &str = "\
Examples:
  osm-operator bootstrap --proxy bookbuyer/bookbuyer --node vm-1 --state-dir ./state --certificate-dir ./vm-1 > envoy.yaml
  envoy -c envoy.yaml
  osm-operator bootstrap --proxy bookbuyer/bookbuyer --node vm-1 --state-dir ./state --certificate-dir ./vm-1 --watch

Exit codes: 0 written, 2 could not be written.";

/// Options of the mesh, the same wherever they are given.
#[derive(Debug, Args)]
pub(crate) struct MeshArgs {
    /// Name of the mesh: value of the namespaces' label openservicemesh.io/monitored-by
    #[arg(long, default_value = "osm")]
    mesh_name: String,
    /// Namespace of the control plane, where the MeshConfig is
    #[arg(long, default_value = "osm-system")]
    osm_namespace: String,
    /// Trust domain of certificates
    #[arg(long, default_value = "cluster.local")]
    trust_domain: String,
    /// DNS suffix of the cluster
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Range of ClusterIPs, may be repeated; without it the ranges are learnt from the Services
    #[arg(long = "service-cidr", value_name = "CIDR")]
    service_ranges: Vec<IpNet>,
}

impl MeshArgs {
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            mesh_name: self.mesh_name.as_str().into(),
            control_plane_namespace: self.osm_namespace.as_str().into(),
            trust_domain: osm_model::TrustDomain::new(&self.trust_domain)?,
            cluster_domain: self.cluster_domain.as_str().into(),
            service_ranges: self.service_ranges.clone(),
        })
    }
}

#[derive(Debug, Args)]
struct StandaloneArgs {
    /// Folder of manifests (YAML or JSON)
    folder: PathBuf,
    /// Address on which xDS is served, by mutual TLS
    #[arg(long, default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15128))]
    listen: SocketAddr,
    /// Address of the admin endpoint: /livez, /readyz, /metrics, /debug, POST /certificates/rotate
    #[arg(long, default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9091))]
    admin: SocketAddr,
    /// Folder that holds the certificate authority; made if it is not there
    #[arg(long)]
    state_dir: PathBuf,
    /// Folder into which the status of objects and workloads is written
    #[arg(long)]
    status_dir: Option<PathBuf>,
    /// How long a rotation of roots waits for a proxy that was connected to come back, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = parse_seconds)]
    proxy_grace: f64,
    /// How long after a change of roots every file that proxies verify the control plane against has it, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = parse_seconds)]
    trust_bundle_delay: f64,
    /// How often the providers of roots in use are looked at, and the Secrets with their credentials, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = parse_seconds)]
    provider_check: f64,
    /// Where traces of the control plane's own work are sent, by OTLP over gRPC
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    #[command(flatten)]
    mesh: MeshArgs,
}

#[derive(Debug, Args)]
struct RenderArgs {
    /// Folder of manifests (YAML or JSON)
    folder: PathBuf,
    /// Only this workload
    #[arg(long, value_name = "NAMESPACE/SERVICEACCOUNT", value_parser = parse_identity)]
    proxy: Option<Identity>,
    /// Only resources of this type
    #[arg(long = "type", value_enum)]
    kind: Option<Type>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    mesh: MeshArgs,
}

#[derive(Debug, Args)]
struct BootstrapArgs {
    /// The workload the proxy belongs to
    #[arg(long, value_name = "NAMESPACE/SERVICEACCOUNT", value_parser = parse_identity)]
    proxy: Identity,
    /// Name of the proxy among those of its workload
    #[arg(long)]
    node: String,
    /// Address at which the control plane serves xDS
    #[arg(long, default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15128))]
    control_plane: SocketAddr,
    /// Folder that holds the certificate authority, as given to the control plane
    #[arg(long)]
    state_dir: PathBuf,
    /// Folder into which the proxy's certificate is written, as an absolute path or from where Envoy will run
    #[arg(long)]
    certificate_dir: PathBuf,
    /// User to whom the certificate is given, for example 1500
    #[arg(long)]
    proxy_uid: Option<u32>,
    /// Port of Envoy's admin interface on loopback
    #[arg(long, default_value_t = osm_translate::naming::ADMIN_PORT)]
    admin_port: u16,
    /// Stay and renew the certificate before it ends
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    mesh: MeshArgs,
}

fn parse_identity(text: &str) -> Result<Identity, String> {
    let (namespace, account) = text.split_once('/').ok_or("write it as NAMESPACE/SERVICEACCOUNT")?;
    Identity::new(namespace, account).map_err(|error| error.to_string())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds")?;
    if (0.0..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("write a number from 0 to 86400".to_owned()) }
}

impl Cli {
    /// Carries the command out; errors go to standard error, with everything that led to them.
    pub async fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Run(args) => run_in_cluster(*args).await,
            Command::Standalone(args) => run_standalone(args).await,
            Command::Render(args) => run_render(&args),
            Command::Bootstrap(args) => run_bootstrap(args).await,
            Command::Intercept(args) => intercept::run(&args),
            Command::Init(args) => init::run(&args),
            Command::Healthcheck(args) => healthcheck::run(args).await,
            Command::Install(args) => commands::install::install(&args),
            Command::Uninstall(args) => commands::install::uninstall(&args).await,
            Command::Namespace(args) => commands::namespace::run(args).await,
            Command::Proxy(args) => commands::proxy::run(args).await,
            Command::Policy(args) => commands::policy::run(args).await,
            Command::Verify(args) => commands::verify::run(args).await,
            Command::Check(args) => commands::check::run(args).await,
            Command::Version(args) => commands::version::run(args).await,
            Command::Certificate(args) => commands::certificate::run(args).await,
            Command::Completion(args) => Ok(commands::completion::run::<Self>(&args)),
        };
        outcome.unwrap_or_else(|error| {
            crate::print_error(&error);
            ExitCode::from(2)
        })
    }
}

async fn run_in_cluster(args: RunArgs) -> anyhow::Result<ExitCode> {
    let replica = Some(args.replica_name.as_str());
    let collector = args.otlp_endpoint.as_deref().map(|address| Collector { address, replica });
    let logs = Arc::new(logging::start(args.log_format, collector)?);
    let options = args.mesh.options()?;
    let ended = run::run(args, options, Arc::clone(&logs)).await;
    logs.finish();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn run_standalone(args: StandaloneArgs) -> anyhow::Result<ExitCode> {
    let collector = args.otlp_endpoint.as_deref().map(|address| Collector { address, replica: None });
    let logs = logging::start(LogFormat::Json, collector)?;
    let options = args.mesh.options()?;
    let StandaloneArgs { folder, listen, admin, state_dir: state, status_dir: status, .. } = args;
    let timing = Timing {
        proxy_grace: Duration::from_secs_f64(args.proxy_grace),
        trust_bundle_delay: Duration::from_secs_f64(args.trust_bundle_delay),
        // Never without a pause.
        look_every: Duration::from_secs_f64(args.provider_check.max(1.0)),
        ..Timing::STANDALONE
    };
    let ended = standalone::run(Standalone { folder, listen, admin, state, status, options, timing }).await;
    logs.finish();
    ended.map(|()| ExitCode::SUCCESS)
}

fn run_render(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    let selection = Selection { proxy: args.proxy.clone(), kind: args.kind, output: args.output };
    let (text, outcome) = render::render(&args.folder, args.mesh.options()?, &selection);
    Ok(match outcome {
        Outcome::Clean => crate::print(&text, ExitCode::SUCCESS),
        Outcome::Findings => crate::print(&text, ExitCode::from(1)),
        Outcome::Unusable => crate::print_to_stderr(&text, ExitCode::from(2)),
    })
}

async fn run_bootstrap(args: BootstrapArgs) -> anyhow::Result<ExitCode> {
    let bootstrap = Bootstrap {
        workload: args.proxy,
        node: args.node,
        control_plane: args.control_plane,
        trust_domain: TrustDomain::new(&args.mesh.trust_domain)?,
        certificates: args.certificate_dir,
        admin_port: args.admin_port,
    };
    let control_plane = identity::control_plane_identity(&bootstrap.trust_domain, &args.mesh.osm_namespace)?;
    let factory = Factory::in_folder(&args.state_dir, control_plane);
    let mut followed = roots::open_store(&args.state_dir, factory, &args.mesh.osm_namespace, Clock::system()).await?;
    let store = Arc::clone(&followed.store);
    let envoy = serde_saphyr::to_string(&bootstrap.envoy()?)?;
    bootstrap::write_certificates(&bootstrap, &store, args.proxy_uid).await?;
    let written = crate::print(&envoy, ExitCode::SUCCESS);
    if args.watch {
        crate::log_to_stderr();
        tokio::select! {
            ended = bootstrap::renew(&bootstrap, &store, args.proxy_uid) => match ended? {},
            never = roots::follow(&mut followed) => match never {},
        }
    }
    Ok(written)
}
