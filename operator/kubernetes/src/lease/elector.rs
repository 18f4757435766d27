//! What to do next in an election. Pure: time is an argument, requests are steps that the caller makes.

use std::time::Duration;

use tokio::time::Instant;

use super::record::Record;
use super::{Leadership, LeaseTiming};

/// How much a wait is shortened at random at the most, so that replicas do not act in step.
const JITTER: f64 = 0.1;

/// One replica's view of the election.
#[derive(Debug)]
pub(super) struct Elector {
    holder: String,
    timing: LeaseTiming,
    view: View,
    /// Set while we hold the Lease: when our last successful write began.
    renewed: Option<Instant>,
    transitions: i64,
    /// Before this, nothing is tried again.
    not_before: Option<Instant>,
}

/// What is known of the Lease.
#[derive(Debug)]
enum View {
    Unknown,
    Absent,
    /// Seen in this state, in this version, for the first time at `since`.
    Seen {
        record: Record,
        version: String,
        since: Instant,
    },
    /// As it was last seen, but it may be another by now.
    OutOfSight {
        record: Record,
        version: String,
        since: Instant,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the Lease.
    Read,
    /// Write ourselves into the Lease, if it is as expected.
    Write(Precondition),
    /// Nothing before this time.
    Hold(Instant),
    /// See whether the Lease changes from this version on, until this time.
    Watch { version: String, until: Instant },
}

/// How the Lease must be for a write to succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// There is none.
    Absent,
    /// It has this version.
    Version(String),
}

impl Elector {
    pub(super) fn new(holder: String, timing: LeaseTiming) -> Self {
        Self { holder, timing, view: View::Unknown, renewed: None, transitions: 0, not_before: None }
    }

    /// What to do next. `portion` is random, from 0 to 1.
    pub(super) fn step(&mut self, now: Instant, portion: f64) -> Step {
        if let Some(not_before) = self.not_before.filter(|not_before| *not_before > now) {
            return Step::Hold(self.leads_until().map_or(not_before, |until| not_before.min(until.max(now))));
        }
        if self.leads_until().is_some_and(|until| until <= now) {
            self.renewed = None;
        }
        let (record, version, since) = match &self.view {
            View::Unknown | View::OutOfSight { .. } => return Step::Read,
            View::Absent => return Step::Write(Precondition::Absent),
            View::Seen { record, version, since } => (record, version, *since),
        };
        match &record.holder {
            None => Step::Write(Precondition::Version(version.clone())),
            Some(holder) if *holder == self.holder => match self.renewed {
                Some(renewed) => {
                    let due = renewed + self.timing.renew_every.mul_f64(1.0 - JITTER * portion);
                    if due > now { Step::Hold(due) } else { Step::Write(Precondition::Version(version.clone())) }
                }
                // Ours, from a write whose answer we did not get.
                None => Step::Write(Precondition::Version(version.clone())),
            },
            Some(_) => {
                let expires = since + record.duration.unwrap_or(self.timing.duration);
                if expires > now {
                    Step::Watch { version: version.clone(), until: expires }
                } else {
                    Step::Write(Precondition::Version(version.clone()))
                }
            }
        }
    }

    /// The Lease was read: what stands in it, `None` if there is none. `now` is after the answer came.
    pub(super) fn read(&mut self, answer: Result<Option<(Record, String)>, ()>, now: Instant) {
        let Ok(answer) = answer else { return self.not_before = Some(now + self.timing.retry_after) };
        self.not_before = None;
        let Some((record, version)) = answer else {
            self.renewed = None;
            return self.view = View::Absent;
        };
        if record.holder.as_ref() != Some(&self.holder) {
            self.renewed = None;
        }
        self.transitions = record.transitions;
        let since = match &self.view {
            View::Seen { version: known, since, .. } | View::OutOfSight { version: known, since, .. }
                if *known == version =>
            {
                *since
            }
            View::Unknown | View::Absent | View::Seen { .. } | View::OutOfSight { .. } => now,
        };
        self.view = View::Seen { record, version, since };
    }

    /// A write succeeded that began at `started`; the Lease has this version now.
    pub(super) fn written(&mut self, record: Record, version: String, started: Instant, now: Instant) {
        self.renewed = Some(started);
        self.transitions = record.transitions;
        self.not_before = None;
        self.view = View::Seen { record, version, since: now };
    }

    /// A write failed, or nobody knows whether it did.
    pub(super) fn not_written(&mut self, now: Instant) {
        self.lost_sight(now);
        let wait = if self.renewed.is_some() { self.timing.retry_after / 2 } else { self.timing.retry_after };
        self.not_before = Some(now + wait);
    }

    /// The Lease may be another than the one that was seen.
    pub(super) fn lost_sight(&mut self, now: Instant) {
        self.view = match std::mem::replace(&mut self.view, View::Unknown) {
            View::Seen { record, version, since } | View::OutOfSight { record, version, since } => {
                View::OutOfSight { record, version, since }
            }
            View::Unknown | View::Absent => View::Unknown,
        };
        // A watch that ends at once must not become a loop without pause.
        self.not_before = Some(now + Duration::from_millis(200).min(self.timing.retry_after));
    }

    /// Until when we lead unless we renew; `None` when we do not.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.timing.renew_within)
    }

    /// Whether we lead.
    pub(super) fn leadership(&self, now: Instant) -> Leadership {
        match self.leads_until() {
            Some(until) if until > now => Leadership::Leader,
            Some(_) | None => Leadership::Follower,
        }
    }

    /// Who holds the Lease, as far as is known.
    pub(super) fn holder(&self) -> Option<&str> {
        match &self.view {
            View::Seen { record, .. } | View::OutOfSight { record, .. } => record.holder.as_deref(),
            View::Unknown | View::Absent => None,
        }
    }

    /// How often the holder changed so far.
    pub(super) fn transitions(&self) -> i64 {
        self.transitions
    }

    /// Stops leading. Gives the version of the Lease to give back, if it is ours.
    pub(super) fn resign(&mut self) -> Option<String> {
        self.renewed.take()?;
        match &self.view {
            View::Seen { record, version, .. } | View::OutOfSight { record, version, .. }
                if record.holder.as_ref() == Some(&self.holder) =>
            {
                Some(version.clone())
            }
            View::Unknown | View::Absent | View::Seen { .. } | View::OutOfSight { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
