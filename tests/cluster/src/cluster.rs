//! A whole cluster of one node, in namespaces of its own.

mod addons;
mod cgroups;
mod configuration;
mod holder;
mod network;
mod programs;
mod requirements;
mod state;

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};

use self::configuration::{Configuration, Node};
use self::holder::Holder;
use self::state::{Place, State};
use crate::certificates::Authority;
use crate::control_plane::{ControlPlane, Endpoints, Layout};
use crate::images::{self, Image};
use crate::kubeconfig::{self, Credentials};
use crate::kubectl::Kubectl;
use crate::probe::Probe;
use crate::tools::{KubernetesVersion, Prepared, Tool, run};

/// The name of the one node.
pub const NODE_NAME: &str = "node";

/// What belongs to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Tier {
    /// etcd, the API server and the controllers. Pods stay pending.
    ApiServer,
    /// Also the scheduler, a node (kubelet, kube-proxy, containerd) and DNS.
    #[default]
    Whole,
}

/// When a cluster ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// When it is dropped, or when the process that started it ends.
    #[default]
    Owned,
    /// By [`Cluster::down`] only. Other processes reach it by [`Cluster::attach`].
    Kept,
}

/// How to start a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Tells clusters apart that run at the same time: up to 20 small letters, digits and dashes.
    pub name: String,
    /// Which Kubernetes.
    pub version: KubernetesVersion,
    /// What belongs to it.
    pub tier: Tier,
    /// When it ends.
    pub lifetime: Lifetime,
}

impl ClusterOptions {
    /// A whole cluster of the newest version that ends with its owner.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), version: KubernetesVersion::NEWEST, tier: Tier::Whole, lifetime: Lifetime::Owned }
    }
}

/// A cluster that runs. Its pods, its node and its control plane are in a network, a process and a mount namespace of their own; of
/// the host it uses two addresses on a link between the two, control groups, and a folder.
pub struct Cluster {
    place: Place,
    state: State,
    programs: Prepared,
    authority: Authority,
    holder: Holder,
    kubectl: Kubectl,
    lifetime: Mutex<Lifetime>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cluster").field("name", &self.name()).field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts a cluster, and waits until the node is ready and names are answered: some 15 seconds when everything is in the cache.
    ///
    /// # Errors
    /// Not as root, something is missing (the message says what to run), a cluster of that name runs, or a program fails; then
    /// nothing stays.
    pub async fn up(options: ClusterOptions) -> Result<Self> {
        requirements::check(options.tier)?;
        let version = options.version;
        let prepared = tokio::task::spawn_blocking(move || {
            let programs = Tool::Kubernetes(version).prepare()?;
            let images = match options.tier {
                Tier::ApiServer => Vec::new(),
                Tier::Whole => vec![images::pause()?, images::coredns()?],
            };
            anyhow::Ok((programs, images))
        });
        let (programs, images) = prepared.await.context("preparing does not panic")??;
        let place = Place::take(&options.name, options.lifetime)?;
        // From here on dropping it leaves nothing.
        let cluster = Self::lay_out(place, &options, programs)?;
        cluster.start(&images).await?;
        if options.lifetime == Lifetime::Kept {
            *cluster.lifetime.lock().unwrap_or_else(PoisonError::into_inner) = Lifetime::Kept;
        }
        Ok(cluster)
    }

    /// The cluster of that name that another process started and kept.
    ///
    /// # Errors
    /// There is none, or it has died.
    pub fn attach(name: &str) -> Result<Self> {
        let place = Place::of(name)?;
        let state = State::read(&place)?;
        let Some(holder) = Holder::find(place.folder())? else {
            bail!("the cluster {name} has died; remove what is left of it: osm-cluster down --name {name}");
        };
        let programs = Tool::Kubernetes(state.version).prepare()?;
        let authority = Authority::open(place.folder())?;
        let kubeconfig = kubeconfig_of(place.folder());
        let kubectl = Kubectl::new(programs.folder().join("kubectl"), kubeconfig, place.folder());
        Ok(Self { place, state, programs, authority, holder, kubectl, lifetime: Mutex::new(Lifetime::Kept) })
    }

    /// Ends the cluster of that name, dead or alive, and removes everything that it left on the host.
    ///
    /// # Errors
    /// There is none, or something cannot be removed.
    pub fn down(name: &str) -> Result<()> {
        state::remove_and_tidy(&Place::of(name)?)
    }

    /// The names of all clusters on this machine, dead or alive, whoever started them.
    ///
    /// # Errors
    /// The folder of clusters cannot be read.
    pub fn names() -> Result<Vec<String>> {
        state::names()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.place.name()
    }

    /// Which Kubernetes it is.
    pub fn version(&self) -> KubernetesVersion {
        self.state.version
    }

    /// What belongs to it.
    pub fn tier(&self) -> Tier {
        self.state.tier
    }

    /// Where the API server listens, for the host as well as for pods.
    pub fn url(&self) -> String {
        self.state.control_plane.url()
    }

