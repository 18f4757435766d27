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
#[path = "cluster/providers.rs"]
mod providers;
#[path = "cluster/rights.rs"]
mod rights;
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

use self::providers::Providers;

/// How long anything may take: pods are made on a machine that also builds.
const LIMIT: Duration = Duration::from_secs(180);

/// Parts of the names of scenes, with commas between them, for whoever works at one.
const SCENES: &str = "OSM_TEST_SCENES";

/// What came of each scene.
#[derive(Debug, Default)]
struct Scenes {
    failures: Vec<String>,
}

impl Scenes {
    /// Whether a scene is to be played: all are, unless some are named.
    fn wants(name: &str) -> bool {
        std::env::var(SCENES).map_or(true, |wanted| wanted.split(',').any(|part| name.contains(part)))
    }

    fn note(&mut self, name: &str, (outcome, took): (Result<()>, Duration)) {
        let took = took.as_secs_f64();
        match outcome {
            Ok(()) => println!("{name}: ok, {took:.1} s"),
            Err(error) => {
                println!("{name}: FAILED, {took:.1} s: {error:#}");
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
    }
}

/// What comes of a scene, and how long it takes.
async fn timed(scene: impl Future<Output = Result<()>>) -> (Result<()>, Duration) {
    let started = Instant::now();
    (scene.await, started.elapsed())
}

macro_rules! scene {
    ($scenes:ident, $name:literal, $scene:expr) => {
        if Scenes::wants($name) {
            $scenes.note($name, timed($scene).await)
        }
    };
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
    let providers = Providers::start(&mut world).await?;
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
    scene!(scenes, "the API server is away for a minute", disturbances::api_server_away(world));
    scene!(scenes, "IPv6", workloads::ipv6(world));
    // None has to do with the others, and all wait most of the time.
    let mut others = [Scenes::default(), Scenes::default()];
    let [with_workloads, with_probes] = &mut others;
    tokio::join!(
        async {
            scene!(scenes, "the root goes from provider to provider", providers::succeed_each_other(world, &providers))
        },
        async { scene!(with_workloads, "Jobs, StatefulSets, init containers", workloads::of_every_kind(world)) },
        async { scene!(with_probes, "probes of every kind", probes::by_every_protocol(world)) },
    );
    scenes.failures.extend(others.into_iter().flat_map(|scenes| scenes.failures));
    scene!(scenes, "a stranger, and everyday commands", commands::everyday(world, &programs.operator));
    scene!(scenes, "the control plane has the rights that it uses", rights::least(world));
    scene!(scenes, "nothing secret is told", secrets::nowhere(world, &providers));
    scene!(scenes, "the providers go", providers.end(world));
    scene!(scenes, "helm upgrades, rolls back and uninstalls", helm::life(world));
    let failures = scenes.failures;
    ensure!(failures.is_empty(), "{} scenes failed:\n{}", failures.len(), failures.join("\n\n"));
    Ok(())
}
