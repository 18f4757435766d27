//! From a changed file to a real Envoy that runs it, with many proxies beside it. Runs in a sandbox.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use osm_api::k8s_openapi::jiff::Timestamp;
use osm_testkit::sandbox::STATE_DIRECTORY;
use osm_testkit::{Envoy, EnvoyBinary, Fabric, NEWEST_ENVOY, eventually};

use crate::figure::{Figure, Goal};
use crate::folder::{Folder, endpoints_file};
use crate::measure::{Effort, progress};
use crate::mesh::{Access, Mesh, PODS};
use crate::operator::{LIMIT, Operator, SyntheticProxy};
use crate::statistics::{Summary, quantile};

/// The mesh.
const MESH: Mesh = Mesh { services: 100, access: Access::Policy, pods: PODS };
/// Synthetic proxies of the same workload.
const SYNTHETIC: u32 = 200;
/// Changes before the first that counts.
const WARM_UP: u32 = 20;
/// Time between the starts of two changes. No divisor of the intervals of the control plane, so that changes meet each of its phases.
const PACE: Duration = Duration::from_millis(37);

/// The real Envoy's pod, which is its node id.
const REAL: &str = "real";

/// One change, in milliseconds from just before the rename.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Until the real Envoy had acknowledged it.
    real: f64,
    /// Until the last proxy had.
    last: f64,
}

/// Replaces EndpointSlices one at a time and measures until they are acknowledged.
///
/// # Errors
/// Something does not start, or in the end Envoy does not have what it acknowledged.
pub async fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let changes = if effort == Effort::QUICK { 60 } else { 300 };
    let fabric = Fabric::create().await?;
    let folder = Folder::of_mesh(&Path::new(STATE_DIRECTORY).join("bench"), "propagation", &MESH)?;
    let mut operator = Operator::start(folder.manifests(), folder.state()).await?;
    let pod = fabric.add_pod(REAL).await?;
    let spec = operator.sidecar(&pod, Mesh::CLIENT, &EnvoyBinary::find(NEWEST_ENVOY)?, None).await?;
    let mut envoy = Envoy::start(&pod, &spec)?;
    envoy.ready(LIMIT).await?;
    progress(&format!("propagation: Envoy is ready; connecting {SYNTHETIC} synthetic proxies"));
    let mut sidecars = operator.synthetic_sidecars(&SyntheticProxy::several(Mesh::CLIENT, SYNTHETIC)).await?;
    operator.wait_in_sync(SYNTHETIC as usize + 1).await?;

    let mut samples = Vec::new();
    let mut clock = tokio::time::interval(PACE);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0..WARM_UP + changes {
        clock.tick().await;
        let sample = change(&folder, &mut operator, number).await.with_context(|| format!("change {number}"))?;
        samples.extend((number >= WARM_UP).then_some(sample));
        sidecars.check()?;
    }
    progress("propagation: all changes are made");
    verify(&envoy, WARM_UP + changes).await?;
    let expected = u64::from(SYNTHETIC * (WARM_UP + changes));
    let received = sidecars.received();
    anyhow::ensure!(received >= expected, "synthetic proxies received {received} responses, not {expected}");
    figures(&samples)
}

/// Which service a change is about, and which generation of its endpoints it brings.
fn subject(number: u32) -> (u32, u32) {
    (number % MESH.services, 1 + number / MESH.services)
}

async fn change(folder: &Folder, operator: &mut Operator, number: u32) -> anyhow::Result<Sample> {
    let (service, generation) = subject(number);
    let file = folder.prepare(&endpoints_file(service), &[MESH.endpoint_slice(service, generation)])?;
    let before = operator.newest_epoch();
    let real = format!("{}/{}/{REAL}", Mesh::CLIENT.0, Mesh::CLIENT.1);
    let start = Timestamp::now();
    file.put_in_place()?;
    let since_start = |end: Timestamp| end.duration_since(start).as_secs_f64() * 1e3;
    let mut sample = None;
    loop {
        let in_sync = operator.next_in_sync().await?;
        if in_sync.epoch <= before {
            continue;
        }
        if in_sync.proxy == real {
            sample.get_or_insert(since_start(in_sync.at));
        }
        if let Some(real) = sample
            && operator.have_synced(before + 1, SYNTHETIC as usize + 1)
        {
            return Ok(Sample { real, last: since_start(in_sync.at) });
        }
    }
}

/// Whether Envoy's endpoints of every service are those of the last change of it.
async fn verify(envoy: &Envoy, changes: u32) -> anyhow::Result<()> {
    let mut expected = Vec::new();
    for number in changes.saturating_sub(MESH.services)..changes {
        let (service, generation) = subject(number);
        let slice = MESH.endpoint_slice(service, generation);
        let endpoints = slice["endpoints"].as_array().context("endpoints")?;
        for endpoint in endpoints {
            expected.push(endpoint["addresses"][0].as_str().context("an address")?.to_owned());
        }
    }
    // Envoy acknowledges endpoints when its main thread has them; `/clusters` is the view of that thread.
    eventually("Envoy has the last addresses", LIMIT, || async {
        let clusters = envoy.clusters().await?.to_string();
        let missing = expected.iter().find(|address| !clusters.contains(&format!("\"{address}\"")));
        anyhow::ensure!(missing.is_none(), "Envoy does not have {missing:?}");
        Ok(())
    })
    .await
}

fn figures(samples: &[Sample]) -> anyhow::Result<Vec<Figure>> {
    let figure = |key: &str, goal: Goal, share: f64, values: Vec<f64>, until: &str| {
        let summary = Summary::of(values.clone()).context("no samples")?;
        let median = quantile(values, share).context("no samples")?;
        let meaning = format!(
            "milliseconds from just before the rename of an EndpointSlice's file ({} services by policy) until {until} has \
             acknowledged it, by the control plane's log; a real Envoy {NEWEST_ENVOY} and {SYNTHETIC} synthetic proxies are \
             connected by mutual TLS, one change every {} ms; the spread is that of single changes",
            MESH.services,
            PACE.as_millis(),
        );
        anyhow::Ok(Figure::new(key, goal, Summary { median, ..summary }, meaning))
    };
    let real = || samples.iter().map(|sample| sample.real).collect();
    let last = || samples.iter().map(|sample| sample.last).collect();
    Ok(vec![
        figure("event_to_ack_ms_p50", Goal::AtMost(3.0), 0.5, real(), "the real Envoy")?,
        figure("event_to_ack_ms_p99", Goal::AtMost(10.0), 0.99, real(), "the real Envoy")?,
        figure("event_to_ack_all_ms_p50", Goal::Record, 0.5, last(), "the last of all proxies")?,
        figure("event_to_ack_all_ms_p99", Goal::Record, 0.99, last(), "the last of all proxies")?,
    ])
}