    /// The certificate that verifies the API server, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// A kubeconfig of whoever may do everything. It works on the host.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig_of(self.place.folder())
    }

    /// A new kubeconfig of `user`, by client certificate, in `group` if one is given.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let path = self.place.folder().join(format!("{user}.kubeconfig"));
        let credentials = Credentials::Certificate(self.authority.client(user, group)?);
        kubeconfig::write(&path, &self.url(), self.ca_pem(), &credentials)?;
        Ok(path)
    }

    /// The audit log: a line of JSON (`audit.k8s.io/v1` Event, level Metadata) for each request that was answered.
    pub fn audit_log(&self) -> PathBuf {
        ControlPlane::audit_log(self.place.folder())
    }

    /// The folder of everything, with a log of each program (`NAME.log`).
    pub fn folder(&self) -> &Path {
        self.place.folder()
    }

    /// kubectl, as whoever may do everything.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The host's address on the link to the cluster: where something that listens on the host is reached by pods.
    pub fn host_address(&self) -> IpAddr {
        network::addresses(self.state.index).host_ipv4.into()
    }

    /// The node's address on that link, where its node ports are reached by the host.
    pub fn node_address(&self) -> IpAddr {
        network::addresses(self.state.index).node_ipv4.into()
    }

    /// Tells the DNS server names outside the cluster, and no others. It knows them when the kubelet has brought it its ConfigMap.
    ///
    /// # Errors
    /// There is no DNS server.
    pub async fn set_hosts(&self, hosts: &[(String, IpAddr)]) -> Result<()> {
        let patch = addons::hosts(hosts);
        let arguments = ["patch", "configmap", "coredns", "--namespace", "kube-system", "--type=merge", "-p", &patch];
        self.kubectl.output(&arguments).await.map(drop)
    }

    /// A command that runs `program` on the node: in the cluster's network, process and mount namespaces.
    pub fn on_node(&self, program: &str) -> Command {
        self.holder.command(program)
    }

    /// Imports an image archive (as `docker save` and [`images`] write them), so that pods can use it.
    ///
    /// # Errors
    /// There is no node, or containerd refuses the archive.
    pub fn load(&self, archive: &Path) -> Result<()> {
        ensure!(self.tier() == Tier::Whole, "the cluster {} has no node, so it has no images", self.name());
        let mut command = self.ctr();
        run(command.args(["images", "import"]).arg(archive)).map(|_| ())
    }

    /// Imports an image, unless it is there: its tag says what is in it.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_image(&self, image: &Image) -> Result<()> {
        ensure!(self.tier() == Tier::Whole, "the cluster {} has no node, so it has no images", self.name());
        let there = run(self.ctr().args(["images", "list", "--quiet"]))?;
        // Listed with the registry that is meant when none is named.
        let listed = format!("/{}", image.reference());
        if there.lines().any(|line| line.ends_with(&listed)) { Ok(()) } else { self.load(image.archive()) }
    }

    /// The body of the answer of the API server to a GET, such as `/metrics`.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub async fn get(&self, path: &str) -> Result<String> {
        let (probe, path) = (self.probe()?, path.to_owned());
        tokio::task::spawn_blocking(move || probe.get(&path)).await.context("asking does not panic")?
    }

    /// Kills the processes of a container at once, as a crash does; `id` is what its pod's status calls `containerID`. Gives how many
    /// there were: none if it has ended.
    ///
    /// # Errors
    /// `id` is none of containerd's, or a process may not be killed.
    pub fn kill_container(&self, id: &str) -> Result<usize> {
        let id = id.strip_prefix("containerd://").filter(|id| !id.is_empty());
        let processes = cgroups::processes(id.context("the id of a container begins with containerd://")?)?;
        processes.iter().try_for_each(|pid| holder::kill(*pid))?;
        Ok(processes.len())
    }

    fn lay_out(place: Place, options: &ClusterOptions, programs: Prepared) -> Result<Self> {
        let folder = place.folder();
        let addresses = network::addresses(place.index());
        let authority = Authority::create(folder)?;
        let control_plane = ControlPlane::lay_out(
            &authority,
            &Layout {
                folder,
                address: addresses.node_ipv4.into(),
                etcd: std::net::Ipv4Addr::LOCALHOST,
                service_ranges: &network::SERVICE_RANGES.join(","),
                service_addresses: &network::API_SERVER_SERVICE,
                endpoints: Endpoints::Published,
            },
        )?;
        let kubeconfig = kubeconfig_of(folder);
        let administrator = Credentials::Certificate(ControlPlane::administrator(&authority)?);
        kubeconfig::write(&kubeconfig, &control_plane.url(), authority.pem(), &administrator)?;
        let state = State { index: place.index(), version: options.version, tier: options.tier, control_plane };
        state.write(&place)?;
        let holder = Holder::start(folder, options.lifetime)?;
        network::connect(&addresses, place.index(), &holder)?;
        let kubectl = Kubectl::new(programs.folder().join("kubectl"), kubeconfig, folder);
        Ok(Self { place, state, programs, authority, holder, kubectl, lifetime: Mutex::new(Lifetime::Owned) })
    }

    fn configuration(&self) -> Configuration<'_> {
        let node = Node { addresses: network::addresses(self.state.index), cgroup: cgroups::name(self.name()) };
        Configuration::new(self.place.folder(), &self.state.control_plane, node)
    }

    fn probe(&self) -> Result<Probe> {
        let administrator = ControlPlane::administrator(&self.authority)?;
        Probe::new(self.state.control_plane.socket(), self.authority.pem(), &administrator)
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.configuration().containerd_socket()).args(["--namespace", "k8s.io"]);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if *self.lifetime.get_mut().unwrap_or_else(PoisonError::into_inner) == Lifetime::Owned {
            // What stays is removed by the next that starts.
            let _ = state::remove_and_tidy(&self.place);
        }
    }
}

fn kubeconfig_of(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}

/// Removes a file or folder of ours if it is there.
fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
