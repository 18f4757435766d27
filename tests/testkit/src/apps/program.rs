//! The command line of `osm-bookstore`: which application to be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;

use super::attempt::{Attempter, ConnectionUse, Target, TryRequest};
use super::bookstore::{BookstoreOptions, serve_bookstore, serve_bookwarehouse};
use super::checks::{Checks, Health, command};
use super::control::Control;
use super::counters::Counters;
use super::health::{HealthOptions, TcpCheck};
use super::{echo, grpc, health, ledger, tcp};

/// The demo and test applications, one subcommand each.
#[derive(Debug, Parser)]
#[command(name = "osm-bookstore", version)]
pub struct Program {
    /// Unix socket on which this application can be asked to try things.
    #[arg(long, global = true, value_name = "FILE")]
    control: Option<PathBuf>,
    #[command(subcommand)]
    application: Application,
}

#[derive(Debug, Subcommand)]
enum Application {
    /// Buys books, by request on its control socket or by itself.
    Bookbuyer(Buyer),
    /// Tries to buy books, and should not succeed.
    Bookthief(Buyer),
    /// Sells books and has the warehouse restock them.
    Bookstore {
        #[command(flatten)]
        listen: Listen,
        /// The value of the Identity header: which version this is.
        #[arg(long)]
        identity: String,
        /// Where to restock.
        #[arg(
            long,
            value_name = "URL",
            default_value = "http://bookwarehouse.bookwarehouse.svc.cluster.local:14001/restock-books"
        )]
        warehouse: String,
    },
    /// Keeps count of restocked books in the ledger.
    Bookwarehouse {
        #[command(flatten)]
        listen: Listen,
        /// Name and port of the ledger; without it totals are kept in memory.
        #[arg(long, value_name = "NAME:PORT")]
        ledger: Option<String>,
    },
    /// Keeps totals; a TCP server that speaks first.
    Ledger(Listen),
    /// Reports HTTP requests back; WebSocket on /socket.
    HttpEcho(NamedListen),
    /// Echoes gRPC messages, unary and streaming.
    GrpcEcho(NamedListen),
    /// Echoes lines.
    TcpEcho(NamedListen),
    /// Is as healthy as its control socket is told, check by check: by HTTP and HTTPS a check is a path, by gRPC
    /// (grpc.health.v1) a service, by TCP a port.
    Health(Healthy),
    /// Asks an application on its control socket (--control) how a check is, and ends with 1 if it fails: for probes that run
    /// a command.
    Check {
        /// The check's name.
        check: String,
    },
    /// Serves nothing; acts by request on its control socket.
    Client {
        /// What it calls itself.
        #[arg(long, default_value = "client")]
        name: String,
    },
}

#[derive(Debug, Args)]
struct Buyer {
    /// Where to buy.
    #[arg(long, value_name = "URL", default_value = "http://bookstore.bookstore:14001")]
    bookstore: String,
    /// Buys every so many seconds; without it only by request.
    #[arg(long, value_name = "SECONDS")]
    every: Option<u64>,
}

#[derive(Debug, Args)]
struct Listen {
    /// Address and port to listen on; [::] takes IPv4, too.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
}

#[derive(Debug, Args)]
struct NamedListen {
    #[command(flatten)]
    listen: Listen,
    /// What it calls itself in answers.
    #[arg(long, default_value = "echo")]
    name: String,
}

#[derive(Debug, Args)]
struct Healthy {
    /// Where to answer by HTTP.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Where to answer by HTTPS, with a certificate that nobody knows.
    #[arg(long, value_name = "ADDRESS:PORT")]
    https: Option<SocketAddr>,
    /// Where to answer by gRPC.
    #[arg(long, value_name = "ADDRESS:PORT")]
    grpc: Option<SocketAddr>,
    /// Where connections are accepted while a check passes, and refused while it does not.
    #[arg(long, value_name = "CHECK=ADDRESS:PORT")]
    tcp: Vec<TcpCheck>,
    /// Checks that fail from the start.
    #[arg(long, value_name = "CHECK")]
    failing: Vec<String>,
    /// What it calls itself.
    #[arg(long, default_value = "health")]
    name: String,
}

impl Listen {
    async fn bind(&self) -> Result<TcpListener> {
        TcpListener::bind(self.listen).await.with_context(|| format!("listening on {}", self.listen))
    }
}

