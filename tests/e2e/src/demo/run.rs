//! Runs the story in a [`World`].

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use osm_testkit::apps::TryRequest;
use osm_testkit::{EnvoyBinary, WorkloadSpec};

use super::evidence::evidence;
use super::flow::{Expectation, Flow, judge};
use super::record::{FlowRecord, Record, StageRecord};
use super::story::{OUTSIDER, Stage, story};
use super::view::View;
use crate::files::Applied;
use crate::world::World;

/// How long a stage may take to be enforced.
const STAGE_LIMIT: Duration = Duration::from_secs(30);
/// Time limit of one attempt, in milliseconds.
const ATTEMPT_LIMIT: u64 = 5000;

/// Runs all stages whose folders are below `samples`, until one is not observed as promised. Gives what came of it, and the
/// world as the story left it.
///
/// # Errors
/// Something did not start, or an application does not answer. A stage that is not observed is no error: it is in the record.
pub async fn run(samples: &Path, envoy: EnvoyBinary, view: &View) -> Result<(Record, World)> {
    let begin = Instant::now();
    let stages = story();
    view.say("starting the applications, each in a network namespace of its own");
    let base = stages.first().context("a story has a beginning")?;
    let mut world = World::without_mesh(&samples.join(base.folder), envoy).await?;
    world.add_outsider(&WorkloadSpec::new(OUTSIDER, ["client", "--name", OUTSIDER])).await?;
    let mut record = Record { ok: true, seconds: 0.0, stages: Vec::new() };
    for (index, stage) in stages.iter().enumerate() {
        if index == 1 {
            view.say("\nstarting the control plane, and an Envoy beside every application");
            world.start_operator().await?;
            world.join_mesh().await?;
        }
        view.stage(index + 1, stages.len(), stage);
        let applied = match index {
            // Its files were copied before anything was started.
            0 => None,
            _ => Some(world.apply(&samples.join(stage.folder)).await?),
        };
        let observed = observe(&world, stage, applied.as_ref(), view).await?;
        view.flows(&observed);
        let ok = observed.ok;
        if !ok {
            view.say(&evidence(&mut world, &observed, applied.as_ref()).await);
        }
        record.stages.push(observed);
        if !ok {
            record.ok = false;
            break;
        }
    }
    record.seconds = round(begin.elapsed());
    Ok((record, world))
}

/// Watches until everything is as promised, and then checks with many attempts.
async fn observe(world: &World, stage: &Stage, applied: Option<&Applied>, view: &View) -> Result<StageRecord> {
    let since = applied.map_or_else(Instant::now, |applied| applied.at);
    let mut enforced = None;
    let mut flows = Vec::new();
    while enforced.is_none() && since.elapsed() < STAGE_LIMIT {
        flows = look(world, stage, Expectation::attempts_at_first).await?;
        let elapsed = since.elapsed();
        let as_expected = flows.iter().filter(|flow| flow.ok).count();
        view.waiting(as_expected, flows.len(), elapsed);
        let programmed = applied.is_none_or(|applied| applied.is_programmed(&world.status_folder()).is_ok());
        if as_expected == flows.len() && programmed {
            enforced = Some(elapsed);
        }
    }
    if enforced.is_some() {
        let attempts = stage.flows.iter().map(|(_, expected)| expected.attempts()).sum();
        view.checking(attempts);
        flows = look(world, stage, Expectation::attempts).await?;
    }
    Ok(StageRecord {
        name: stage.name.to_owned(),
        ok: enforced.is_some() && flows.iter().all(|flow| flow.ok),
        seconds_to_enforce: enforced.map(round),
        flows,
    })
}

/// Tries all flows, at the same time.
async fn look(world: &World, stage: &Stage, attempts: fn(Expectation) -> u32) -> Result<Vec<FlowRecord>> {
    let flows = stage.flows.iter();
    try_join_all(flows.map(|(flow, expected)| try_flow(world, flow, *expected, attempts(*expected)))).await
}

async fn try_flow(world: &World, flow: &Flow, expected: Expectation, attempts: u32) -> Result<FlowRecord> {
    let mut request = TryRequest::new(flow.target(), attempts);
    request.timeout_milliseconds = ATTEMPT_LIMIT;
    let judgement = judge(expected, &world.request(flow.from, &request).await?);
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
