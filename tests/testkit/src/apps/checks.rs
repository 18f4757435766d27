//! How healthy an application says it is: what its control socket was told, check by check.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::control_client::ControlClient;
use super::counters::Counters;

/// How a check is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    #[default]
    Passing,
    /// Something is wrong, and the answer says so.
    Failing,
    /// There is no answer until this changes.
    Hanging,
}

/// The state of all checks. A check that nobody spoke of passes. Clones share the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    states: Arc<watch::Sender<BTreeMap<String, Health>>>,
    counters: Counters,
}

impl Checks {
    /// All pass. Each time that one is asked, `counters` counts it by its name.
    pub(crate) fn new(counters: Counters) -> Self {
        Self { states: Arc::default(), counters }
    }

    /// From now on the check is answered so.
    pub(crate) fn set(&self, check: &str, health: Health) {
        self.states.send_modify(|states| {
            states.insert(check.to_owned(), health);
        });
    }

    /// Whether the check passes, as soon as it is not hanging.
    pub(crate) async fn ask(&self, check: &str) -> bool {
        self.counters.add(check);
        let answered = self.wait_for(check, |health| health != Health::Hanging).await;
        answered == Health::Passing
    }

    /// Waits for a state of a check.
    pub(crate) async fn wait_for(&self, check: &str, wanted: impl Fn(Health) -> bool) -> Health {
        let of = |states: &BTreeMap<String, Health>| states.get(check).copied().unwrap_or_default();
        let mut states = self.states.subscribe();
        let found = states.wait_for(|states| wanted(of(states))).await.map(|states| of(&states));
        found.expect("the sender lives as long as self")
    }
}

/// Asks the application at a control socket how a check of it is, as a probe that runs a command does.
///
/// # Errors
/// It does not answer, or the check fails.
pub(crate) async fn command(socket: &Path, check: &str) -> Result<()> {
    ensure!(ControlClient::new(socket).asks(check).await?, "{check} fails");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_is_as_it_was_told_and_hangs_until_it_is_told_otherwise() {
        let counters = Counters::default();
        let checks = Checks::new(counters.clone());
        assert!(checks.ask("readiness").await);
        checks.set("readiness", Health::Failing);
        assert!(!checks.ask("readiness").await);
        assert!(checks.ask("liveness").await, "checks know nothing of each other");
        checks.set("readiness", Health::Hanging);
        let mut hanging = std::pin::pin!(checks.ask("readiness"));
        assert!(futures::poll!(&mut hanging).is_pending());
        checks.set("readiness", Health::Passing);
        assert!(hanging.await);
        assert_eq!(counters.get("readiness"), 3);
    }
}
