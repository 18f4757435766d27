//! What is said at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::run::Outcome;
use crate::tier::Tier;

/// What came of all runs.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    tiers: BTreeMap<Tier, Sums>,
    /// What went wrong, a line each.
    wrong: Vec<String>,
}

#[derive(Debug, Default)]
struct Sums {
    programs: u32,
    passed: u32,
    failed: u32,
    took: Duration,
}

impl Summary {
    /// Adds a run.
    pub(crate) fn add(&mut self, tier: Tier, outcome: &Outcome) {
        let sums = self.tiers.entry(tier).or_default();
        sums.programs += 1;
        sums.passed += outcome.passed;
        // A program that died has failed even if it could not say so.
        sums.failed += outcome.failed.max(u32::from(!outcome.success));
        sums.took += outcome.took;
        if !outcome.success {
            self.wrong
                .push(format!("{} failed: {} of its tests did, or it ended early", outcome.label, outcome.failed));
        }
    }

    /// A tier that ran nothing has failed.
    pub(crate) fn require(&mut self, tier: Tier) {
        let sums = self.tiers.entry(tier).or_default();
        if sums.passed + sums.failed == 0 {
            sums.failed = 1;
            self.wrong.push(format!("tier {} ran no test", tier.name()));
        }
    }

    /// Whether everything passed.
    pub(crate) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:12} {:>8} {:>7} {:>7} {:>8}", "tier", "programs", "passed", "failed", "seconds")?;
        for (tier, sums) in &self.tiers {
            let Sums { programs, passed, failed, took } = sums;
            writeln!(f, "{:12} {programs:>8} {passed:>7} {failed:>7} {:>8.1}", tier.name(), took.as_secs_f64())?;
        }
        for line in &self.wrong {
            writeln!(f, "wrong: {line}")?;
        }
        let (passed, failed) = self.tiers.values().fold((0, 0), |sum, it| (sum.0 + it.passed, sum.1 + it.failed));
        write!(f, "{passed} passed, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u32, failed: u32, success: bool) -> Outcome {
        Outcome { label: "a b".to_owned(), passed, failed, success, took: Duration::from_millis(1500) }
    }

    #[test]
    fn each_tier_has_a_line_and_the_end_adds_up() {
        let mut summary = Summary::default();
        summary.add(Tier::Stream, &outcome(3, 0, true));
        summary.add(Tier::Pure, &outcome(2, 0, true));
        summary.add(Tier::Pure, &outcome(5, 0, true));
        summary.require(Tier::Pure);
        assert!(summary.is_good());
        let text = summary.to_string();
        assert!(
            text.contains(
                "pure                2       7       0      3.0\nstream              1       3       0      1.5"
            ),
            "{text}"
        );
        assert!(text.ends_with("\n10 passed, 0 failed"), "{text}");
    }

    #[test]
    fn failures_deaths_and_empty_tiers_are_wrong() {
        let mut summary = Summary::default();
        summary.add(Tier::Pure, &outcome(2, 1, false));
        summary.add(Tier::Pure, &outcome(0, 0, false));
        summary.require(Tier::Cluster);
        assert!(!summary.is_good());
        let text = summary.to_string();
        assert!(text.contains("tier cluster ran no test"), "{text}");
        assert!(text.ends_with("\n2 passed, 3 failed"), "{text}");
    }
}
