//! Private keys are told nowhere.

use anyhow::{Result, ensure};
use osm_e2e::ClusterWorld;

use crate::providers::{CREDENTIALS, Providers};

/// Logs of the control plane and of what it injects, all objects of the mesh, events, ConfigMaps and pods; Secrets but the
/// authorities' do not exist at all.
pub(crate) async fn nowhere(world: &ClusterWorld, providers: &Providers) -> Result<()> {
    let kinds = "meshconfigs,meshrootcertificates,traffictargets,httproutegroups,tcproutes,trafficsplits,proxysnapshots,events,\
                 configmaps,pods,validatingwebhookconfigurations,mutatingwebhookconfigurations,leases";
    let objects = world.kubectl().output(&["get", kinds, "-A", "-o", "json"]).await?;
    let logs = world.control_plane_log(100_000).await;
    let sidecars = ["logs", "-n", "echoes", "-l", "app=caller", "--all-containers", "--prefix", "--tail=-1"];
    let sidecars = world.kubectl().output(&sidecars).await?;
    for (name, text) in [("objects", &objects), ("the control plane's logs", &logs), ("a sidecar's logs", &sidecars)] {
        ensure!(!text.is_empty(), "{name}: nothing to look at");
        // PEM, and its beginning in base64 in each of the three positions.
        for trace in ["PRIVATE KEY", "UFJJVkFURSBLRVk", "BSSVZBVEUgS0VZ", "QUklWQVRFIEtFW"] {
            ensure!(!text.contains(trace), "{name} hold a private key");
        }
        for secret in providers.secrets() {
            ensure!(!text.contains(secret), "{name} hold what is shown to a provider");
        }
    }
    // The last is cert-manager's.
    let known = [&["osm-ca-bundle", "next-root"][..], &CREDENTIALS, &["root"]].concat();
    let secrets = world.json(&["get", "secrets", "-A"]).await?;
    let others: Vec<_> = secrets["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|secret| secret["type"] != "helm.sh/release.v1")
        .filter(|secret| !known.contains(&secret["metadata"]["name"].as_str().unwrap_or_default()))
        .map(|secret| &secret["metadata"]["name"])
        .collect();
    ensure!(others.is_empty(), "Secrets that nobody asked for: {others:?}");
    Ok(())
}
