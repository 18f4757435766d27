//! What the core costs: resolving and translating one change, and a whole mesh from nothing.

use std::time::{Duration, Instant};

use anyhow::Context;
use osm_engine::MeshEngine;
use rustix::time::{ClockId, clock_gettime};

use crate::figure::{Figure, Goal};
use crate::measure::{Effort, progress};
use crate::mesh::{Access, Mesh, PODS, object};
use crate::statistics::Summary;

/// Sizes whose cost for one change is compared.
const SMALL: u32 = 100;
const LARGE: u32 = 10_000;
/// Changes in one sample; one change is too short to time.
const CHANGES: u32 = 1000;

/// Processor time of this thread: what else the machine does is not in it.
fn processor_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// Which services change, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changing {
    /// As many as the small mesh has, evenly spread over the mesh, again and again: what both sizes have to work on is equal,
    /// and only what they look it up in differs.
    SameCount,
    /// In each sample others, as long as there are any: in the large mesh no cache holds anything of them.
    Others,
}

struct Subject {
    mesh: Mesh,
    engine: MeshEngine,
    /// Changes so far.
    changes: u32,
}

impl Subject {
    fn new(services: u32, access: Access) -> anyhow::Result<Self> {
        let mesh = Mesh { services, access, pods: PODS };
        let mut engine = MeshEngine::new(Mesh::options()?);
        engine.update(mesh.objects()?);
        Ok(Self { mesh, engine, changes: 0 })
    }

    /// Layers that hold the endpoints of one service: that of all proxies, or those of the two workloads that may call it.
    fn layers(&self) -> usize {
        match self.mesh.access {
            Access::Permissive => 1,
            Access::Policy => 2,
        }
    }

    /// The service that a change is about, and a generation of its endpoints that differs from the former one.
    fn service(&self, change: u32, changing: Changing) -> (u32, u32) {
        match changing {
            Changing::SameCount => (change % SMALL * (self.mesh.services / SMALL), 1 + change / SMALL),
            // Coprime to the number of services, so that all are visited before one comes again.
            Changing::Others => (change * 37 % self.mesh.services, 1 + change / self.mesh.services),
        }
    }

    /// Seconds of processor time of one endpoint change, the mean over many. Each changes what exactly one endpoint resource says.
    fn change_seconds(&mut self, changing: Changing) -> anyhow::Result<f64> {
        let first = self.changes;
        self.changes += CHANGES;
        let services = (first..self.changes).map(|change| self.service(change, changing));
        let changes: Vec<_> = services
            .map(|(service, generation)| object(self.mesh.endpoint_slice(service, generation)))
            .collect::<Result<_, _>>()?;
        let start = processor_time()?;
        let mut resources = 0;
        for change in changes {
            resources += self.engine.update([change]).resources.len();
        }
        let seconds = (processor_time()? - start).as_secs_f64() / f64::from(CHANGES);
        let expected = CHANGES as usize * self.layers();
        anyhow::ensure!(
            resources == expected,
            "{CHANGES} endpoint changes changed {resources} resources, not {expected}"
        );
        Ok(seconds)
    }
}

/// Compares one endpoint change in a large mesh with one in a small mesh, and times a full build.
///
/// # Errors
/// The synthetic mesh is wrong.
pub fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (access, changing, key, goal) in [
        (Access::Permissive, Changing::SameCount, "core_cpu_10000_over_100_services", Goal::AtMost(1.2)),
        (Access::Policy, Changing::SameCount, "core_cpu_10000_over_100_services_by_policy", Goal::Record),
        (Access::Permissive, Changing::Others, "core_cpu_10000_over_100_services_uncached", Goal::Record),
    ] {
        progress(&format!("core: building {SMALL} and {LARGE} services ({access:?}, {changing:?})"));
        figures.push(compare(effort, access, changing, key, goal)?);
    }
    figures.push(full_build(effort)?);
    Ok(figures)
}

fn compare(effort: Effort, access: Access, changing: Changing, key: &str, goal: Goal) -> anyhow::Result<Figure> {
    let (mut small, mut large) = (Subject::new(SMALL, access)?, Subject::new(LARGE, access)?);
    let (mut ratios, mut each) = (Vec::new(), [Vec::new(), Vec::new()]);
    // The first round fills caches and is left out.
    for round in 0..=effort.rounds {
        let (few, many) = (small.change_seconds(changing)?, large.change_seconds(changing)?);
        if round > 0 {
            ratios.push(many / few);
            each[0].push(few * 1e6);
            each[1].push(many * 1e6);
        }
    }
    let [few, many] = each.map(|samples| Summary::of(samples).map_or(0.0, |summary| summary.median));
    let access = match access {
        Access::Permissive => "permissive",
        Access::Policy => "by policy",
    };
    let which = match changing {
        Changing::SameCount => format!("the same {SMALL} services change again and again, spread over the mesh"),
        Changing::Others => "each change is of a service that no cache of the processor holds".to_owned(),
    };
    let meaning = format!(
        "processor time to resolve and translate one endpoint change, {LARGE} services ({many:.1} µs) ÷ {SMALL} services \
         ({few:.1} µs), {access}; {which}"
    );
    Ok(Figure::new(key, goal, Summary::of(ratios).context("no rounds")?, meaning))
}

fn full_build(effort: Effort) -> anyhow::Result<Figure> {
    let mesh = Mesh { services: effort.services, access: Access::Permissive, pods: PODS };
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
