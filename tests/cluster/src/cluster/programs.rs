//! The programs of a cluster: what is started in which order, killed and started again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use super::{Cluster, NODE_NAME, Tier, addons, cgroups, network};
use crate::control_plane::ControllerManager;
use crate::images::Image;
use crate::tools::run;
use crate::wait;

const API_SERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";

impl Cluster {
    /// Kills the API server, as an outage does. What it stored stays, and pods go on.
    ///
    /// The controller manager and the scheduler end with it, as those do that lose their leases. One that went on would take the node for
    /// dead as soon as the API server is back, because it has not heard of it for so long, and all its pods for not ready.
    ///
    /// # Errors
    /// They do not run.
    pub fn stop_api_server(&self) -> Result<()> {
        self.holder.kill(API_SERVER)?;
        self.holder.kill(CONTROLLER_MANAGER)?;
        if self.tier() == Tier::Whole { self.holder.kill(SCHEDULER) } else { Ok(()) }
    }

    /// Starts again what [`stop_api_server`](Self::stop_api_server) has ended, and waits until the API server is ready.
    ///
    /// # Errors
    /// It runs, or it does not become ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.start_program(API_SERVER, &self.state.control_plane.api_server_arguments())?;
        self.api_server_ready().await?;
        self.start_controller_manager()?;
        if self.tier() == Tier::Whole { self.start_scheduler() } else { Ok(()) }
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

    /// Starts everything; `images` are those of pod sandboxes and of the DNS server.
    pub(super) async fn start(&self, images: &[Image]) -> Result<()> {
        let control_plane = &self.state.control_plane;
        self.start_program("etcd", &control_plane.etcd_arguments())?;
        self.start_program(API_SERVER, &control_plane.api_server_arguments())?;
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
        self.start_controller_manager()?;
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
        self.start_scheduler()?;
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

    fn start_controller_manager(&self) -> Result<()> {
        let kubeconfig = self.kubeconfig_for("system:kube-controller-manager", None)?;
        let ranges = network::POD_RANGES.join(",");
        let options = ControllerManager {
            kubeconfig: &kubeconfig,
            bind: IpAddr::from([127, 0, 0, 1]),
            pod_ranges: (self.tier() == Tier::Whole).then_some(&ranges),
        };
        self.start_program(CONTROLLER_MANAGER, &self.state.control_plane.controller_manager_arguments(&options))
    }

    fn start_scheduler(&self) -> Result<()> {
        let kubeconfig = self.kubeconfig_for("system:kube-scheduler", None)?;
        self.start_program(SCHEDULER, &self.configuration().scheduler_arguments(&kubeconfig))
    }

    fn start_program(&self, name: &str, arguments: &[String]) -> Result<()> {
        self.holder.start_program(name, &self.programs.folder().join(name), arguments)
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
            holder.require_alive(API_SERVER)?;
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

/// The identities of the objects of a list.
fn uids(list: &str) -> Result<BTreeSet<String>> {
    let list: serde_json::Value = serde_json::from_str(list)?;
    let items = list["items"].as_array().into_iter().flatten();
    Ok(items.filter_map(|object| Some(object["metadata"]["uid"].as_str()?.to_owned())).collect())
}
