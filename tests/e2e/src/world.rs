//! Everything that runs: the node, the pods of a folder of manifests, the control plane, the sidecars.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use osm_intercept::InterceptConfig;
use osm_testkit::apps::{LoadRequest, Report, RunningLoad, Target, TryRequest};
use osm_testkit::sandbox::STATE_DIRECTORY;
use osm_testkit::{
    Envoy, EnvoyBinary, EnvoySpec, Fabric, Manifests, Pod, Process, Workload, WorkloadSpec, apply_stage, eventually,
};
use serde_json::Value;

use crate::files::{self, Applied, ObjectKey};
use crate::operator::Operator;

/// How long anything may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(60);

/// A workload and who it is.
#[derive(Debug)]
pub struct Member {
    /// The namespace of its ServiceAccount; empty for one that is no part of the cluster.
    pub namespace: String,
    /// Its ServiceAccount; empty for one that is no part of the cluster.
    pub account: String,
    workload: Workload,
    /// Keeps its sidecar's certificate fresh.
    keeper: Option<Process>,
}

/// See the module. Everything ends when this is dropped.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: sidecars and applications, then the control plane, then the network.
    members: BTreeMap<String, Member>,
    operator: Option<Operator>,
    fabric: Fabric,
    envoy: EnvoyBinary,
    root: PathBuf,
}

impl World {
    /// Starts the pods of the manifests in `base`, without a mesh: addresses, names and applications come from the manifests alone.
    ///
    /// # Errors
    /// Not in a sandbox, or something does not start.
    pub async fn without_mesh(base: &Path, envoy: EnvoyBinary) -> Result<Self> {
        let fabric = Fabric::create().await?;
        let root = Path::new(STATE_DIRECTORY).join("world");
        for folder in ["manifests", "state", "status"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let mut world = Self { members: BTreeMap::new(), operator: None, fabric, envoy, root };
        apply_stage(base, &world.folder())?;
        let manifests = world.follow_services().await?;
        for pod in manifests.pods()? {
            let workload = Workload::start(&world.fabric, &pod.workload).await?;
            let member = Member { namespace: pod.namespace, account: pod.service_account, workload, keeper: None };
            world.members.insert(pod.workload.name, member);
        }
        Ok(world)
    }

    /// Like [`without_mesh`](Self::without_mesh), and then the control plane and a sidecar in every pod, all ready.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(base: &Path, envoy: EnvoyBinary) -> Result<Self> {
        let mut world = Self::without_mesh(base, envoy).await?;
        world.start_operator().await?;
        world.join_mesh().await?;
        Ok(world)
    }

    /// The folder of manifests that the control plane watches.
    pub fn folder(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// The folder into which the control plane writes status.
    pub fn status_folder(&self) -> PathBuf {
        self.root.join("status")
    }

    /// Starts the control plane.
    ///
    /// # Errors
    /// It is not ready in time.
    pub async fn start_operator(&mut self) -> Result<()> {
        ensure!(self.operator.is_none(), "the control plane runs already");
        let operator = Operator::start(&self.folder(), &self.root.join("state"), &self.status_folder()).await?;
        self.operator = Some(operator);
        Ok(())
    }

    /// Redirects every pod's connections to an Envoy of its own, and waits until all are ready.
    ///
    /// # Errors
    /// A sidecar does not become ready; the message holds its log.
    pub async fn join_mesh(&mut self) -> Result<()> {
        let operator = self.operator.as_ref().context("the control plane does not run")?;
        let envoy = &self.envoy;
        let joining = self.members.values_mut().filter(|member| !member.account.is_empty());
        try_join_all(joining.map(|member| member.join_mesh(operator, envoy))).await?;
        Ok(())
    }

    /// Keeps the certificates with which sidecars reach the control plane fresh from now on, as `osm-operator bootstrap --watch`
    /// does.
    ///
    /// # Errors
    /// A process cannot be started.
    pub fn keep_certificates(&mut self) -> Result<()> {
        let operator = self.operator.as_ref().context("the control plane does not run")?;
        for member in self.members.values_mut().filter(|member| !member.account.is_empty()) {
            let pod = member.workload.pod();
            let certificates = Envoy::directory_in(pod)?;
            let keeper = operator.keep_certificate(&member.namespace, &member.account, pod, &certificates)?;
            member.keeper = Some(keeper);
        }
        Ok(())
    }

    /// Adds a workload that no manifest knows and that has no sidecar.
    ///
    /// # Errors
    /// It does not start.
    pub async fn add_outsider(&mut self, spec: &WorkloadSpec) -> Result<()> {
        let workload = Workload::start(&self.fabric, spec).await?;
        let member = Member { namespace: String::new(), account: String::new(), workload, keeper: None };
        self.members.insert(spec.name.clone(), member);
        Ok(())
    }

    /// Changes the manifests as a user would: copies the `*.yaml` of `stage` over what is there, and deletes what its list
    /// `REMOVE` names.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub async fn apply(&self, stage: &Path) -> Result<Applied> {
        self.change(|folder| apply_stage(stage, folder).map(drop))
    }

