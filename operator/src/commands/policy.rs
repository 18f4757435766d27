//! `osm-operator policy`: who may talk to whom, and which object says so.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use kube::api::Api;
use osm_api::k8s_openapi::api::core::v1::Pod;
use osm_engine::MeshEngine;
use osm_model::{Identity, InboundPolicy, InboundPort, Origin};
use serde::Serialize;

use super::cluster::ClusterArgs;
use super::output::{FormatArgs, columns};

pub(crate) const HELP: &str = "\
Examples:
  osm-operator policy check-pods bookbuyer/bookbuyer-7d9f bookstore/bookstore-v1-5c6b
  osm-operator policy check-pods bookbuyer/bookbuyer-7d9f bookstore/bookstore-v1-5c6b -o json

Exit codes: 0 something is allowed, 1 everything is denied, 2 it could not be found out.";

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Say port by port what a pod may ask of another, and which object allows it
    #[command(after_help = HELP)]
    CheckPods {
        /// The pod that calls
        #[arg(value_name = "NAMESPACE/POD", value_parser = parse_pod)]
        from: PodName,
        /// The pod that is called
        #[arg(value_name = "NAMESPACE/POD", value_parser = parse_pod)]
        to: PodName,
        #[command(flatten)]
        format: FormatArgs,
    },
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

pub(crate) fn parse_pod(text: &str) -> Result<PodName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(PodName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("write it as NAMESPACE/POD".to_owned()),
    }
}

/// Carries the command out.
pub(crate) async fn run(args: PolicyArgs) -> anyhow::Result<ExitCode> {
    let PolicyCommand::CheckPods { from, to, format } = args.command;
    let client = args.cluster.client().await?;
    let caller = peer(&client, &from).await?;
    let called = peer(&client, &to).await?;
    let mesh = args.cluster.mesh(&client).await?;
    let answer = check(&mesh, &caller, &called);
    let code = if answer.allowed() { ExitCode::SUCCESS } else { ExitCode::from(1) };
    Ok(crate::print(&format.text(&answer, Answer::table)?, code))
}

/// Reads what a check needs to know of a pod.
pub(crate) async fn peer(client: &kube::Client, pod: &PodName) -> anyhow::Result<Peer> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let found = api.get(&pod.name).await.with_context(|| format!("read pod {}/{}", pod.namespace, pod.name))?;
    Peer::of(&found)
}

/// One side of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// `namespace/name`.
    pub(crate) pod: String,
    /// Whose it is.
    pub(crate) identity: Identity,
    /// Whether a proxy runs in it.
    pub(crate) has_proxy: bool,
}

impl Peer {
    /// # Errors
    /// The API server gave a pod with a name that it would not take.
    pub(crate) fn of(pod: &Pod) -> anyhow::Result<Self> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let identity = Identity::new(namespace, account).with_context(|| format!("read pod {namespace}/{name}"))?;
        Ok(Self { pod: format!("{namespace}/{name}"), identity, has_proxy: has_proxy(pod) })
    }
}

/// Whether a proxy was injected into the pod.
pub(crate) fn has_proxy(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let sidecars = spec.init_containers.iter().flatten();
    spec.containers.iter().chain(sidecars).any(|container| container.name == osm_bootstrap::names::PROXY_CONTAINER)
}

/// What a pod may ask of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    from: String,
    to: String,
    /// Why nothing can work whatever the policies say; empty if nothing stands in the way.
    obstacles: Vec<String>,
    /// What each port of the called pod says to the caller.
    ports: Vec<PortAnswer>,
}

/// What one port accepts from the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortAnswer {
    /// Port of the pod.
    port: u16,
    protocol: String,
    /// Services that lead to it.
    services: Vec<String>,
    allowed: bool,
    /// Objects that allow it, or why it is denied.
    because: Vec<String>,
    /// For HTTP: the routes, by the object and match that name them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<String>,
}

/// Evaluates the policies for a caller and a called pod.
pub(crate) fn check(mesh: &MeshEngine, from: &Peer, to: &Peer) -> Answer {
    let mut obstacles = Vec::new();
    for peer in [from, to] {
        if !mesh.workloads().any(|workload| *workload == peer.identity) {
            let Identity { namespace, .. } = &peer.identity;
            obstacles.push(format!(
                "{} is not in the mesh: add its namespace by `osm-operator namespace add {namespace}`, then restart the pod",
                peer.pod
            ));
        } else if !peer.has_proxy {
            obstacles.push(format!(
                "{} has no proxy although its namespace is in the mesh: enable injection and restart the pod",
                peer.pod
            ));
        }
    }
    let ports = mesh.inbound(&to.identity).map(|view| view.ports.as_slice()).unwrap_or_default();
    if ports.is_empty() && obstacles.is_empty() {
        obstacles.push(format!("no Service leads to {}: without one it cannot be called through the mesh", to.pod));
    }
    let ports = ports.iter().map(|port| port_answer(port, &from.identity)).collect();
    Answer { from: from.pod.clone(), to: to.pod.clone(), obstacles, ports }
}

fn port_answer(port: &InboundPort, caller: &Identity) -> PortAnswer {
    let mut because = Vec::new();
    let mut routes = Vec::new();
    let mut name = |origins: &[Origin]| {
        let objects = origins.first().map(|origin| origin.object.to_string());
        because.extend(objects.filter(|object| !because.contains(object)));
    };
    let allowed = match &port.policy {
        InboundPolicy::Permissive => {
            because.push("permissive mode: every workload of the mesh".to_owned());
            true
        }
        InboundPolicy::Http(rules) => {
            for rule in rules.iter().filter(|rule| rule.principals.contains(caller)) {
                name(&rule.origins);
                routes.push(rule.route.to_string());
            }
            !routes.is_empty()
        }
        InboundPolicy::Tcp(rules) => {
            let mut granted = rules.iter().filter(|rule| rule.principals.contains(caller)).peekable();
            let allowed = granted.peek().is_some();
            granted.for_each(|rule| name(&rule.origins));
            allowed
        }
    };
    if !allowed {
        because.push(format!("no TrafficTarget allows {caller}"));
    }
    PortAnswer {
        port: port.target_port,
        protocol: format!("{:?}", port.protocol).to_lowercase(),
        services: port.services.iter().map(|(service, number)| format!("{service}:{number}")).collect(),
        allowed,
        because,
        routes,
    }
}

impl Answer {
    /// Whether anything can be asked.
    pub(crate) fn allowed(&self) -> bool {
        self.obstacles.is_empty() && self.ports.iter().any(|port| port.allowed)
    }

    pub(crate) fn obstacles(&self) -> &[String] {
        &self.obstacles
    }

    fn table(&self) -> String {
        let verdict = if self.allowed() { "allowed" } else { "denied" };
        let mut text = format!("{} -> {}: {verdict}\n", self.from, self.to);
        for obstacle in &self.obstacles {
            text += &format!("  ! {obstacle}\n");
        }
        if !self.ports.is_empty() {
            let rows = self.ports.iter().map(|port| {
                let verdict = if port.allowed { "allowed" } else { "denied" };
                [
                    port.port.to_string(),
                    port.protocol.clone(),
                    port.services.join(", "),
                    verdict.to_owned(),
                    port.because.join(", "),
                    port.routes.join(", "),
                ]
            });
            text += "\n";
            text += &columns(["PORT", "PROTOCOL", "SERVICES", "VERDICT", "BECAUSE", "ROUTES"], rows);
        }
        text
    }
}

#[cfg(test)]
mod tests;
