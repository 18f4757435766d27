//! The connection to the API server.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use osm_api::Kind;
use serde_json::Value;

use crate::error::RequestError;
use crate::request;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Connects to the API server that the file names; without a file, to the one of the environment (`KUBECONFIG`, `~/.kube/config`),
/// and in a pod to that of the cluster.
///
/// No request is made. Requests are not repeated by themselves: every caller here waits and repeats as fits what it does.
///
/// # Errors
/// The file cannot be read, or there is neither a file nor a cluster around us.
pub async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("use {}", path.display()))?
        }
        None => Config::infer().await.context("find the API server; name a kubeconfig or run in a pod")?,
    };
    config.connect_timeout = Some(CONNECT_WITHIN);
    // A watch may be silent for a long time. Who reads an answer limits the time that it may take.
    config.read_timeout = None;
    config.default_retry = false;
    let client = Client::try_from(config).context("make a client for the API server")?;
    Ok(request::with_retry_after(client))
}

/// The CustomResourceDefinitions of ours that the cluster does not have, by name, for example
/// `traffictargets.access.smi-spec.io`. A kind counts as missing also if it is there without the version that we watch.
///
/// # Errors
/// The API server cannot be asked.
pub async fn missing_crds(client: &Client) -> Result<Vec<String>, RequestError> {
    let mut missing = Vec::new();
    let groups: BTreeSet<(&str, &str)> = Kind::own().map(|kind| (kind.group(), kind.storage_version())).collect();
    for (group, version) in groups {
        let served = served(client, group, version).await?;
        let kinds = Kind::own().filter(|kind| (kind.group(), kind.storage_version()) == (group, version));
        missing.extend(kinds.filter(|kind| !served.contains(kind.plural())).map(crd_name));
    }
    missing.sort();
    Ok(missing)
}

/// The name of a kind's CustomResourceDefinition.
pub(crate) fn crd_name(kind: Kind) -> String {
    format!("{}.{}", kind.plural(), kind.group())
}

/// Plural names of the resources of a group and version; none if the group is not there.
async fn served(client: &Client, group: &str, version: &str) -> Result<BTreeSet<String>, RequestError> {
    let uri = format!("/apis/{group}/{version}");
    let request = http::Request::get(uri).body(Vec::new()).map_err(|error| RequestError::Invalid(error.to_string()))?;
    let list = match request::send(client, request).await {
        Ok(list) => list,
        Err(RequestError::NotFound(_)) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let resources = list.get("resources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(resources.iter().filter_map(|resource| resource.get("name")?.as_str()).map(str::to_owned).collect())
}
