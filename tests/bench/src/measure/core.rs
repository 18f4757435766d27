//! What the core costs: resolving and translating one change, and a whole mesh from nothing.

use std::time::Instant;

use anyhow::Context;
use osm_engine::MeshEngine;

use crate::figure::{Figure, Goal};
use crate::measure::{Effort, progress};
use crate::mesh::{Access, Mesh, object};
use crate::statistics::Summary;

/// Sizes whose cost for one change is compared.
const SMALL: u32 = 100;
const LARGE: u32 = 10_000;
/// Changes in one sample; one change is too short to time.
const CHANGES: u32 = 200;

struct Subject {
    mesh: Mesh,
    engine: MeshEngine,
    generation: u32,
}

impl Subject {
    fn new(services: u32, access: Access) -> anyhow::Result<Self> {
        let mesh = Mesh { services, access };
        let mut engine = MeshEngine::new(Mesh::options()?);
        engine.update(mesh.objects()?);
        Ok(Self { mesh, engine, generation: 0 })
    }

    /// Seconds of one endpoint change, the mean over many changes of one service after another. Each changes what exactly
    /// one endpoint resource says.
    fn change_seconds(&mut self) -> anyhow::Result<f64> {
        self.generation += 1;
        let services = (0..CHANGES).map(|number| number * (self.mesh.services / CHANGES).max(1) % self.mesh.services);
        let changes: Vec<_> = services
            .map(|service| object(self.mesh.endpoint_slice(service, self.generation)))
            .collect::<Result<_, _>>()?;
        let start = Instant::now();
        for change in changes {
            let changed = self.engine.update([change]);
            anyhow::ensure!(changed.resources.len() < 8, "one endpoint changed {} resources", changed.resources.len());
        }
        Ok(start.elapsed().as_secs_f64() / f64::from(CHANGES))
    }
}

/// Compares one endpoint change in a large mesh with one in a small mesh, and times a full build.
///
/// # Errors
/// The synthetic mesh is wrong.
pub fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (access, key, goal) in [
        (Access::Permissive, "core_cpu_10000_over_100_services", Goal::AtMost(1.2)),
        (Access::Policy, "core_cpu_10000_over_100_services_by_policy", Goal::Record),
    ] {
        progress(&format!("core: building {SMALL} and {LARGE} services ({access:?})"));
        let (mut small, mut large) = (Subject::new(SMALL, access)?, Subject::new(LARGE, access)?);
        let mut ratios = Vec::new();
        for _ in 0..effort.rounds {
            let (few, many) = (small.change_seconds()?, large.change_seconds()?);
            ratios.push(many / few);
        }
        let meaning =
            format!("resolve and translate one endpoint change: {LARGE} services ÷ {SMALL} services ({access:?})");
        figures.push(Figure::new(key, goal, Summary::of(ratios).context("no rounds")?, meaning));
    }
    figures.push(full_build(effort)?);
    Ok(figures)
}

fn full_build(effort: Effort) -> anyhow::Result<Figure> {
    let mesh = Mesh { services: effort.services, access: Access::Permissive };
    let objects = mesh.objects()?;
    let mut samples = Vec::new();
    for _ in 0..effort.rounds {
        let (objects, start) = (objects.clone(), Instant::now());
        let mut engine = MeshEngine::new(Mesh::options()?);
        engine.update(objects);
        samples.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let summary = Summary::of(samples).context("no rounds")?;
    let meaning = format!("milliseconds to resolve and translate a mesh of {} services from nothing", effort.services);
    Ok(Figure::new("permissive_core_ms_1000_services", Goal::Record, summary, meaning))
}
