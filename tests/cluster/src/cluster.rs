//! A whole cluster of one node, in namespaces of its own.

mod addons;
mod cgroups;
mod configuration;
mod holder;
mod network;
mod requirements;
mod state;

use std::collections::BTreeSet;
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
use crate::control_plane::{ControlPlane, ControllerManager, Endpoints, Layout};
use crate::images::{self, Image};
use crate::kubeconfig::{self, Credentials};
use crate::kubectl::Kubectl;
use crate::probe::Probe;
use crate::tools::{KubernetesVersion, Prepared, Tool, run};
use crate::wait;

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

    /// Kills the API server, as an outage does. What it stored stays, and pods go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop_api_server(&self) -> Result<()> {
        self.holder.kill("kube-apiserver")
    }

    /// Starts the API server again, and waits until it is ready.
    ///
    /// # Errors
    /// It runs, or it does not become ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.start_program("kube-apiserver", &self.state.control_plane.api_server_arguments())?;
        self.api_server_ready().await
    }

    /// Kills the kubelet and starts it again; pods go on. Waits until it answers and knows its pods again.
    ///
    /// # Errors
    /// There is no node, or the kubelet does not come back.
    pub async fn restart_kubelet(&self) -> Result<()> {
        ensure!(self.tier() == Tier::Whole, "the cluster {} has no node, so it has no kubelet", self.name());
        self.holder.kill("kubelet")?;
        self.start_program("kubelet", &self.configuration().kubelet_arguments())?;
        self.kubelet_knows_its_pods().await
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

    async fn start(&self, images: &[Image]) -> Result<()> {
        let control_plane = &self.state.control_plane;
        self.start_program("etcd", &control_plane.etcd_arguments())?;
        self.start_program("kube-apiserver", &control_plane.api_server_arguments())?;
        if self.tier() == Tier::Whole {
            let [pause, ..] = images else { bail!("the image of pod sandboxes is always built") };
            cgroups::create(&cgroups::name(self.name()))?;
            let configuration = self.configuration();
            configuration.write(&self.authority, pause)?;
            self.holder.start_program("containerd", Path::new("containerd"), &configuration.containerd_arguments())?;
            self.containerd_ready().await?;
            for image in images {
                self.load_image(image)?;
            }
        }
        self.api_server_ready().await?;
        let manager = self.kubeconfig_for("system:kube-controller-manager", None)?;
        let ranges = network::POD_RANGES.join(",");
        let manager = ControllerManager {
            kubeconfig: &manager,
            bind: IpAddr::from([127, 0, 0, 1]),
            pod_ranges: (self.tier() == Tier::Whole).then_some(&ranges),
        };
        self.start_program("kube-controller-manager", &control_plane.controller_manager_arguments(&manager))?;
        if self.tier() == Tier::Whole {
            self.start_node(images).await?;
        }
        // Without it nobody can make a pod.
        self.kubectl.output(&["wait", "--for=create", "--timeout=120s", "serviceaccount/default"]).await?;
        Ok(())
    }

    async fn start_node(&self, images: &[Image]) -> Result<()> {
        let configuration = self.configuration();
        self.start_program("kubelet", &configuration.kubelet_arguments())?;
        self.start_program("kube-proxy", &configuration.kube_proxy_arguments())?;
        let scheduler = self.kubeconfig_for("system:kube-scheduler", None)?;
        self.start_program("kube-scheduler", &configuration.scheduler_arguments(&scheduler))?;
        let [_, coredns] = images else { bail!("the image of the DNS server is always built") };
        self.kubectl.apply(&addons::coredns(coredns)).await?;
        self.program_is_alive("kubelet")?;
        let node = format!("node/{NODE_NAME}");
        self.kubectl.output(&["wait", "--for=create", "--timeout=120s", &node]).await?;
        self.kubectl.output(&["wait", "--for=condition=Ready", "--timeout=120s", &node]).await?;
        let dns = ["--namespace", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s"];
        self.kubectl.output(&dns).await?;
        Ok(())
    }

    fn start_program(&self, name: &str, arguments: &[String]) -> Result<()> {
        self.holder.start_program(name, &self.programs.folder().join(name), arguments)
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

    fn program_is_alive(&self, name: &str) -> Result<()> {
        self.holder.require_alive(name)
    }

    async fn containerd_ready(&self) -> Result<()> {
        let socket = self.configuration().containerd_socket();
        let holder = self.holder.clone();
        wait::until("containerd answers", wait::LIMIT, move || {
            holder.require_alive("containerd")?;
            run(Command::new("ctr").arg("--address").arg(&socket).arg("version"))
        })
        .await?;
        Ok(())
    }

    async fn api_server_ready(&self) -> Result<()> {
        let (probe, holder) = (self.probe()?, self.holder.clone());
        wait::until("the API server is ready", wait::LIMIT, move || {
            holder.require_alive("etcd")?;
            holder.require_alive("kube-apiserver")?;
            probe.get("/readyz")
        })
        .await?;
        Ok(())
    }

    async fn kubelet_knows_its_pods(&self) -> Result<()> {
        let (probe, holder) = (self.probe()?, self.holder.clone());
        wait::until("the kubelet knows its pods", wait::LIMIT, move || {
            holder.require_alive("kubelet")?;
            let bound = probe.get(&format!("/api/v1/pods?fieldSelector=spec.nodeName={NODE_NAME}"))?;
            let known = uids(&probe.get(&format!("/api/v1/nodes/{NODE_NAME}/proxy/pods"))?)?;
            let unknown: Vec<String> = uids(&bound)?.difference(&known).cloned().collect();
            ensure!(unknown.is_empty(), "the kubelet does not know the pods {}", unknown.join(", "));
            Ok(())
        })
        .await
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

/// The identities of the objects of a list.
fn uids(list: &str) -> Result<BTreeSet<String>> {
    let list: serde_json::Value = serde_json::from_str(list)?;
    let items = list["items"].as_array().into_iter().flatten();
    Ok(items.filter_map(|object| Some(object["metadata"]["uid"].as_str()?.to_owned())).collect())
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
