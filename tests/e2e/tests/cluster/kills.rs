//! The bookstore's story once more, while the control plane is killed at random points of it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use osm_e2e::ClusterWorld;
use osm_e2e::demo::{Expectation, Flow, Stage, View, observe, story};
use osm_testkit::apps::{LoadRequest, RunningLoad};
use osm_testkit::eventually;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::LIMIT;
use crate::application::{load, unharmed};
use crate::disturbances::{pods, state};

/// What chooses the points; without it each run has others.
const SEED: &str = "OSM_TEST_SEED";
/// At least, in each of the seven stages.
const KILLS: usize = 3;

/// Nothing that a stage promises is missing in the end, no request fails that is answered before and after a change of policies, and
/// the mesh ends as it does when nobody is killed.
pub(crate) async fn story_again(world: &ClusterWorld, samples: &Path) -> Result<()> {
    let seed = match std::env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("{SEED}={text} is no number"))?,
        Err(_) => rand::random::<u64>(),
    };
    println!("the points at which the control plane is killed: {SEED}={seed}");
    tell(world, samples, seed).await.with_context(|| format!("{SEED}={seed}"))
}

async fn tell(world: &ClusterWorld, samples: &Path, seed: u64) -> Result<()> {
    let before = eventually("the mesh is settled", LIMIT, || state(world)).await?;
    // As it was before the first stage.
    for folder in ["05-split-50-50", "03-grants"] {
        let folder = samples.join(folder).to_string_lossy().into_owned();
        world.kubectl().output(&["delete", "--ignore-not-found", "-f", &folder]).await?;
    }
    let clock = load(world).await?;
    let mut killer = Killer { random: StdRng::seed_from_u64(seed), kills: 0 };
    let mut loads: Vec<(Flow, RunningLoad)> = Vec::new();
    for stage in story().iter().skip(1) {
        loads = finish(loads, |flow| is_answered(stage, flow)).await?;
        let observed = async {
            // Refused as long as no replica answers for the webhook: a user repeats it.
            let folder = samples.join(stage.folder);
            let applied = eventually("a stage is applied", LIMIT, || world.apply_stage(&folder)).await?;
            observe(world, stage, Some(&applied), LIMIT, &View::default()).await
        };
        let (observed, ()) = tokio::try_join!(observed, killer.kill(world, &clock))?;
        ensure!(observed.ok, "a stage was not observed: {observed:#?}\n{}", world.control_plane_log(40).await);
        for (flow, load) in &loads {
            let report = load.report().await?;
            ensure!(report.unsuccessful() == 0, "{flow:?} in stage {:?}: {report:?}", stage.name);
        }
        for (flow, _) in stage.flows.iter().filter(|(flow, _)| is_answered(stage, flow)) {
            if !loads.iter().any(|(loaded, _)| loaded == flow) {
                let request =
                    LoadRequest { rate: Some(2), timeout_milliseconds: 20_000, ..LoadRequest::new(flow.target()) };
                loads.push((*flow, world.load(flow.from, &request).await?));
            }
        }
    }
    finish(loads, |_| false).await?;
    ensure!(killer.kills >= 20, "only {} replicas were killed", killer.kills);
    world.rolled_out("osm-system", "deployment/osm-controller").await?;
    eventually("the mesh is as it was", LIMIT, || async {
        let after = state(world).await?;
        ensure!(after == before, "before: {before:#?}\nafter: {after:#?}");
        Ok(())
    })
    .await?;
    let requests = unharmed(clock).await?;
    println!("{} replicas were killed during {requests} requests beside those of the story", killer.kills);
    Ok(())
}

fn is_answered(stage: &Stage, flow: &Flow) -> bool {
    stage.flows.iter().any(|(known, expected)| known == flow && *expected != Expectation::Refused)
}

/// Ends the loads that are not to go on, none of whose requests may have failed; gives the others.
async fn finish(loads: Vec<(Flow, RunningLoad)>, goes_on: impl Fn(&Flow) -> bool) -> Result<Vec<(Flow, RunningLoad)>> {
    let (going_on, ending): (Vec<_>, Vec<_>) = loads.into_iter().partition(|(flow, _)| goes_on(flow));
    for (flow, load) in ending {
        load.reach(1, LIMIT).await?;
        let report = load.finish().await?;
        ensure!(report.unsuccessful() == 0, "{flow:?}: {} requests failed: {report:?}", report.unsuccessful());
        println!("{} to {}: {} requests, {:?}", flow.from, flow.to, report.attempts, report.latency_milliseconds);
    }
    Ok(going_on)
}

/// Kills replicas of the control plane, when and whom its numbers say.
struct Killer {
    random: StdRng,
    kills: usize,
}

impl Killer {
    /// In the seconds to come; the progress of a load of 20 requests a second is the clock.
    async fn kill(&mut self, world: &ClusterWorld, clock: &RunningLoad) -> Result<()> {
        let enough = self.kills + KILLS;
        while self.kills < enough {
            let pause = self.random.random_range(0..=80);
            clock.reach(clock.report().await?.attempts + pause, LIMIT).await?;
            let pods = eventually("there is a replica", LIMIT, || async {
                let pods = pods(world, "osm-system", "app=osm-controller").await?;
                ensure!(!pods.is_empty(), "no replica");
                Ok(pods)
            })
            .await?;
            let all = self.random.random_bool(0.3);
            let victims: Vec<&String> =
                if all { pods.iter().collect() } else { pods.choose(&mut self.random).into_iter().collect() };
            for pod in victims {
                self.kills += usize::from(killed(world, pod).await?);
            }
        }
        Ok(())
    }
}

/// Kills the process of a replica if it runs. The kubelet starts it again at once, but a second time only after a while: such a pod is
/// replaced by a new one.
async fn killed(world: &ClusterWorld, pod: &str) -> Result<bool> {
    let Ok(found) = world.json(&["get", "pod", "-n", "osm-system", pod]).await else { return Ok(false) };
    let container = &found["status"]["containerStatuses"][0];
    let killed = match container["containerID"].as_str() {
        Some(id) if !container["state"]["running"].is_null() => world.cluster().kill_container(id)? > 0,
        _ => false,
    };
    if container["restartCount"].as_u64().is_some_and(|restarts| restarts > 0) {
        let arguments = ["delete", "pod", "-n", "osm-system", "--force", "--grace-period=0", "--wait=false"];
        world.kubectl().output(&[&arguments[..], &["--ignore-not-found", pod]].concat()).await?;
    }
    Ok(killed)
}
