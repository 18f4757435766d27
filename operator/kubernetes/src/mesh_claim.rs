//! Which other operators there are in the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde_json::Value;

use crate::error::RequestError;
use crate::request::{send, unusable};

/// Label of an operator's Lease that names its mesh.
const MESH_NAME_LABEL: &str = "openservicemesh.io/mesh-name";

/// Label of an operator's Lease that says whether it bears another mesh beside it.
const SINGLE_MESH_LABEL: &str = "openservicemesh.io/enforce-single-mesh";

/// How often Leases are looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest time that a Lease is looked at for a sign of life, whatever duration it names.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// An operator in another namespace. Two of them cannot serve a mesh of the same name, nor can one be beside another that enforces
/// to be the only one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeshClaim {
    /// Its mesh.
    pub mesh_name: String,
    /// Whether it enforces that there is no other mesh.
    pub enforces_single_mesh: bool,
    /// Its namespace.
    pub namespace: String,
    /// Its Lease.
    pub lease: String,
    /// Its replica that holds the Lease.
    pub holder: String,
}

impl MeshClaim {
    /// Labels that make an operator's Lease tell this.
    pub fn labels(mesh_name: &str, enforces_single_mesh: bool) -> BTreeMap<String, String> {
        let single = if enforces_single_mesh { "true" } else { "false" };
        [(MESH_NAME_LABEL.to_owned(), mesh_name.to_owned()), (SINGLE_MESH_LABEL.to_owned(), single.to_owned())].into()
    }
}

/// Operators in other namespaces that are alive, ordered.
///
/// Whether one is alive is seen from its Lease being renewed while we look, not from the times in it. Where there is no other
/// Lease, or only ones that were given back, this takes one request; one that nobody renews any more is looked at for as long as
/// it was given for.
///
/// # Errors
/// The Leases cannot be listed.
pub async fn mesh_claims(client: &Client, own_namespace: &str) -> Result<Vec<MeshClaim>, RequestError> {
    let first = leases(client, own_namespace).await?;
    let longest = first.values().map(|(_, duration)| *duration).max();
    let Some(longest) = longest else { return Ok(Vec::new()) };
    let until = tokio::time::Instant::now() + longest.min(LONGEST_LOOK);
    loop {
        let later = leases(client, own_namespace).await?;
        let renewed = |claim: &&MeshClaim| {
            let (version, _) = &later[*claim];
            first.get(*claim).is_none_or(|(before, _)| before != version)
        };
        let alive: Vec<MeshClaim> = later.keys().filter(renewed).cloned().collect();
        if !alive.is_empty() || tokio::time::Instant::now() >= until {
            return Ok(alive);
        }
        tokio::time::sleep_until((tokio::time::Instant::now() + LOOK_EVERY).min(until)).await;
    }
}

/// Leases of other namespaces that somebody holds, with their versions and durations.
async fn leases(client: &Client, own_namespace: &str) -> Result<BTreeMap<MeshClaim, (String, Duration)>, RequestError> {
    let request = Request::new("/apis/coordination.k8s.io/v1/leases")
        .list(&ListParams::default().labels(MESH_NAME_LABEL))
        .map_err(unusable)?;
    let list = send(client, request).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(items.iter().filter_map(claim).filter(|(claim, _)| claim.namespace != own_namespace).collect())
}

fn claim(lease: &Value) -> Option<(MeshClaim, (String, Duration))> {
    let metadata = |field: &str| lease["metadata"][field].as_str().map(str::to_owned);
    let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty())?.to_owned();
    let seconds = lease["spec"]["leaseDurationSeconds"].as_u64().unwrap_or(LONGEST_LOOK.as_secs());
    let labels = &lease["metadata"]["labels"];
    let claim = MeshClaim {
        mesh_name: labels[MESH_NAME_LABEL].as_str()?.to_owned(),
        enforces_single_mesh: labels[SINGLE_MESH_LABEL] == "true",
        namespace: metadata("namespace")?,
        lease: metadata("name")?,
        holder,
    };
    Some((claim, (metadata("resourceVersion")?, Duration::from_secs(seconds))))
}
