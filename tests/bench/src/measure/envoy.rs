//! Memory of a real Envoy that uses no service, by size of a permissive mesh. Runs in a sandbox.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use osm_testkit::sandbox::STATE_DIRECTORY;
use osm_testkit::{Envoy, EnvoyBinary, Fabric, NEWEST_ENVOY, eventually};

use crate::figure::{Figure, Goal};
use crate::folder::Folder;
use crate::measure::{Effort, progress};
use crate::mesh::{Access, Mesh, PODS};
use crate::operator::{LIMIT, Operator};
use crate::statistics::Summary;

const LARGE: u32 = 1000;
const HUGE: u32 = 10_000;
const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Time between two readings that must agree.
const BETWEEN_READINGS: Duration = Duration::from_millis(250);
/// Two readings agree within this many bytes: a few objects of Envoy's own timers and of the request that reads.
const AGREEMENT: u64 = 16 * 1024;

/// Measures at three sizes.
///
/// # Errors
/// Something does not start or does not come to rest.
pub async fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let rounds = effort.rounds.min(5);
    let fabric = Fabric::create().await?;
    let empty = allocated(&fabric, 0, rounds).await?;
    let large = allocated(&fabric, LARGE, rounds).await?;
    let huge = allocated(&fabric, HUGE, rounds).await?;
    let per_service =
        empty.iter().zip(&large).map(|(before, after)| (after - before) / f64::from(LARGE) / KIB).collect();
    let mib = |bytes: &[f64]| Summary::of(bytes.iter().map(|bytes| bytes / MIB).collect()).context("no rounds");
    let what =
        format!("`allocated` of a real Envoy {NEWEST_ENVOY} in permissive mode, in sync and at rest, no service used");
    Ok(vec![
        Figure::new(
            "envoy_kib_per_unused_service",
            Goal::AtMost(1.5),
            Summary::of(per_service).context("no rounds")?,
            format!("{what}: KiB of {LARGE} services over none, per service"),
        ),
        Figure::new(
            "envoy_allocated_mib_10000_services",
            Goal::AtMost(20.0),
            mib(&huge)?,
            format!("{what}: MiB at {HUGE} services"),
        ),
        Figure::new(
            "envoy_allocated_mib_0_services",
            Goal::Record,
            mib(&empty)?,
            format!("{what}: MiB without services"),
        ),
    ])
}

/// Bytes that new Envoys have allocated in a mesh of so many services.
async fn allocated(fabric: &Fabric, services: u32, rounds: usize) -> anyhow::Result<Vec<f64>> {
    progress(&format!("envoy memory: {services} services"));
    let mesh = Mesh { services, access: Access::Permissive, pods: PODS };
    let folder = Folder::of_mesh(&Path::new(STATE_DIRECTORY).join("bench"), &format!("memory-{services}"), &mesh)?;
    let mut operator = Operator::start(folder.manifests(), folder.state()).await?;
    let binary = EnvoyBinary::find(NEWEST_ENVOY)?;
    let mut readings = Vec::new();
    for round in 0..rounds {
        let pod = fabric.add_pod(&format!("m{services}-{round}")).await?;
        let spec = operator.sidecar(&pod, Mesh::CLIENT, &binary, None).await?;
        let mut envoy = Envoy::start(&pod, &spec)?;
        envoy.ready(LIMIT).await?;
        operator.wait_in_sync(round + 1).await?;
        readings.push(at_rest(&envoy).await? as f64);
        envoy.stop().await?;
    }
    Ok(readings)
}

/// What is allocated once two readings agree.
async fn at_rest(envoy: &Envoy) -> anyhow::Result<u64> {
    let before = tokio::sync::Mutex::new(envoy.allocated_bytes().await?);
    eventually("Envoy's memory is at rest", LIMIT, || async {
        tokio::time::sleep(BETWEEN_READINGS).await;
        let now = envoy.allocated_bytes().await?;
        let then = std::mem::replace(&mut *before.lock().await, now);
        anyhow::ensure!(now.abs_diff(then) <= AGREEMENT, "{then} bytes, then {now}");
        Ok(now)
    })
    .await
}