    /// Writes one file of manifests, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn write(&self, name: &str, text: &str) -> Result<Applied> {
        self.change(|folder| {
            let scratch = folder.join(format!(".{name}.new"));
            fs::write(&scratch, text)?;
            Ok(fs::rename(&scratch, folder.join(name))?)
        })
    }

    /// Deletes a file of manifests.
    ///
    /// # Errors
    /// It is not there.
    pub async fn remove(&self, name: &str) -> Result<Applied> {
        self.change(|folder| fs::remove_file(folder.join(name)).with_context(|| format!("removing {name}")))
    }

    fn change(&self, change: impl FnOnce(&Path) -> Result<()>) -> Result<Applied> {
        let folder = self.folder();
        let before = files::objects(&folder)?;
        let generations = files::observed_generations(&self.status_folder(), before.keys());
        change(&folder)?;
        Ok(Applied::between(&before, &files::objects(&folder)?, &generations))
    }

    /// Waits until the status of every object that `applied` touched says that all connected proxies run it.
    ///
    /// Wait for one change of an object before making the next, or a status about the first is taken for one about the second.
    ///
    /// # Errors
    /// Not within `limit`; the message holds what a status says instead.
    pub async fn wait_programmed(&self, applied: &Applied, limit: Duration) -> Result<()> {
        let status = self.status_folder();
        eventually("the change is programmed", limit, || async { applied.is_programmed(&status) }).await
    }

    /// The status of one object, as the control plane wrote it.
    ///
    /// # Errors
    /// It has none.
    pub fn status(&self, object: &ObjectKey) -> Result<Value> {
        files::read_status(&self.status_folder(), object)
    }

    /// Makes Services' addresses and names follow the manifests, as kube-proxy and cluster DNS do.
    ///
    /// # Errors
    /// A manifest that cannot be read.
    pub async fn follow_services(&self) -> Result<Manifests> {
        let manifests = Manifests::read(&self.folder())?;
        self.fabric.set_services(&manifests.service_rules()?).await?;
        self.fabric.set_names(&manifests.names()?).await?;
        Ok(manifests)
    }

    /// Lets the application of `from` make attempts, and tells what it saw.
    ///
    /// # Errors
    /// There is no such workload, or it does not answer. That attempts fail is in the report.
    pub async fn request(&self, from: &str, request: &TryRequest) -> Result<Report> {
        self.member(from)?.workload.control().attempt(request).await
    }

    /// Lets the application of `from` make load until the handle is finished: four requests at a time, as fast as they are
    /// answered.
    ///
    /// # Errors
    /// There is no such workload, or it does not answer.
    pub async fn load(&self, from: &str, target: Target) -> Result<RunningLoad> {
        self.load_as(from, &LoadRequest::new(target)).await
    }

    /// Like [`load`](Self::load), at a rate and on connections of the caller's choice.
    ///
    /// # Errors
    /// There is no such workload, or it does not answer.
    pub async fn load_as(&self, from: &str, request: &LoadRequest) -> Result<RunningLoad> {
        self.member(from)?.workload.control().start_load(request).await
    }

    /// The control plane.
    ///
    /// # Errors
    /// It was not started.
    pub fn operator(&mut self) -> Result<&mut Operator> {
        self.operator.as_mut().context("the control plane does not run")
    }

    /// Kills the control plane as a crash would, starts it again and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn operator_restart(&mut self) -> Result<()> {
        let operator = self.operator()?;
        operator.kill().await?;
        operator.start_again().await
    }

    /// A page of a workload's Envoy's admin interface.
    ///
    /// # Errors
    /// There is no such workload, it has no sidecar, or that does not answer.
    pub async fn envoy_admin(&mut self, workload: &str, path: &str) -> Result<String> {
        self.envoy(workload)?.admin("GET", path).await
    }

    /// A workload's sidecar.
    ///
    /// # Errors
    /// There is no such workload, or it has no sidecar.
    pub fn envoy(&mut self, workload: &str) -> Result<&mut Envoy> {
        let member = self.members.get_mut(workload).with_context(|| format!("there is no workload {workload}"))?;
        member.workload.envoy().with_context(|| format!("{workload} has no sidecar"))
    }

    /// A workload.
    ///
    /// # Errors
    /// There is no such workload.
    pub fn member(&self, name: &str) -> Result<&Member> {
        self.members.get(name).with_context(|| format!("there is no workload {name}"))
    }

    /// The network, for pods of a test's own.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The Envoy that sidecars are.
    pub fn envoy_binary(&self) -> &EnvoyBinary {
        &self.envoy
    }
}

impl Member {
    /// Its pod.
    pub fn pod(&self) -> &Pod {
        self.workload.pod()
    }

    async fn join_mesh(&mut self, operator: &Operator, binary: &EnvoyBinary) -> Result<()> {
        let pod = self.workload.pod();
        let certificates = Envoy::directory_in(pod)?;
        let bootstrap = operator.bootstrap(&self.namespace, &self.account, pod, &certificates).await?;
        let spec = EnvoySpec::new(binary.clone(), bootstrap);
        let envoy = self.workload.join_mesh(&spec, &InterceptConfig::default())?;
        envoy.ready(LIMIT).await
    }
}
