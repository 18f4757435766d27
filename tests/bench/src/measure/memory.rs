//! Resident memory of a server as proxies join it, one rung of a ladder after the other.

use crate::figure::{Figure, Goal};
use crate::fleet::Subscription;
use crate::measure::Effort;
use crate::statistics::{Summary, slope};
use crate::subject::{Programs, Running, STEP_LIMIT, Size, Subject};

/// Rungs of the ladder, without the empty one.
const RUNGS: u32 = 4;

/// KiB that each further proxy costs.
async fn kib_per_proxy(
    programs: &Programs,
    subject: Subject,
    subscription: Subscription,
    effort: Effort,
) -> anyhow::Result<Option<f64>> {
    let size = Size { services: effort.services, proxies: effort.proxies, subscription };
    let mut running = Running::start(programs, subject, size).await?;
    let mut points = Vec::new();
    for rung in 1..=RUNGS {
        let proxies = effort.proxies * rung / RUNGS;
        running.fleet.connect_up_to(proxies).await?;
        running.fleet.converged(STEP_LIMIT).await?;
        running.server.rested().await?;
        points.push((f64::from(proxies), running.server.resident()? as f64 / 1024.0));
    }
    running.server.end().await?;
    Ok(slope(&points))
}

/// Climbs the ladder with our own server several times, and once with the peers.
///
/// # Errors
/// When a server fails or breaks a rule.
pub async fn measure(programs: &Programs, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let on = format!("{} services, up to {} proxies", effort.services, effort.proxies);
    let mut figures = Vec::new();
    let mut samples = Vec::new();
    for _ in 0..effort.rounds.min(3) {
        let subscription = Subscription::ClustersAndEndpoints;
        samples.extend(kib_per_proxy(programs, Subject::Ours, subscription, effort).await?);
    }
    let meaning = format!(
        "resident memory each further proxy costs, KiB; {on}, each subscribed to every cluster and by name to every service's endpoints"
    );
    figures
        .extend(Summary::of(samples).map(|summary| Figure::new("kib_per_proxy", Goal::AtMost(64.0), summary, meaning)));
    let mut records = vec![
        ("kib_per_proxy_clusters_only", Subject::Ours, Subscription::Clusters),
        ("kib_per_proxy_clusters_only_floor", Subject::Floor, Subscription::Clusters),
    ];
    if programs.gcp.is_some() {
        records.push(("kib_per_proxy_gcp_linear", Subject::GcpLinear, Subscription::ClustersAndEndpoints));
    }
    for (key, subject, subscription) in records {
        let what = match subscription {
            Subscription::Clusters => "clusters only",
            Subscription::ClustersAndEndpoints => "clusters and endpoints",
        };
        if let Some(kib) = kib_per_proxy(programs, subject, subscription, effort).await? {
            let meaning = format!("the same for {}, {what}", subject.name());
            figures.push(Figure::new(key, Goal::Record, Summary::exact(kib), meaning));
        }
    }
    Ok(figures)
}
