//! What moves when a whole fleet reconnects and nothing has changed.

use crate::control::ResourceKind;
use crate::figure::{Figure, Goal};
use crate::fleet::Subscription;
use crate::measure::Effort;
use crate::statistics::Summary;
use crate::subject::{Programs, Running, Size, Subject};

/// Bytes of a first sync and of a reconnect, for clusters and for endpoints.
struct Bytes {
    clusters: (u64, u64),
    endpoints: (u64, u64),
}

async fn bytes(programs: &Programs, size: Size) -> anyhow::Result<Bytes> {
    let mut running = Running::start(programs, Subject::Ours, size).await?;
    running.first_sync().await?;
    let first = running.fleet.counters();
    running.fleet.connect().await?;
    // One change ends the count and is counted with it: a proxy that has it was served on its new stream.
    running.push(ResourceKind::Cluster, 1).await?;
    running.server.rested().await?;
    let again = running.fleet.counters().since(first);
    running.fleet.verified()?;
    running.server.end().await?;
    Ok(Bytes {
        clusters: (first.clusters.bytes, again.clusters.bytes),
        endpoints: (first.endpoints.bytes, again.endpoints.bytes),
    })
}

fn ratio((first, again): (u64, u64)) -> f64 {
    again as f64 / first as f64
}

/// Reconnects every proxy at once.
///
/// # Errors
/// When the server fails or breaks a rule.
pub async fn measure(programs: &Programs, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let clusters = Size { services: effort.services, proxies: effort.proxies, subscription: Subscription::Clusters };
    let versioned = bytes(programs, clusters).await?;
    let meaning = format!(
        "bytes sent when all {} proxies reconnect with the versions they hold (and one cluster changes) ÷ bytes of their \
         first sync; {} clusters",
        effort.proxies, effort.services
    );
    let value = Summary::exact(ratio(versioned.clusters));
    let mut figures = vec![Figure::new("reconnect_bytes_over_full_sync", Goal::AtMost(0.01), value, meaning)];
    let both = Size { proxies: effort.proxies / 5, subscription: Subscription::ClustersAndEndpoints, ..clusters };
    let both = bytes(programs, both).await?;
    let meaning = "endpoints that Envoy subscribes to anew, which it must be sent whatever versions it claims (else its \
                   clusters stay empty until a time-out), ÷ endpoints of the first sync";
    let value = Summary::exact(ratio(both.endpoints));
    figures.push(Figure::new("reconnect_endpoint_bytes_over_full_sync", Goal::Record, value, meaning));
    Ok(figures)
}
