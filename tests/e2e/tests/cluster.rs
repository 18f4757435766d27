//! The mesh in a whole Kubernetes cluster, installed by helm: the bookstore's story, and what a cluster does to a mesh under load.
//!
//! One cluster for everything, because it is what takes long: scenes run one after the other, and what failed is told at the end.
//! Needs root and what `hack/setup --cluster` prepares; a test that cannot run fails and names it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "how long each scene took is told when the output is asked for")]

#[path = "cluster/application.rs"]
mod application;
#[path = "cluster/commands.rs"]
mod commands;
#[path = "cluster/disturbances.rs"]
mod disturbances;
#[path = "cluster/eviction.rs"]
mod eviction;
#[path = "cluster/helm.rs"]
mod helm;
#[path = "cluster/kills.rs"]
mod kills;
#[path = "cluster/probes.rs"]
mod probes;
#[path = "cluster/rights.rs"]
mod rights;
#[path = "cluster/roots.rs"]
mod roots;
#[path = "cluster/secrets.rs"]
mod secrets;
#[path = "cluster/settings.rs"]
mod settings;
#[path = "cluster/workloads.rs"]
mod workloads;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use osm_cluster::Lifetime;
use osm_e2e::demo::{View, run};
use osm_e2e::{ClusterWorld, Programs};
use osm_testkit::NEWEST_ENVOY;

/// How long anything may take: pods are made on a machine that also builds.
const LIMIT: Duration = Duration::from_secs(180);

/// What came of each scene.
#[derive(Debug, Default)]
struct Scenes {
    failures: Vec<String>,
}

impl Scenes {
    fn note(&mut self, name: &str, started: Instant, outcome: Result<()>) {
        match outcome {
            Ok(()) => println!("{name}: ok, {:.1} s", started.elapsed().as_secs_f64()),
            Err(error) => {
                println!("{name}: FAILED, {:.1} s: {error:#}", started.elapsed().as_secs_f64());
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
    }
}

macro_rules! scene {
    ($scenes:ident, $name:literal, $scene:expr) => {{
        let started = Instant::now();
        let outcome = $scene.await;
        $scenes.note($name, started, outcome);
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_in_a_cluster() -> Result<()> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/samples/bookstore");
    let programs = Programs::beside_this_one(NEWEST_ENVOY)?;
    let begin = Instant::now();
    let mut world = ClusterWorld::without_mesh("e2e-mesh", &samples, &programs, Lifetime::Owned).await?;
    // The control plane has to do with the strictest level of pod security.
    let restricted = ["label", "namespace", "osm-system", "pod-security.kubernetes.io/enforce=restricted"];
    world.kubectl().output(&restricted).await?;
    let record = run(&samples, &mut world, begin, &View::default()).await?;
    ensure!(record.ok, "a stage of the story was not observed: {record:?}");
    let world = &world;

    let mut scenes = Scenes::default();
    scene!(scenes, "applications of the test", application::start(world));
    ensure!(scenes.failures.is_empty(), "nothing to disturb: {:?}", scenes.failures);
    scene!(scenes, "a rolling update of a server", disturbances::rolling_update(world));
    scene!(scenes, "the kubelet is restarted", disturbances::kubelet_restarts(world));
    scene!(scenes, "the story, while the control plane is killed", kills::story_again(world, &samples));
    scene!(scenes, "the leader is evicted", eviction::of_the_leader(world));
    scene!(scenes, "the control plane follows its settings", settings::followed_live(world));
    scene!(scenes, "the root is replaced", roots::replaced(world));
    scene!(scenes, "the API server is away for a minute", disturbances::api_server_away(world));
    scene!(scenes, "IPv6", workloads::ipv6(world));
    // Neither has to do with the other, and both wait for pods most of the time.
    let started = Instant::now();
    let (workloads, probes) = tokio::join!(workloads::of_every_kind(world), probes::by_every_protocol(world));
    scenes.note("Jobs, StatefulSets, init containers", started, workloads);
    scenes.note("probes of every kind", started, probes);
    scene!(scenes, "a stranger, and everyday commands", commands::everyday(world, &programs.operator));
    scene!(scenes, "the control plane has the rights that it uses", rights::least(world));
    scene!(scenes, "nothing secret is told", secrets::nowhere(world));
    scene!(scenes, "helm upgrades, rolls back and uninstalls", helm::life(world));
    let failures = scenes.failures;
    ensure!(failures.is_empty(), "{} scenes failed:\n{}", failures.len(), failures.join("\n\n"));
    Ok(())
}
