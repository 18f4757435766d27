//! What it costs to bring one changed cluster to every proxy, against the peers, and how that depends on the size of the
//! mesh.

use std::time::Duration;

use crate::control::ResourceKind;
use crate::figure::{Figure, Goal};
use crate::fleet::Subscription;
use crate::measure::{Effort, progress};
use crate::statistics::Summary;
use crate::subject::{FirstSync, Programs, Running, Size, Subject};

/// Services of the small mesh that shows whether cost depends on size.
const SMALL: u32 = 100;

/// One server with its fleet, and what its rounds took.
struct Contestant {
    subject: Subject,
    services: u32,
    proxies: u32,
    running: Running,
    first_sync: FirstSync,
    /// Changes in one round: more for fast servers, so that rounds take comparable time.
    changes: u32,
    /// Microseconds of the server's processor time for each push (one change to one proxy), by round.
    processor: Vec<f64>,
    /// Milliseconds from the change to the last proxy's answer, median of a round, by round.
    wall: Vec<f64>,
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Contestant {
    async fn start(programs: &Programs, subject: Subject, services: u32, effort: Effort) -> anyhow::Result<Self> {
        // Where each node has its own snapshot the cost of a push does not depend on how many there are, and is so high
        // that a tenth of them is enough.
        let proxies = match subject {
            Subject::GcpSnapshotPerNode => effort.proxies / 10,
            Subject::Floor | Subject::Ours | Subject::GcpLinear | Subject::GcpSnapshotShared => effort.proxies,
        };
        let size = Size { services, proxies, subscription: Subscription::Clusters };
        let mut running = Running::start(programs, subject, size).await?;
        let first_sync = running.first_sync().await?;
        // Buffers grow to their size once; that is no part of a push.
        running.push(ResourceKind::Cluster, 1).await?;
        let changes = match subject {
            Subject::Floor | Subject::Ours => 10,
            Subject::GcpLinear | Subject::GcpSnapshotShared => 3,
            Subject::GcpSnapshotPerNode => 1,
        };
        Ok(Self { subject, services, proxies, running, first_sync, changes, processor: Vec::new(), wall: Vec::new() })
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let before = self.running.server.rested().await?;
        let mut walls = Vec::new();
        for _ in 0..self.changes {
            walls.push(milliseconds(self.running.push(ResourceKind::Cluster, 1).await?.wall));
        }
        let used = self.running.server.rested().await? - before;
        self.processor.push(microseconds(used) / f64::from(self.changes * self.proxies));
        self.wall.extend(Summary::of(walls).map(|summary| summary.median));
        Ok(())
    }

    fn key(&self) -> String {
        let name: String = self
            .subject
            .name()
            .chars()
            .filter_map(|letter| match letter {
                ' ' | '-' => Some('_'),
                ',' => None,
                letter => Some(letter),
            })
            .collect();
        format!("{name}_k{}", self.services)
    }

    fn records(&self) -> Vec<Figure> {
        let key = self.key();
        let what = format!("{}, {} clusters, {} proxies", self.subject.name(), self.services, self.proxies);
        let record = |name: &str, summary: Option<Summary>, meaning: &str| {
            summary.map(|summary| {
                Figure::new(format!("{name}_{key}"), Goal::Record, summary, format!("{what}: {meaning}"))
            })
        };
        let sync = microseconds(self.first_sync.processor_time) / f64::from(self.proxies);
        [
            record("push_cpu_us", Summary::of(self.processor.clone()), "processor time a push, µs"),
            record("push_wall_ms", Summary::of(self.wall.clone()), "one change to all answers, ms"),
            record("first_sync_cpu_us", Some(Summary::exact(sync)), "processor time of a proxy's first sync, µs"),
            record(
                "first_sync_wall_ms",
                Some(Summary::exact(milliseconds(self.first_sync.wall))),
                "all proxies from nothing, ms",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The ratio of two contestants, round by round.
fn ratio(ours: &[f64], theirs: &[f64]) -> Option<Summary> {
    Summary::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
}

/// Measures all contestants in interleaved rounds.
///
/// # Errors
/// When a server fails or breaks a rule.
pub async fn measure(programs: &Programs, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let mut entries = vec![
        (Subject::Floor, effort.services),
        (Subject::Ours, effort.services),
        (Subject::GcpLinear, effort.services),
        (Subject::Ours, SMALL),
        (Subject::GcpLinear, SMALL),
        (Subject::GcpSnapshotShared, effort.services),
        (Subject::GcpSnapshotPerNode, effort.services),
    ];
    if programs.gcp.is_none() {
        entries.retain(|(subject, _)| matches!(subject, Subject::Floor | Subject::Ours));
    }
    let mut contestants = Vec::new();
    for (subject, services) in entries {
        let contestant = Contestant::start(programs, subject, services, effort).await?;
        progress(&format!("{}, {services} clusters: {} proxies synced", subject.name(), contestant.proxies));
        contestants.push(contestant);
    }
    for round in 0..effort.rounds {
        // There and back, so that a drift of the machine does not favour one.
        let order: Vec<usize> = match round % 2 {
            0 => (0..contestants.len()).collect(),
            _ => (0..contestants.len()).rev().collect(),
        };
        for index in order {
            contestants[index].round().await?;
        }
        progress(&format!("pushes: round {} of {}", round + 1, effort.rounds));
    }
    Ok(figures(&contestants, effort.proxies))
}

fn figures(contestants: &[Contestant], proxies: u32) -> Vec<Figure> {
    let find = |subject, services| {
        contestants.iter().find(|contestant| contestant.subject == subject && contestant.services == services)
    };
    let Some(ours) = contestants.iter().find(|contestant| contestant.subject == Subject::Ours) else {
        return Vec::new();
    };
    let on = format!("{} clusters, {proxies} proxies, one cluster changed", ours.services);
    let mut figures = Vec::new();
    let mut compare = |key: &str, goal, summary: Option<Summary>, meaning: String| {
        figures.extend(summary.map(|summary| Figure::new(key, goal, summary, meaning)));
    };
    if let Some(floor) = find(Subject::Floor, ours.services) {
        let meaning = format!("server processor time a push, osm-xds ÷ floor; {on}");
        compare("push_cpu_over_floor", Goal::AtMost(2.0), ratio(&ours.processor, &floor.processor), meaning);
        let meaning = format!("change to last answer, osm-xds ÷ floor; {on}");
        compare("push_wall_over_floor", Goal::Record, ratio(&ours.wall, &floor.wall), meaning);
    }
    if let Some(linear) = find(Subject::GcpLinear, ours.services) {
        let meaning = format!("server processor time a push, osm-xds ÷ go-control-plane linear; {on}");
        compare("push_cpu_over_gcp_linear", Goal::AtMost(0.2), ratio(&ours.processor, &linear.processor), meaning);
        let meaning = format!("change to last answer, osm-xds ÷ go-control-plane linear; {on}");
        compare("push_wall_over_gcp_linear", Goal::AtMost(0.33), ratio(&ours.wall, &linear.wall), meaning);
    }
    if let Some(small) = find(Subject::Ours, SMALL) {
        let meaning = format!("server processor time a push, {} ÷ {SMALL} clusters; {proxies} proxies", ours.services);
        compare("push_cpu_k1000_over_k100", Goal::AtMost(1.1), ratio(&ours.processor, &small.processor), meaning);
    }
    figures.extend(contestants.iter().flat_map(Contestant::records));
    figures
}