/// Runs the application until it is told to end (SIGTERM or SIGINT) or fails.
///
/// # Errors
/// A port or the control socket cannot be listened on.
pub async fn run(program: Program) -> Result<()> {
    let counters = Counters::default();
    let name = program.application.name();
    let headers = program.application.headers();
    let application = match program.application {
        Application::Check { check } => {
            let socket = program.control.context("--control says whom to ask")?;
            return command(&socket, &check).await;
        }
        application => application,
    };
    let checks = Checks::new(counters.clone());
    let control = Control::new(name, counters.clone(), headers.clone(), checks.clone());
    // Its ports are open before the control socket answers, so whoever waits for the socket can connect at once.
    let application = start(application, counters, headers, checks).await?;
    let controlled = async {
        match &program.control {
            Some(socket) => control.serve(socket).await,
            None => std::future::pending().await,
        }
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = application => ended.context("the application's task")?,
        ended = controlled => ended,
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    }
}

type Task = tokio::task::JoinHandle<Result<()>>;

async fn start(
    application: Application,
    counters: Counters,
    headers: BTreeMap<String, String>,
    checks: Checks,
) -> Result<Task> {
    Ok(match application {
        Application::Bookbuyer(buyer) | Application::Bookthief(buyer) => tokio::spawn(buy(buyer, counters, headers)),
        Application::Bookstore { listen, identity, warehouse } => {
            let options =
                BookstoreOptions { identity, warehouse: if warehouse.is_empty() { None } else { Some(warehouse) } };
            tokio::spawn(serve_bookstore(listen.bind().await?, options, counters))
        }
        Application::Bookwarehouse { listen, ledger } => {
            tokio::spawn(serve_bookwarehouse(listen.bind().await?, ledger, counters))
        }
        Application::Ledger(listen) => tokio::spawn(ledger::serve(listen.bind().await?, counters)),
        Application::HttpEcho(echo) => tokio::spawn(echo::serve(echo.listen.bind().await?, echo.name, counters)),
        Application::GrpcEcho(echo) => tokio::spawn(grpc::serve(echo.listen.bind().await?, echo.name, counters)),
        Application::TcpEcho(echo) => tokio::spawn(tcp::serve_echo(echo.listen.bind().await?, echo.name, counters)),
        Application::Health(healthy) => {
            for check in &healthy.failing {
                checks.set(check, Health::Failing);
            }
            let Healthy { http, https, grpc, tcp, .. } = healthy;
            tokio::spawn(health::listen(HealthOptions { http, https, grpc, tcp }, checks).await?)
        }
        Application::Client { .. } => tokio::spawn(std::future::pending()),
        Application::Check { .. } => anyhow::bail!("a check serves nothing"),
    })
}

async fn buy(buyer: Buyer, counters: Counters, headers: BTreeMap<String, String>) -> Result<()> {
    let Some(seconds) = buyer.every else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds.max(1)));
    let attempter = Attempter::new(headers, ConnectionUse::Reuse);
    loop {
        ticks.tick().await;
        for path in ["/books-bought", "/buy-a-book/new"] {
            let mut request = TryRequest::new(Target::get(format!("{}{path}", buyer.bookstore)), 1);
            request.connections = ConnectionUse::Reuse;
            let report = attempter.series(&request).await;
            for (identity, count) in &report.identities {
                counters.add_many(&format!("answers-from-{identity}"), *count);
            }
            counters.add_many("unsuccessful", report.unsuccessful());
        }
    }
}

impl Application {
    fn name(&self) -> String {
        match self {
            Self::Bookbuyer(_) => "bookbuyer".to_owned(),
            Self::Bookthief(_) => "bookthief".to_owned(),
            Self::Bookstore { identity, .. } => format!("bookstore-{identity}"),
            Self::Bookwarehouse { .. } => "bookwarehouse".to_owned(),
            Self::Ledger(_) => "ledger".to_owned(),
            Self::HttpEcho(echo) | Self::GrpcEcho(echo) | Self::TcpEcho(echo) => echo.name.clone(),
            Self::Health(healthy) => healthy.name.clone(),
            Self::Check { check } => check.clone(),
            Self::Client { name } => name.clone(),
        }
    }

    /// The headers by which OSM's demo tells its applications apart.
    fn headers(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("user-agent".to_owned(), "Go-http-client/1.1".to_owned()),
            ("client-app".to_owned(), self.name()),
        ])
    }
}
