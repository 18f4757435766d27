//! What the tests share: the load, and what it must have seen.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use osm_e2e::{Operator, World};
use osm_testkit::apps::{LoadRequest, Report, RunningLoad, Target};
use osm_testkit::eventually;

use crate::support::{LIMIT, tcp};

/// The service that the load goes to.
pub(crate) const URL: &str = "http://web.shop/";
/// The service that connections go to.
pub(crate) const TCP: &str = "bytes.shop:9000";
/// Attempts under way at most.
const CONNECTIONS: u32 = 2;
/// Attempts per second.
const RATE: u32 = 200;
/// Connections per second.
const HANDSHAKE_RATE: u32 = 50;
/// Attempts that must have ended before the first change.
const WARM_UP: u64 = 100;
/// Types of resources that carry the shape of the mesh, as `/metrics` names them: sent again for no reason, they would cost every
/// proxy work, and listeners and clusters their connections.
const SHAPE: [&str; 4] = ["Cluster", "Listener", "RouteConfiguration", "ScopedRouteConfiguration"];

/// Starts the load from `client`, and waits until it is under way.
pub(crate) async fn constant_load(world: &World) -> Result<RunningLoad> {
    load_at(world, Target::get(URL), RATE).await
}

/// Like [`constant_load`], of TCP connections, each of which begins with a TLS handshake between two sidecars.
pub(crate) async fn constant_handshakes(world: &World) -> Result<RunningLoad> {
    load_at(world, tcp(TCP), HANDSHAKE_RATE).await
}

async fn load_at(world: &World, target: Target, rate: u32) -> Result<RunningLoad> {
    let load = LoadRequest { concurrency: CONNECTIONS, rate: Some(rate), ..LoadRequest::new(target) };
    let load = world.load_as("client", &load).await?;
    load.reach(WARM_UP, LIMIT).await?;
    Ok(load)
}

/// Ends the load, and expects that every attempt was answered well.
pub(crate) async fn nothing_failed(load: RunningLoad) -> Result<Report> {
    let report = load.finish().await?;
    ensure!(report.attempts > 0 && report.unsuccessful() == 0, "under constant load: {report:?}");
    Ok(report)
}

/// How many resources and removals the control plane has sent since its start, by type.
pub(crate) async fn sent(operator: &Operator) -> Result<BTreeMap<String, u64>> {
    let (status, text) = operator.admin("/metrics").await?;
    ensure!(status == 200, "/metrics: {status}");
    let counters = text.lines().filter_map(|line| line.strip_prefix("osm_xds_resources_sent_total{type=\""));
    counters
        .map(|rest| {
            let (kind, count) = rest.split_once("\"} ").with_context(|| format!("{rest:?} is no counter"))?;
            Ok((kind.to_owned(), count.trim().parse().with_context(|| format!("{rest:?} is no number"))?))
        })
        .collect()
}

/// The types of [`SHAPE`] of which something was sent, with how much.
pub(crate) fn shape(sent: &BTreeMap<String, u64>) -> BTreeMap<&str, u64> {
    let of = |kind: &'static str| sent.get(kind).copied().filter(|count| *count > 0).map(|count| (kind, count));
    SHAPE.into_iter().filter_map(of).collect()
}

/// Waits until `proxies` streams are open and have acknowledged all there is.
pub(crate) async fn all_are_synced(operator: &Operator, proxies: usize) -> Result<()> {
    eventually("all proxies are connected and run what is published", LIMIT, || async {
        let clients = operator.debug("proxies").await?;
        let clients = clients.as_array().context("/debug/proxies is no list")?;
        ensure!(clients.len() == proxies, "{} of {proxies} are connected", clients.len());
        for client in clients {
            ensure!(!client["syncedEpoch"].is_null(), "{client}");
        }
        Ok(())
    })
    .await
}
