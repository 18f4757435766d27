//! `osm-operator version`: this program's version, and the control plane's.

use std::process::ExitCode;

use anyhow::Context;
use kube::Client;
use kube::api::{Api, ListParams};
use osm_api::k8s_openapi::api::apps::v1::Deployment;
use serde::Serialize;

use super::cluster::ClusterArgs;
use super::output::{FormatArgs, columns};

const HELP: &str = "\
Examples:
  osm-operator version
  osm-operator version --client-only -o json

Exit codes: 0 printed, 2 the cluster cannot be asked.";

/// Labels of a control plane's Deployment.
const NAME_LABEL: &str = "app=osm-controller,app.kubernetes.io/name=openservicemesh.io";
const MESH_LABEL: &str = "app.kubernetes.io/instance";
const VERSION_LABEL: &str = "app.kubernetes.io/version";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct VersionArgs {
    /// Ask no cluster
    #[arg(long)]
    client_only: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What runs where.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: &'static str,
    control_planes: Vec<ControlPlane>,
}

/// A control plane of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ControlPlane {
    pub(crate) mesh: String,
    pub(crate) namespace: String,
    pub(crate) version: String,
    pub(crate) replicas: i32,
    pub(crate) available: i32,
}

/// Carries the command out.
pub(crate) async fn run(args: VersionArgs) -> anyhow::Result<ExitCode> {
    let control_planes =
        if args.client_only { Vec::new() } else { control_planes(&args.cluster.client().await?).await? };
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), control_planes };
    Ok(crate::print(&args.format.text(&versions, table)?, ExitCode::SUCCESS))
}

/// All control planes of the cluster.
pub(crate) async fn control_planes(client: &Client) -> anyhow::Result<Vec<ControlPlane>> {
    let api: Api<Deployment> = Api::all(client.clone());
    let found = api.list(&ListParams::default().labels(NAME_LABEL)).await.context("list control planes")?;
    Ok(found.items.iter().map(control_plane).collect())
}

fn control_plane(deployment: &Deployment) -> ControlPlane {
    let label = |key: &str| deployment.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    ControlPlane {
        mesh: label(MESH_LABEL).unwrap_or_default(),
        namespace: deployment.metadata.namespace.clone().unwrap_or_default(),
        version: label(VERSION_LABEL).unwrap_or_else(|| "unknown".to_owned()),
        replicas: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        available: deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default(),
    }
}

fn table(versions: &Versions) -> String {
    let mut text = format!("osm-operator {}\n", versions.client);
    if !versions.control_planes.is_empty() {
        let rows = versions.control_planes.iter().map(|it| {
            let available = format!("{}/{}", it.available, it.replicas);
            [it.mesh.clone(), it.namespace.clone(), it.version.clone(), available]
        });
        text += "\n";
        text += &columns(["MESH", "NAMESPACE", "VERSION", "AVAILABLE"], rows);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_control_plane_is_read_from_its_deployment() {
        let deployment = json!({
            "metadata": { "name": "osm-controller", "namespace": "osm-system",
                "labels": { "app.kubernetes.io/instance": "osm", "app.kubernetes.io/version": "0.1.0" } },
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": { "availableReplicas": 1 },
        });
        let found = control_plane(&serde_json::from_value(deployment).unwrap());
        assert_eq!((found.available, found.replicas), (1, 2));
        let text = table(&Versions { client: "0.1.0", control_planes: vec![found] });
        assert!(text.starts_with("osm-operator 0.1.0\n") && text.contains("1/2"), "{text}");
    }
}
