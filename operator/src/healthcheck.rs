//! `osm-operator healthcheck`: answers the kubelet's probes that the sidecar cannot pass on.
//!
//! The kubelet asks by HTTP and says in a header what it wants to know; the answer's status is the verdict. Only the
//! ports of the pod's own probes can be asked about, at one address: it is no way into the pod.

mod checks;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use clap::Args;
use osm_bootstrap::names;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How many probes are answered at the same time; more are told to come again.
const CONCURRENT_CHECKS: usize = 64;

/// Shown below the options.
pub(crate) const HELP: &str = "\
Answers GET /osm-healthcheck by one of these headers, after asking the application:
  Original-Tcp-Port     200 it accepts connections, 404 it does not
  Original-Grpc-Port    200 it is SERVING (Original-Grpc-Service), 503 it is not
  Original-Https-Port   the application's own status for Original-Https-Path; its certificate is not verified
400 without such a header, 403 for another port than those given. A check takes a minute at the most.";

/// What may be asked about.
#[derive(Debug, Args)]
pub(crate) struct HealthCheckArgs {
    /// Port of a probe, may be repeated or a comma-separated list
    #[arg(long = "port", value_delimiter = ',', required = true)]
    ports: Vec<u16>,
    /// Where the application listens: loopback, or the pod's own address
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Address to answer on [default: port 15904 on every address of the pod]
    #[arg(long)]
    listen: Option<SocketAddr>,
}

/// What the handler needs.
#[derive(Debug)]
struct Checks {
    address: IpAddr,
    ports: BTreeSet<u16>,
    turns: Semaphore,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The address is in use.
pub(crate) async fn run(args: HealthCheckArgs) -> anyhow::Result<ExitCode> {
    crate::log_to_stderr();
    let listener = listen(args.listen).await?;
    tracing::info!(address = %listener.local_addr()?, application = %args.address, "answering probes");
    let router = router(args.address, args.ports.into_iter().collect());
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // Not gracefully: a probe that is under way matters to nobody when the pod ends.
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.context("answer probes")?,
        _ = terminated.recv() => tracing::info!("stopping"),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("wait for SIGINT")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Every address of the pod, of both families where the kernel has both.
async fn listen(address: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let port = names::HEALTH_CHECK_PORT;
    let (first, second) = match address {
        Some(address) => (address, None),
        None => {
            let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            (SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)), Some(ipv4))
        }
    };
    let bound = match (TcpListener::bind(first).await, second) {
        // A kernel without IPv6.
        (Err(error), Some(ipv4)) if error.kind() != std::io::ErrorKind::AddrInUse => TcpListener::bind(ipv4).await,
        (bound, _) => bound,
    };
    bound.with_context(|| format!("listen on port {} for probes", first.port()))
}

fn router(address: IpAddr, ports: BTreeSet<u16>) -> axum::Router {
    let checks = Checks { address, ports, turns: Semaphore::new(CONCURRENT_CHECKS) };
    axum::Router::new().route(names::HEALTH_CHECK_PATH, get(answer)).with_state(Arc::new(checks))
}

async fn answer(State(checks): State<Arc<Checks>>, headers: HeaderMap) -> (StatusCode, String) {
    let check = match Check::read(&headers) {
        Ok(check) => check,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem),
    };
    let port = check.port();
    if !checks.ports.contains(&port) {
        return (StatusCode::FORBIDDEN, format!("no probe of this pod asks port {port}"));
    }
    let Ok(_turn) = checks.turns.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many probes at the same time".to_owned());
    };
    let target = SocketAddr::new(checks.address, port);
    match tokio::time::timeout(checks::LIMIT, check.ask(target)).await {
        Ok(verdict) => verdict,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, format!("{target} gave no answer within {:?}", checks::LIMIT)),
    }
}

/// What the kubelet wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    /// Whether the port accepts connections.
    Tcp { port: u16 },
    /// Whether a gRPC service is serving.
    Grpc { port: u16, service: String },
    /// The status of a page.
    Https { port: u16, path: String },
}

impl Check {
    /// Reads the headers of a probe.
    ///
    /// # Errors
    /// None of the headers is there, or one cannot be used.
    fn read(headers: &HeaderMap) -> Result<Self, String> {
        let text = |name: &str| match headers.get(name).map(|value| value.to_str()) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim())),
            Some(Err(_)) => Err(format!("header {name} is not text")),
        };
        let port = |name: &str| match text(name)? {
            None => Ok(None),
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port > 0 => Ok(Some(port)),
                _ => Err(format!("header {name}: {text:?} is no port")),
            },
        };
        if let Some(port) = port(names::TCP_PORT_HEADER)? {
            return Ok(Self::Tcp { port });
        }
        if let Some(port) = port(names::GRPC_PORT_HEADER)? {
            let service = text(names::GRPC_SERVICE_HEADER)?.unwrap_or_default().to_owned();
            return Ok(Self::Grpc { port, service });
        }
        if let Some(port) = port(names::HTTPS_PORT_HEADER)? {
            let path = match text(names::HTTPS_PATH_HEADER)?.unwrap_or_default() {
                "" => "/".to_owned(),
                path if path.starts_with('/') => path.to_owned(),
                path => format!("/{path}"),
            };
            return Ok(Self::Https { port, path });
        }
        Err(format!(
            "one of the headers {}, {} and {} is required",
            names::TCP_PORT_HEADER,
            names::GRPC_PORT_HEADER,
            names::HTTPS_PORT_HEADER
        ))
    }

    fn port(&self) -> u16 {
        match self {
            Self::Tcp { port } | Self::Grpc { port, .. } | Self::Https { port, .. } => *port,
        }
    }

    async fn ask(&self, target: SocketAddr) -> (StatusCode, String) {
        match self {
            Self::Tcp { .. } => checks::tcp(target).await,
            Self::Grpc { service, .. } => checks::grpc(target, service).await,
            Self::Https { path, .. } => checks::https(target, path).await,
        }
    }
}

#[cfg(test)]
mod tests;
