//! Whether proxies that stop reading slow the others down.

use crate::control::ResourceKind;
use crate::figure::{Figure, Goal};
use crate::fleet::Subscription;
use crate::measure::Effort;
use crate::statistics::Summary;
use crate::subject::{Programs, Running, STEP_LIMIT, Size, Subject};

/// One proxy in this many stops reading.
const SHARE: u32 = 10;
/// Changes in one round.
const CHANGES: u32 = 10;

async fn wall(running: &mut Running) -> anyhow::Result<Option<f64>> {
    let mut walls = Vec::new();
    for _ in 0..CHANGES {
        walls.push(running.push(ResourceKind::Cluster, 1).await?.wall.as_secs_f64());
    }
    Ok(Summary::of(walls).map(|summary| summary.median))
}

/// Changes clusters with and without stalled proxies, in turn; at the end all of them must hold the mesh's state.
///
/// # Errors
/// When the server fails or breaks a rule.
pub async fn measure(programs: &Programs, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let size = Size { services: effort.services, proxies: effort.proxies, subscription: Subscription::Clusters };
    let mut running = Running::start(programs, Subject::Ours, size).await?;
    running.first_sync().await?;
    let mut ratios = Vec::new();
    for _ in 0..effort.rounds {
        let without = wall(&mut running).await?;
        running.fleet.stall((effort.proxies / SHARE) as usize)?;
        let with = wall(&mut running).await?;
        running.fleet.resume();
        running.fleet.converged(STEP_LIMIT).await?;
        ratios.extend(with.zip(without).map(|(with, without)| with / without));
    }
    running.server.end().await?;
    let meaning = format!(
        "change to the last answer of those that read, with one proxy in {SHARE} not reading ÷ without; {} proxies",
        effort.proxies
    );
    Ok(Summary::of(ratios)
        .map(|summary| Figure::new("stalled_wall_over_none_stalled", Goal::Record, summary, meaning))
        .into_iter()
        .collect())
}
