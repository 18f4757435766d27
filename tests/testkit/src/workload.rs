//! A workload: a pod, its application, and, in the mesh, its sidecar and redirect rules.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use osm_intercept::InterceptConfig;

use crate::apps::ControlClient;
use crate::envoy::{Envoy, EnvoySpec};
use crate::fabric::{Fabric, Pod, PodAddresses};
use crate::process::{Process, ProcessSpec, Uid};
use crate::sandbox;

/// The user that applications run as; any but the proxy's.
pub const APPLICATION_UID: Uid = 2000;
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What to run, without a mesh.
#[derive(Debug, Clone)]
pub struct WorkloadSpec {
    /// The pod's name, 1 to 15 letters, digits and dashes.
    pub name: String,
    /// The pod's addresses; none: the next free ones.
    pub addresses: Option<PodAddresses>,
    /// The subcommand of `osm-bookstore` and its arguments, without `--control`.
    pub application: Vec<OsString>,
}

impl WorkloadSpec {
    /// One of our applications in a pod with the next free addresses.
    pub fn new(name: impl Into<String>, application: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { name: name.into(), addresses: None, application: application.into_iter().map(Into::into).collect() }
    }

    /// With the given addresses.
    #[must_use]
    pub fn at(mut self, addresses: PodAddresses) -> Self {
        self.addresses = Some(addresses);
        self
    }
}

/// A running workload. Its processes and its pod end when this is dropped.
#[derive(Debug)]
pub struct Workload {
    // Dropped in this order: processes before the pod they live in.
    envoy: Option<Envoy>,
    application: Process,
    control: ControlClient,
    pod: Pod,
}

impl Workload {
    /// Starts the application and waits until it serves.
    ///
    /// # Errors
    /// The pod cannot be made, or the application does not start; the message holds its log.
    pub async fn start(fabric: &Fabric, spec: &WorkloadSpec) -> Result<Self> {
        let pod = match spec.addresses {
            Some(addresses) => fabric.add_pod_at(&spec.name, addresses).await?,
            None => fabric.add_pod(&spec.name).await?,
        };
        let socket = pod.directory("application", APPLICATION_UID)?.join("control.sock");
        let program = sandbox::install_program(&application_program()?)?;
        let process = ProcessSpec::new(format!("application-{}", spec.name), program)
            .arguments(spec.application.iter().cloned())
            .arguments([OsString::from("--control"), socket.clone().into()])
            .uid(APPLICATION_UID);
        let mut application = pod.spawn(&process)?;
        let control = ControlClient::new(socket);
        let ready = tokio::select! {
            ready = control.ready(START_LIMIT) => ready.map(drop),
            // One that cannot start ends: no need to wait for the deadline.
            ended = application.wait(START_LIMIT) => Err(anyhow::anyhow!("it ended: {}", ended?)),
        };
        if let Err(error) = ready {
            let log = application.log_tail(20);
            return Err(error.context(format!("application of {}; its log:\n{log}", spec.name)));
        }
        Ok(Self { envoy: None, application, control, pod })
    }

    /// The pod.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The application's control socket.
    pub fn control(&self) -> &ControlClient {
        &self.control
    }

    /// The application's process.
    pub fn application(&mut self) -> &mut Process {
        &mut self.application
    }

    /// The sidecar, if the workload is in the mesh.
    pub fn envoy(&mut self) -> Option<&mut Envoy> {
        self.envoy.as_mut()
    }

    /// Puts the workload into the mesh as a new pod would start: redirect rules first, then the sidecar. Returns before the
    /// sidecar is ready.
    ///
    /// # Errors
    /// It is in the mesh already, the rules are refused, or Envoy cannot be started.
    pub fn join_mesh(&mut self, envoy: &EnvoySpec, interception: &InterceptConfig) -> Result<&mut Envoy> {
        ensure!(self.envoy.is_none(), "{} is in the mesh already", self.pod.name());
        self.pod.intercept(interception)?;
        let envoy = Envoy::start(&self.pod, envoy).with_context(|| format!("sidecar of {}", self.pod.name()))?;
        Ok(self.envoy.insert(envoy))
    }

    /// Takes the workload out of the mesh: rules first, then the sidecar.
    ///
    /// # Errors
    /// The rules cannot be removed.
    pub async fn leave_mesh(&mut self) -> Result<()> {
        self.pod.remove_interception()?;
        if let Some(envoy) = self.envoy.take() {
            envoy.stop().await?;
        }
        Ok(())
    }

    /// Ends the workload in order: application, sidecar, pod.
    ///
    /// # Errors
    /// A process cannot be ended.
    pub async fn stop(mut self) -> Result<()> {
        self.application.stop(STOP_GRACE).await?;
        if let Some(envoy) = self.envoy.take() {
            envoy.stop().await?;
        }
        Ok(())
    }
}

/// `osm-bookstore`: where `OSM_BOOKSTORE` says, else beside the running program or one directory above (tests run from `deps`).
///
/// # Errors
/// It is not built.
fn application_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OSM_BOOKSTORE") {
        return Ok(path.into());
    }
    let executable = std::env::current_exe()?;
    let candidates = executable.ancestors().skip(1).take(2).map(|directory| directory.join("osm-bookstore"));
    let found: Option<PathBuf> = candidates.into_iter().find(|path| path.is_file());
    found.context("the application osm-bookstore is not built: cargo build -p osm-testkit --bins, or set OSM_BOOKSTORE")
}
