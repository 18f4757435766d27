//! The story in network namespaces, from a folder of manifests.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use osm_testkit::apps::{Report, TryRequest};
use osm_testkit::{EnvoyBinary, WorkloadSpec};

use super::evidence::evidence;
use super::record::StageRecord;
use super::scene::Scene;
use super::story::{OUTSIDER, story};
use crate::files::Applied;
use crate::world::World;

/// The applications of the first stage, each in a network namespace of its own, and the outsider.
///
/// # Errors
/// Something does not start.
pub async fn namespaces(samples: &Path, envoy: EnvoyBinary) -> Result<World> {
    let stages = story();
    let base = stages.first().context("a story has a beginning")?;
    let mut world = World::without_mesh(&samples.join(base.folder), envoy).await?;
    world.add_outsider(&WorkloadSpec::new(OUTSIDER, ["client", "--name", OUTSIDER])).await?;
    Ok(world)
}

impl Scene for World {
    type Applied = Applied;

    async fn join_mesh(&mut self) -> Result<()> {
        self.start_operator().await?;
        Self::join_mesh(self).await
    }

    async fn apply(&mut self, stage: &Path) -> Result<Applied> {
        Self::apply(self, stage).await
    }

    fn applied_at(applied: &Applied) -> Instant {
        applied.at
    }

    async fn is_programmed(&self, applied: &Applied) -> bool {
        applied.is_programmed(&self.status_folder()).is_ok()
    }

    async fn request(&self, from: &str, request: &TryRequest) -> Result<Report> {
        Self::request(self, from, request).await
    }

    async fn evidence(&mut self, stage: &StageRecord, applied: Option<&Applied>) -> String {
        evidence(self, stage, applied).await
    }
}
