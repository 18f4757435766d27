//! `osm-operator proxy`: the proxies of the mesh, and what one of them says of itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::api::{Api, ListParams};
use osm_api::k8s_openapi::api::core::v1::Pod;
use osm_api::{Kind, ProxySnapshot};
use serde::Serialize;

use super::cluster::ClusterArgs;
use super::output::{FormatArgs, columns};
use super::policy::{Peer, PodName, has_proxy, parse_pod};

const HELP: &str = "\
Examples:
  osm-operator proxy list
  osm-operator proxy get config_dump bookbuyer/bookbuyer-7d9f -f dump.json
  osm-operator proxy get clusters bookbuyer/bookbuyer-7d9f
  osm-operator proxy set 'logging?level=debug' bookbuyer/bookbuyer-7d9f

QUERY is a path of Envoy's admin interface: config_dump, clusters, listeners, stats, certs, server_info, ...

Exit codes: 0 done, 2 could not be done.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ProxyArgs {
    #[command(subcommand)]
    command: ProxyCommand,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Subcommand)]
enum ProxyCommand {
    /// Ask a proxy's admin interface (GET)
    Get {
        query: String,
        #[arg(value_name = "NAMESPACE/POD", value_parser = parse_pod)]
        pod: PodName,
        /// Write the answer to this file
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
    /// Change something by a proxy's admin interface (POST)
    Set {
        query: String,
        #[arg(value_name = "NAMESPACE/POD", value_parser = parse_pod)]
        pod: PodName,
        /// Write the answer to this file
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
    /// List pods with a proxy, and whether the proxies of their workload run what they should
    List {
        #[command(flatten)]
        format: FormatArgs,
    },
}

/// Carries the command out.
pub(crate) async fn run(args: ProxyArgs) -> anyhow::Result<ExitCode> {
    let client = args.cluster.client().await?;
    match args.command {
        ProxyCommand::Get { query, pod, file } => answer(&client, Method::GET, &query, &pod, file).await,
        ProxyCommand::Set { query, pod, file } => answer(&client, Method::POST, &query, &pod, file).await,
        ProxyCommand::List { format } => {
            let rows = list(&client).await?;
            Ok(crate::print(&format.text(&rows, |rows| table(rows))?, ExitCode::SUCCESS))
        }
    }
}

async fn answer(
    client: &Client,
    method: Method,
    query: &str,
    pod: &PodName,
    file: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let body = ask(client, method, query, pod).await?;
    match file {
        Some(file) => std::fs::write(&file, &body).with_context(|| format!("write {}", file.display()))?,
        None => drop(crate::print(&String::from_utf8_lossy(&body), ExitCode::SUCCESS)),
    }
    Ok(ExitCode::SUCCESS)
}

/// One request to Envoy's admin interface in a pod, through a forwarded port.
pub(crate) async fn ask(client: &Client, method: Method, query: &str, pod: &PodName) -> anyhow::Result<Bytes> {
    let PodName { namespace, name } = pod;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found = api.get(name).await.with_context(|| format!("read pod {namespace}/{name}"))?;
    if !has_proxy(&found) {
        bail!("pod {namespace}/{name} has no proxy; see `osm-operator proxy list`");
    }
    let port = osm_translate::naming::ADMIN_PORT;
    let mut forwarded =
        api.portforward(name, &[port]).await.with_context(|| format!("reach pod {namespace}/{name}"))?;
    let stream = forwarded.take_stream(port).context("the forwarded port has no stream")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection, which ends with the forwarded port.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("/{}", query.trim_start_matches('/')))
        .header(hyper::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .with_context(|| format!("{query:?} is no path of Envoy's admin interface"))?;
    let answer = sender.send_request(request).await.context("the proxy does not answer")?;
    let status = answer.status();
    let body = answer.into_body().collect().await.context("the proxy's answer ended early")?.to_bytes();
    if !status.is_success() {
        bail!(
            "the proxy of {namespace}/{name} answers {status} to {query:?}: {}",
            String::from_utf8_lossy(&body).trim()
        );
    }
    Ok(body)
}

/// A pod with a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pod: String,
    workload: String,
    image: String,
    ready: bool,
    /// Of the workload's proxies: in sync, connected.
    synced: u32,
    connected: u32,
    rejected: u32,
}

async fn list(client: &Client) -> anyhow::Result<Vec<Row>> {
    let all = ListParams::default();
    let pods = Api::<Pod>::all(client.clone()).list(&all).await.context("list pods")?;
    let snapshots: Api<ProxySnapshot> = Api::all(client.clone());
    let snapshots = snapshots.list(&all).await.with_context(|| format!("list {}", Kind::ProxySnapshot.plural()))?;
    Ok(pods.items.iter().filter(|pod| has_proxy(pod)).filter_map(|pod| row(pod, &snapshots.items)).collect())
}

fn row(pod: &Pod, snapshots: &[ProxySnapshot]) -> Option<Row> {
    let peer = Peer::of(pod).ok()?;
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let envoy = containers.into_iter().find(|container| container.name == osm_bootstrap::names::PROXY_CONTAINER);
    let status = pod.status.as_ref();
    let statuses = status.into_iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let ready = statuses.into_iter().any(|status| status.name == osm_bootstrap::names::PROXY_CONTAINER && status.ready);
    let proxies = snapshots
        .iter()
        .find(|snapshot| {
            snapshot.metadata.namespace.as_deref() == Some(peer.identity.namespace.as_str())
                && snapshot.metadata.name.as_deref() == Some(&*peer.identity.service_account)
        })
        .and_then(|snapshot| snapshot.status.as_ref())
        .map(|status| status.proxies.clone())
        .unwrap_or_default();
    Some(Row {
        pod: peer.pod,
        workload: peer.identity.to_string(),
        image: envoy.and_then(|envoy| envoy.image.clone()).unwrap_or_default(),
        ready,
        synced: proxies.synced,
        connected: proxies.connected,
        rejected: proxies.rejected,
    })
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "No pod has a proxy.\n".to_owned();
    }
    let cells = rows.iter().map(|row| {
        let synced = format!("{}/{}", row.synced, row.connected);
        let ready = if row.ready { "yes" } else { "no" };
        [row.pod.clone(), row.workload.clone(), ready.to_owned(), synced, row.rejected.to_string(), row.image.clone()]
    });
    columns(["POD", "WORKLOAD", "READY", "SYNCED", "REJECTED", "IMAGE"], cells)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proxy_is_listed_with_what_its_workload_runs() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "namespace": "shop", "name": "store-1" },
            "spec": {
                "serviceAccountName": "store",
                "containers": [{ "name": "app" }],
                "initContainers": [{ "name": "envoy", "image": "envoy:1" }],
            },
            "status": { "initContainerStatuses": [
                { "name": "envoy", "ready": true, "image": "", "imageID": "", "restartCount": 0 },
            ] },
        }))
        .unwrap();
        let snapshot: ProxySnapshot = serde_json::from_value(json!({
            "apiVersion": "snapshot.openservicemesh.io/v1alpha1", "kind": "ProxySnapshot",
            "metadata": { "namespace": "shop", "name": "store" },
            "spec": { "serviceAccount": "store" },
            "status": { "proxies": { "connected": 2, "synced": 1, "rejected": 0 } },
        }))
        .unwrap();
        let row = row(&pod, &[snapshot]).unwrap();
        assert!(row.ready);
        assert_eq!((row.synced, row.connected), (1, 2));
        let text = table(&[row]);
        assert!(text.contains("shop/store-1") && text.contains("1/2") && text.contains("envoy:1"), "{text}");
    }
}
