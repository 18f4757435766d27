//! `osm-operator namespace`: which namespaces are in the mesh.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use osm_api::k8s_openapi::api::core::v1::{Namespace, Pod};
use serde::Serialize;
use serde_json::{Value, json};

use super::cluster::ClusterArgs;
use super::output::{FormatArgs, columns};
use super::policy::has_proxy;

/// Namespace label: name of the mesh that the namespace is in.
const MONITORED_BY: &str = "openservicemesh.io/monitored-by";
/// Namespace label: no mesh looks at the namespace.
const IGNORE: &str = "openservicemesh.io/ignore";
/// Namespace annotation: whether new pods get a proxy.
const SIDECAR_INJECTION: &str = "openservicemesh.io/sidecar-injection";
/// Namespaces that never are in a mesh.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

const HELP: &str = "\
Examples:
  osm-operator namespace add bookstore bookbuyer
  osm-operator namespace add legacy --disable-sidecar-injection
  osm-operator namespace list -o json
  osm-operator namespace remove legacy

Pods that run already get or lose their proxy when they are restarted.

Exit codes: 0 done, 2 could not be done.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct NamespaceArgs {
    #[command(subcommand)]
    command: NamespaceCommand,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Subcommand)]
enum NamespaceCommand {
    /// Put namespaces into the mesh
    Add {
        #[arg(required = true, value_name = "NAMESPACE")]
        names: Vec<String>,
        /// New pods get no proxy unless they ask for one
        #[arg(long)]
        disable_sidecar_injection: bool,
    },
    /// Take namespaces out of the mesh
    Remove {
        #[arg(required = true, value_name = "NAMESPACE")]
        names: Vec<String>,
    },
    /// Keep namespaces out of every mesh
    Ignore {
        #[arg(required = true, value_name = "NAMESPACE")]
        names: Vec<String>,
    },
    /// List the namespaces of the mesh, and how many of their pods have a proxy
    List {
        #[command(flatten)]
        format: FormatArgs,
    },
}

/// Carries the command out.
pub(crate) async fn run(args: NamespaceArgs) -> anyhow::Result<ExitCode> {
    let NamespaceArgs { command, cluster } = args;
    let client = cluster.client().await?;
    let mesh = cluster.mesh_name.as_str();
    match command {
        NamespaceCommand::Add { names, disable_sidecar_injection } => {
            let injection = if disable_sidecar_injection { Injection::Disabled } else { Injection::Enabled };
            let change = |namespace: &Namespace| addition(namespace, mesh, &cluster.osm_namespace, injection);
            change_all(&client, &names, change, "is in the mesh").await
        }
        NamespaceCommand::Remove { names } => {
            let change = |namespace: &Namespace| removal(namespace, mesh);
            change_all(&client, &names, change, "is not in the mesh").await
        }
        NamespaceCommand::Ignore { names } => {
            let change = |_: &Namespace| Ok(json!({ "metadata": { "labels": { IGNORE: "true" } } }));
            change_all(&client, &names, change, "is ignored").await
        }
        NamespaceCommand::List { format } => {
            let rows = list(&client, mesh).await?;
            Ok(crate::print(&format.text(&rows, |rows| table(rows))?, ExitCode::SUCCESS))
        }
    }
}

/// Whether new pods get a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Injection {
    Enabled,
    Disabled,
}

async fn change_all(
    client: &Client,
    names: &[String],
    change: impl Fn(&Namespace) -> anyhow::Result<Value>,
    done: &str,
) -> anyhow::Result<ExitCode> {
    let api: Api<Namespace> = Api::all(client.clone());
    for name in names {
        let namespace = api.get(name).await.with_context(|| format!("read namespace {name}"))?;
        let patch = change(&namespace)?;
        let params = PatchParams::default();
        api.patch(name, &params, &Patch::Merge(&patch)).await.with_context(|| format!("change namespace {name}"))?;
        crate::print(&format!("namespace {name} {done}\n"), ExitCode::SUCCESS);
    }
    Ok(ExitCode::SUCCESS)
}

fn name_of(namespace: &Namespace) -> &str {
    namespace.metadata.name.as_deref().unwrap_or_default()
}

fn label<'a>(namespace: &'a Namespace, key: &str) -> Option<&'a str> {
    namespace.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// The patch that puts a namespace into the mesh.
fn addition(namespace: &Namespace, mesh: &str, control_plane: &str, injection: Injection) -> anyhow::Result<Value> {
    let name = name_of(namespace);
    if SYSTEM.contains(&name) || name == control_plane {
        bail!("namespace {name} cannot be in a mesh: the cluster or the control plane itself runs there");
    }
    if let Some(other) = label(namespace, MONITORED_BY).filter(|other| *other != mesh) {
        bail!(
            "namespace {name} is in the mesh {other:?}: remove it there first \
             (osm-operator namespace remove {name} --mesh-name {other})"
        );
    }
    let injection = match injection {
        Injection::Enabled => "enabled",
        Injection::Disabled => "disabled",
    };
    Ok(json!({ "metadata": {
        "labels": { MONITORED_BY: mesh, IGNORE: null },
        "annotations": { SIDECAR_INJECTION: injection },
    } }))
}

