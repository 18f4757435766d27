//! Memory of `osm-operator run` in a mesh of 1,600 pods, and what an idle mesh asks the API server. Runs in a sandbox.

use std::time::Duration;

use osm_testkit::Fabric;

use crate::api_server::{Cluster, user};
use crate::figure::{Figure, Goal};
use crate::measure::{Effort, progress};
use crate::mesh::{Access, Mesh};
use crate::operator::Operator;
use crate::process;
use crate::statistics::Summary;

const MESH: Mesh = Mesh { services: 400, access: Access::Permissive, pods: 4 };
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(120);
/// What follows connections is over by then.
const AT_REST: Duration = Duration::from_secs(15);
const MIB: f64 = 1024.0 * 1024.0;

/// Connects a proxy for each Pod, then waits.
///
/// # Errors
/// Something does not start, or proxies do not come in sync.
pub async fn measure(_: Effort) -> anyhow::Result<Vec<Figure>> {
    // Its network is where proxies are served.
    let _fabric = Fabric::create().await?;
    let cluster = Cluster::start().await?;
    let proxies = cluster.write(MESH, 0).await?;
    progress(&format!("footprint: {} services with {} Pods are written", MESH.services, proxies.len()));
    let mut operator = cluster.first_replica().await?;
    tokio::time::sleep(AT_REST).await;
    let resident = |operator: &Operator| anyhow::Ok(process::resident(operator.id())? as f64 / MIB);
    let without = resident(&operator)?;
    let mut sidecars = operator.synthetic_sidecars(&proxies).await?;
    operator.wait_in_sync(proxies.len()).await?;
    tokio::time::sleep(AT_REST).await;
    sidecars.check()?;
    let idle = resident(&operator)?;
    let peak = process::peak(operator.id())? as f64 / MIB;
    progress(&format!("footprint: {idle:.1} MiB with {} proxies, {without:.1} MiB without", proxies.len()));

    let follower = cluster.second_replica().await?;
    tokio::time::sleep(AT_REST).await;
    let before = cluster.audited()?;
    tokio::time::sleep(IDLE).await;
    sidecars.check()?;
    let requests = cluster.requests(before)?;
    let per_minute = |replica: &str| {
        let count = requests.iter().filter(|request| request.user == user(replica)).count();
        Summary::exact(count as f64 * 60.0 / IDLE.as_secs_f64())
    };
    let mut kinds = std::collections::BTreeMap::<_, usize>::new();
    for request in &requests {
        *kinds.entry((&request.user, &request.verb, &request.resource)).or_default() += 1;
    }
    progress(&format!("footprint: idle requests {kinds:?}"));
    let following = resident(&follower)?;

    let shape = format!(
        "`osm-operator run` in permissive mode with {} Services and EndpointSlices, {} Pods with status on a real API server",
        MESH.services,
        proxies.len()
    );
    let connected = format!("as many synthetic proxies are connected by mutual TLS, in sync and at rest, {shape}");
    let memory = |key: &str, goal: Goal, value: f64, when: &str| {
        Figure::new(key, goal, Summary::exact(value), format!("resident memory in MiB {when}"))
    };
    let asked = |who: &str| {
        format!(
            "requests a minute that {who} sends to the API server in {} s in which nothing happens, by its audit log; 2 replicas, \
             {} proxies; beginnings of watches count",
            IDLE.as_secs(),
            proxies.len()
        )
    };
    let reason = format!(
        "without proxies it is {without:.0} MiB, of which about 30 are pages of the program; each connected proxy costs {:.0} KiB, of \
         which 32 are buffers that the libraries of HTTP/2 and TLS keep for every connection",
        (idle - without) * 1024.0 / proxies.len() as f64
    );
    anyhow::ensure!(!requests.is_empty(), "the holder of the Lease renews it: the audit log cannot be empty");
    let idle_figure =
        |key: &str, replica: &str, who: &str| Figure::new(key, Goal::AtMost(10.0), per_minute(replica), asked(who));
    Ok(vec![
        memory("operator_rss_mib_1600_pods", Goal::AtMost(100.0), idle, &format!("while {connected}"))
            .short_because(reason),
        memory("operator_peak_rss_mib_1600_pods", Goal::Record, peak, &format!("at most until {connected}")),
        memory("operator_rss_mib_1600_pods_no_proxies", Goal::Record, without, &format!("without proxies, {shape}")),
        memory("follower_rss_mib_1600_pods", Goal::Record, following, "of a second replica that has no proxies"),
        idle_figure("idle_api_requests_per_minute", "first", "the holder of the Lease"),
        idle_figure("idle_api_requests_per_minute_follower", "second", "the other replica"),
    ])
}
