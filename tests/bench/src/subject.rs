//! The servers that can be measured, and one of them running with a fleet connected to it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::control::{Command, ResourceKind};
use crate::fleet::{self, Fleet, Subscription};
use crate::process::{Placement, ServerProcess};

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The least that tonic can do.
    Floor,
    /// The project's own xDS server.
    Ours,
    /// go-control-plane, a linear cache per type.
    GcpLinear,
    /// go-control-plane, one snapshot for all nodes.
    GcpSnapshotShared,
    /// go-control-plane, a snapshot for each node.
    GcpSnapshotPerNode,
}

impl Subject {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ours => "osm-xds",
            Self::GcpLinear => "gcp linear",
            Self::GcpSnapshotShared => "gcp snapshot, shared",
            Self::GcpSnapshotPerNode => "gcp snapshot, per node",
        }
    }
}

/// Where the programs are and how they are placed.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This program, which contains the floor and our own server.
    pub own: PathBuf,
    /// The go-control-plane server, where there is one.
    pub gcp: Option<PathBuf>,
    /// Processor of the servers.
    pub placement: Placement,
}

impl Programs {
    /// Starts `subject`; `proxies` is how many nodes may connect.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&self, subject: Subject, proxies: u32) -> anyhow::Result<ServerProcess> {
        let gcp = |mode: &str| {
            let program = self.gcp.clone().context("the go-control-plane server was not built (--gcp)")?;
            let arguments = ["-mode", mode, "-nodes", &proxies.to_string()].map(str::to_owned).to_vec();
            anyhow::Ok((program, arguments))
        };
        let (program, arguments) = match subject {
            Subject::Floor => (self.own.clone(), vec!["floor".to_owned()]),
            Subject::Ours => (self.own.clone(), vec!["ours".to_owned()]),
            Subject::GcpLinear => gcp("linear")?,
            Subject::GcpSnapshotShared => gcp("snapshot-shared")?,
            Subject::GcpSnapshotPerNode => gcp("snapshot-per-node")?,
        };
        ServerProcess::start(&program, &arguments, self.placement)
            .await
            .with_context(|| format!("start the {} server", subject.name()))
    }
}

/// Limit of one step of a measurement; far above what the slowest peer takes.
pub const STEP_LIMIT: Duration = Duration::from_secs(120);

/// A server that holds a mesh, and a fleet connected to it.
#[derive(Debug)]
pub struct Running {
    /// The server.
    pub server: ServerProcess,
    /// Its proxies.
    pub fleet: Fleet,
    /// The last revision given out; each change takes the next.
    revision: u32,
    services: u32,
}

/// Size of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Services in the mesh.
    pub services: u32,
    /// Proxies connected.
    pub proxies: u32,
    /// What each proxy asks for.
    pub subscription: Subscription,
}

/// What it took to bring every proxy to the mesh's state from nothing.
#[derive(Clone, Copy, Debug)]
pub struct FirstSync {
    /// From the first connection to the last proxy.
    pub wall: Duration,
    /// The server's processor time.
    pub processor_time: Duration,
}

/// What one change took.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    /// From telling the server until the last proxy had answered.
    pub wall: Duration,
}

impl Running {
    /// Starts a server with a mesh of the given size; its fleet is not connected yet.
    ///
    /// # Errors
    /// When the server does not start or refuses the mesh.
    pub async fn start(programs: &Programs, subject: Subject, size: Size) -> anyhow::Result<Self> {
        let mut server = programs.start(subject, size.proxies).await?;
        let fleet = Fleet::new(fleet::Config {
            address: server.address(),
            proxies: size.proxies,
            streams_per_connection: 1,
            subscription: size.subscription,
        });
        let load = Command::Services(size.services);
        fleet.expect(&load);
        server.tell(&load).await?;
        Ok(Self { server, fleet, revision: 0, services: size.services })
    }

    /// Connects the whole fleet and waits until it holds the mesh.
    ///
    /// # Errors
    /// When that does not happen, or the server breaks a rule.
    pub async fn first_sync(&mut self) -> anyhow::Result<FirstSync> {
        let before = self.server.rested().await?;
        let start = Instant::now();
        self.fleet.connect().await?;
        let end = self.fleet.converged(STEP_LIMIT).await?;
        let after = self.server.rested().await?;
        Ok(FirstSync { wall: end - start, processor_time: after - before })
    }

    /// Changes the resource of `count` services at once, not the same ones each time, and waits until every proxy has it.
    ///
    /// # Errors
    /// When that does not happen, or the server breaks a rule.
    pub async fn push(&mut self, kind: ResourceKind, count: u32) -> anyhow::Result<Push> {
        self.revision += 1;
        // A stride that is no divisor of the usual sizes visits all services.
        let first = self.revision.wrapping_mul(7) % (self.services - count + 1);
        self.apply(&Command::Change { kind, first, count, revision: self.revision }).await
    }

    /// Carries out a command and waits until every proxy holds the state it leads to.
    ///
    /// # Errors
    /// When that does not happen, or the server breaks a rule.
    pub async fn apply(&mut self, command: &Command) -> anyhow::Result<Push> {
        self.fleet.expect(command);
        if let Command::Services(count) = command {
            self.services = *count;
        }
        let start = Instant::now();
        self.server.tell(command).await?;
        let end = self.fleet.converged(STEP_LIMIT).await.with_context(|| format!("after {command}"))?;
        Ok(Push { wall: end.saturating_duration_since(start) })
    }
}