/// The patch that takes a namespace out of the mesh.
fn removal(namespace: &Namespace, mesh: &str) -> anyhow::Result<Value> {
    let name = name_of(namespace);
    match label(namespace, MONITORED_BY) {
        Some(found) if found == mesh => Ok(json!({ "metadata": {
            "labels": { MONITORED_BY: null },
            "annotations": { SIDECAR_INJECTION: null },
        } })),
        Some(other) => {
            bail!("namespace {name} is in the mesh {other:?}, not in {mesh:?}; name the mesh by --mesh-name")
        }
        None => bail!("namespace {name} is in no mesh"),
    }
}

/// A namespace of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    mesh: String,
    sidecar_injection: String,
    pods: usize,
    pods_with_proxy: usize,
}

async fn list(client: &Client, mesh: &str) -> anyhow::Result<Vec<Row>> {
    let selected = ListParams::default().labels(&format!("{MONITORED_BY}={mesh}"));
    let namespaces = Api::<Namespace>::all(client.clone()).list(&selected).await.context("list namespaces")?;
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await.context("list pods")?;
    Ok(rows(&namespaces.items, &pods.items))
}

fn rows(namespaces: &[Namespace], pods: &[Pod]) -> Vec<Row> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for pod in pods {
        let count = counts.entry(pod.metadata.namespace.as_deref().unwrap_or_default()).or_default();
        count.0 += 1;
        count.1 += usize::from(has_proxy(pod));
    }
    let rows = namespaces.iter().map(|namespace| {
        let (pods, pods_with_proxy) = counts.get(name_of(namespace)).copied().unwrap_or_default();
        let annotations = namespace.metadata.annotations.as_ref();
        let injection = annotations.and_then(|annotations| annotations.get(SIDECAR_INJECTION));
        Row {
            namespace: name_of(namespace).to_owned(),
            mesh: label(namespace, MONITORED_BY).unwrap_or_default().to_owned(),
            sidecar_injection: injection.cloned().unwrap_or_else(|| "not set".to_owned()),
            pods,
            pods_with_proxy,
        }
    });
    rows.collect()
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "No namespace is in the mesh; add one by `osm-operator namespace add NAMESPACE`.\n".to_owned();
    }
    let cells = rows.iter().map(|row| {
        let pods = format!("{}/{}", row.pods_with_proxy, row.pods);
        [row.namespace.clone(), row.mesh.clone(), row.sidecar_injection.clone(), pods]
    });
    columns(["NAMESPACE", "MESH", "SIDECAR-INJECTION", "PROXIES"], cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(value: &Value) -> Namespace {
        serde_json::from_value(json!({ "metadata": value })).unwrap()
    }

    #[test]
    fn a_namespace_is_added_and_removed_by_label_and_annotation() {
        let fresh = namespace(&json!({ "name": "shop" }));
        let patch = addition(&fresh, "osm", "osm-system", Injection::Enabled).unwrap();
        assert_eq!(patch["metadata"]["labels"][MONITORED_BY], "osm");
        assert_eq!(patch["metadata"]["labels"][IGNORE], Value::Null);
        assert_eq!(patch["metadata"]["annotations"][SIDECAR_INJECTION], "enabled");
        let added = namespace(&json!({ "name": "shop", "labels": { MONITORED_BY: "osm" } }));
        let patch = removal(&added, "osm").unwrap();
        assert_eq!(patch["metadata"]["labels"], json!({ MONITORED_BY: null }));
        assert_eq!(patch["metadata"]["annotations"], json!({ SIDECAR_INJECTION: null }));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_remedy() {
        let add = |value: Value| {
            addition(&namespace(&value), "osm", "osm-system", Injection::Enabled).unwrap_err().to_string()
        };
        assert!(add(json!({ "name": "kube-system" })).contains("cannot be in a mesh"));
        assert!(add(json!({ "name": "osm-system" })).contains("control plane"));
        let message = add(json!({ "name": "shop", "labels": { MONITORED_BY: "other" } }));
        assert!(message.contains("--mesh-name other"), "{message}");
        let none = removal(&namespace(&json!({ "name": "shop" })), "osm").unwrap_err().to_string();
        assert_eq!(none, "namespace shop is in no mesh");
    }

    #[test]
    fn a_list_counts_pods_with_a_proxy() {
        let pod = |containers: Value| {
            let spec = json!({ "containers": [{ "name": "app" }], "initContainers": containers });
            serde_json::from_value::<Pod>(json!({ "metadata": { "namespace": "shop", "name": "x" }, "spec": spec }))
                .unwrap()
        };
        let pods = [pod(json!([{ "name": "envoy" }])), pod(json!([]))];
        let shop = namespace(&json!({ "name": "shop", "labels": { MONITORED_BY: "osm" } }));
        let rows = rows(&[shop], &pods);
        assert_eq!((rows[0].pods, rows[0].pods_with_proxy), (2, 1));
        assert!(table(&rows).contains("1/2"), "{}", table(&rows));
        assert!(table(&[]).contains("No namespace"));
    }
}
