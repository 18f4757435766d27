//! What the control plane asked of the API server in the whole run, against what its roles grant.

use anyhow::{Result, ensure};
use osm_cluster::rights::{self, Exception, Subject};
use osm_e2e::ClusterWorld;

/// Rights that this run may give no reason to use, each with the reason why they are granted. A control plane beside an API server
/// without nodes is made to use them (`every_right_is_used_and_no_other_is_asked_for`).
const UNUSED_FOR_A_REASON: [Exception; 11] = [
    ("list ", "this API server streams lists; where one does not, they are read by pages"),
    ("get meshrootcertificates", "read when somebody else was quicker to write"),
    ("get traffictargets", "read when somebody else was quicker to write"),
    ("get httproutegroups", "read when somebody else was quicker to write"),
    ("get tcproutes", "read when somebody else was quicker to write"),
    ("get trafficsplits", "read when somebody else was quicker to write"),
    ("get proxysnapshots", "read when somebody else was quicker to write"),
    ("delete proxysnapshots", "only when a workload goes for good"),
    ("delete configmaps osm-trust-bundle", "only when a namespace leaves the mesh"),
    ("get clusterissuers", "only where a ClusterIssuer signs"),
    ("patch events", "only for events that repeat"),
];

/// Nothing was asked that is not granted, and everything was used that is, but for what has a reason above.
pub(crate) async fn least(world: &ClusterWorld) -> Result<()> {
    let account = Subject::service_account("osm-system", "osm-controller");
    let granted = rights::granted(world.kubectl(), &account).await?;
    // An API server that has just started refuses what it has not read the roles for yet; that is asked again.
    let asked = rights::asked(&world.cluster().audit_log(), &account)?;
    ensure!(asked.allowed.len() > 20, "the control plane asked for next to nothing: {asked:?}");
    let difference = asked.difference(&granted);
    let unused: Vec<String> = difference.unused.iter().map(ToString::to_string).collect();
    println!("{} rights granted, not used in this run: {unused:?}", granted.len());
    difference.expect_none_but(&UNUSED_FOR_A_REASON)
}
