//! Where the story is told: what a stage needs of its surroundings.

use std::future::Future;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use osm_testkit::apps::{Report, TryRequest};

use super::record::StageRecord;

/// Applications without a mesh at first, which can be brought into one.
pub trait Scene {
    /// What is known of a change of the manifests.
    type Applied;

    /// Starts the control plane, and an Envoy beside every application.
    ///
    /// # Errors
    /// Something does not become ready.
    fn join_mesh(&mut self) -> impl Future<Output = Result<()>>;

    /// Changes the manifests as a user would: those of `stage` come or replace what is there, and what its list `REMOVE` names
    /// goes.
    ///
    /// # Errors
    /// A manifest cannot be read or is refused.
    fn apply(&mut self, stage: &Path) -> impl Future<Output = Result<Self::Applied>>;

    /// When the change was made.
    fn applied_at(applied: &Self::Applied) -> Instant;

    /// Whether the status of every object that was touched says that all proxies run it.
    fn is_programmed(&self, applied: &Self::Applied) -> impl Future<Output = bool>;

    /// Lets an application make attempts, and tells what it saw.
    ///
    /// # Errors
    /// There is no such application, or it does not answer. That attempts fail is in the report.
    fn request(&self, from: &str, request: &TryRequest) -> impl Future<Output = Result<Report>>;

    /// What control plane and proxies say when a stage was not observed, for people.
    fn evidence(&mut self, stage: &StageRecord, applied: Option<&Self::Applied>) -> impl Future<Output = String>;
}
