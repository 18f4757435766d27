//! Runs the story in a [`Scene`].

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use osm_testkit::apps::TryRequest;

use super::flow::{Expectation, Flow, judge};
use super::record::{FlowRecord, Record, StageRecord};
use super::scene::Scene;
use super::story::{Stage, story};
use super::view::View;

/// How long a stage may take to be enforced.
const STAGE_LIMIT: Duration = Duration::from_secs(30);
/// Time limit of one attempt, in milliseconds: that of a loaded machine, where a name alone may take seconds.
const ATTEMPT_LIMIT: u64 = 20_000;

/// Runs all stages whose folders are below `samples`, until one is not observed as promised. `scene` has the applications of the
/// first stage and no mesh. Gives what came of it; `begin` is when it began.
///
/// # Errors
/// Something did not start, or an application does not answer. A stage that is not observed is no error: it is in the record.
pub async fn run<S: Scene>(samples: &Path, scene: &mut S, begin: Instant, view: &View) -> Result<Record> {
    let stages = story();
    let mut record = Record { ok: true, seconds: 0.0, stages: Vec::new() };
    for (index, stage) in stages.iter().enumerate() {
        if index == 1 {
            view.say("\nstarting the control plane, and an Envoy beside every application");
            scene.join_mesh().await?;
        }
        view.stage(index + 1, stages.len(), stage);
        let applied = match index {
            // Its manifests were there before anything was started.
            0 => None,
            _ => Some(scene.apply(&samples.join(stage.folder)).await?),
        };
        let observed = observe(scene, stage, applied.as_ref(), STAGE_LIMIT, view).await?;
        view.flows(&observed);
        let ok = observed.ok;
        if !ok {
            view.say(&scene.evidence(&observed, applied.as_ref()).await);
        }
        record.stages.push(observed);
        if !ok {
            record.ok = false;
            break;
        }
    }
    record.seconds = round(begin.elapsed());
    Ok(record)
}

/// Watches for as long as `limit` until everything is as promised, and then checks with many attempts.
///
/// # Errors
/// An application does not answer. A stage that is not observed is no error: it is in the record.
pub async fn observe<S: Scene>(
    scene: &S,
    stage: &Stage,
    applied: Option<&S::Applied>,
    limit: Duration,
    view: &View,
) -> Result<StageRecord> {
    let since = applied.map_or_else(Instant::now, S::applied_at);
    let mut enforced = None;
    let mut flows = Vec::new();
    while enforced.is_none() && since.elapsed() < limit {
        flows = look(scene, stage, Expectation::attempts_at_first).await?;
        let elapsed = since.elapsed();
        let as_expected = flows.iter().filter(|flow| flow.ok).count();
        view.waiting(as_expected, flows.len(), elapsed);
        let programmed = match applied {
            Some(applied) => scene.is_programmed(applied).await,
            None => true,
        };
        if as_expected == flows.len() && programmed {
            enforced = Some(elapsed);
        }
    }
    if enforced.is_some() {
        let attempts = stage.flows.iter().map(|(_, expected)| expected.attempts()).sum();
        view.checking(attempts);
        flows = look(scene, stage, Expectation::attempts).await?;
    }
    Ok(StageRecord {
        name: stage.name.to_owned(),
        ok: enforced.is_some() && flows.iter().all(|flow| flow.ok),
        seconds_to_enforce: enforced.map(round),
        flows,
    })
}

/// Tries all flows, at the same time.
async fn look<S: Scene>(scene: &S, stage: &Stage, attempts: fn(Expectation) -> u32) -> Result<Vec<FlowRecord>> {
    let flows = stage.flows.iter();
    try_join_all(flows.map(|(flow, expected)| try_flow(scene, flow, *expected, attempts(*expected)))).await
}

async fn try_flow<S: Scene>(scene: &S, flow: &Flow, expected: Expectation, attempts: u32) -> Result<FlowRecord> {
    let mut request = TryRequest::new(flow.target(), attempts);
    request.timeout_milliseconds = ATTEMPT_LIMIT;
    let judgement = judge(expected, &scene.request(flow.from, &request).await?);
    Ok(FlowRecord {
        from: flow.from.to_owned(),
        to: flow.to.to_owned(),
        path: flow.path.to_owned(),
        expected: expected.to_string(),
        observed: judgement.observed,
        ok: judgement.ok,
    })
}

/// Seconds, to the millisecond.
fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
