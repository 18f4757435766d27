//! Exact counts of what the project's own server sends and encodes. They do not depend on the machine or the build.

use anyhow::Context;

use crate::control::{Command, ResourceKind};
use crate::figure::{Figure, Goal};
use crate::fleet::{Counters, Subscription, Verdict};
use crate::statistics::Summary;
use crate::subject::{Programs, Running, STEP_LIMIT, Size, Subject};

/// Size of the mesh that is counted on.
const SIZE: Size = Size { services: 60, proxies: 40, subscription: Subscription::ClustersAndEndpoints };

/// What a sequence of changes must lead to.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    /// Cluster deliveries to one proxy.
    clusters: u64,
    /// Endpoint deliveries to one proxy: those that changed, and those of a changed cluster, which Envoy waits for.
    endpoints: u64,
    /// Distinct contents that came to be.
    contents: u64,
}

impl Expected {
    fn count(&mut self, kind: ResourceKind, resources: u64) {
        match kind {
            ResourceKind::Cluster => self.clusters += resources,
            ResourceKind::Endpoints => {}
        }
        self.endpoints += resources;
        self.contents += resources;
    }
}

async fn encodes(running: &mut Running) -> anyhow::Result<u64> {
    let answer = running.server.tell(&Command::Counters).await?.context("no counters")?;
    answer.get("encodes").and_then(serde_json::Value::as_u64).context("no count of encodes")
}

/// Counts on a new server.
///
/// # Errors
/// When the server fails or breaks a rule.
pub async fn measure(programs: &Programs) -> anyhow::Result<Vec<Figure>> {
    let mut running = Running::start(programs, Subject::Ours, SIZE).await?;
    running.first_sync().await?;
    let mut figures = changes(&mut running).await?;
    figures.push(no_change(&mut running).await?);
    figures.push(refusals(&mut running).await?);
    running.fleet.verified()?;
    running.server.end().await?;
    Ok(figures)
}

/// Single and joint changes of clusters and endpoints, and services that come and go.
async fn changes(running: &mut Running) -> anyhow::Result<Vec<Figure>> {
    let proxies = u64::from(running.fleet.proxies());
    let before = running.fleet.counters();
    let encodes_before = encodes(running).await?;
    let mut expected = Expected::default();
    for count in [1, 1, 1, 7, 1, 20] {
        for kind in [ResourceKind::Cluster, ResourceKind::Endpoints] {
            running.push(kind, count).await?;
            expected.count(kind, u64::from(count));
            delivered(running, before, expected, proxies).await?;
        }
    }
    const ADDED: u32 = 5;
    running.apply(&Command::Services(SIZE.services + ADDED)).await?;
    expected.clusters += u64::from(ADDED);
    expected.endpoints += u64::from(ADDED);
    expected.contents += 2 * u64::from(ADDED);
    delivered(running, before, expected, proxies).await?;
    running.apply(&Command::Services(SIZE.services)).await?;

    // Were anything sent beyond what was expected, it would come before this change, which ends the count.
    running.push(ResourceKind::Endpoints, 1).await?;
    expected.count(ResourceKind::Endpoints, 1);
    let sent = running.fleet.counters().since(before);
    let sent = sent.clusters.resources + sent.endpoints.resources;
    let encoded = encodes(running).await? - encodes_before;
    let changed = (expected.clusters + expected.endpoints) * proxies;
    let sent_meaning = format!(
        "{sent} resources sent ÷ {changed} that changed for the proxy (endpoints of a changed cluster included), exact"
    );
    let encoded_meaning = format!("{encoded} encodings ÷ {} contents that came to be, exact", expected.contents);
    Ok(vec![
        Figure::new(
            "sent_over_changed",
            Goal::Exactly(1.0),
            Summary::exact(sent as f64 / changed as f64),
            sent_meaning,
        ),
        Figure::new(
            "encodes_over_distinct_changes",
            Goal::Exactly(1.0),
            Summary::exact(encoded as f64 / expected.contents as f64),
            encoded_meaning,
        ),
    ])
}

/// Waits until at least what is expected was delivered, so that one change is over before the next.
async fn delivered(running: &Running, before: Counters, expected: Expected, proxies: u64) -> anyhow::Result<()> {
    let reached = |counters: &Counters| {
        let sent = counters.since(before);
        sent.clusters.resources >= expected.clusters * proxies
            && sent.endpoints.resources >= expected.endpoints * proxies
    };
    running.fleet.counted(STEP_LIMIT, reached).await.with_context(|| format!("{expected:?} for each proxy"))
}

/// Edits that change nothing.
async fn no_change(running: &mut Running) -> anyhow::Result<Figure> {
    const EDITS: u32 = 20;
    let before = running.fleet.counters();
    for _ in 0..EDITS {
        running.apply(&Command::Rebuild).await?;
    }
    // A change ends the count: every proxy hears of it, once.
    running.push(ResourceKind::Endpoints, 1).await?;
    let sent = running.fleet.counters().since(before);
    let responses = sent.clusters.responses + sent.endpoints.responses - u64::from(running.fleet.proxies());
    let meaning = format!("responses to {EDITS} rebuilds of everything with equal content, exact");
    Ok(Figure::new("noop_edit_responses", Goal::Exactly(0.0), Summary::exact(responses as f64), meaning))
}

/// Proxies that refuse whatever comes.
async fn refusals(running: &mut Running) -> anyhow::Result<Figure> {
    const REFUSING: u32 = 10;
    const CHANGES: u64 = 10;
    running.fleet.set_verdict(REFUSING, Verdict::Refuse);
    let before = running.fleet.counters();
    for change in 1..=CHANGES {
        running.push(ResourceKind::Cluster, 1).await?;
        let refused = u64::from(REFUSING) * change;
        running.fleet.counted(STEP_LIMIT, |counters| counters.since(before).clusters.refused >= refused).await?;
    }
    let refused = running.fleet.counters().since(before).clusters.refused;
    let resent = refused - u64::from(REFUSING) * CHANGES;
    running.fleet.set_verdict(REFUSING, Verdict::Accept);
    let meaning = format!(
        "responses to {REFUSING} proxies that refuse {CHANGES} changes of clusters, beyond one for each change, exact"
    );
    Ok(Figure::new("nack_resends", Goal::Exactly(0.0), Summary::exact(resent as f64), meaning))
}
