//! Who asks whom for what, what should come of it, and what did.

use std::collections::BTreeMap;
use std::fmt;

use osm_testkit::apps::{FailureKind, Report, Target};

/// How far an observed share may be from the expected one, in standard deviations. By chance alone it is further away once in
/// 1.7 million runs.
const SIGMAS: f64 = 5.0;

/// One client's way to one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The client's pod.
    pub from: &'static str,
    /// The service.
    pub to: &'static str,
    /// What is asked for.
    pub path: &'static str,
}

impl Flow {
    /// What the client's application dials.
    pub fn target(&self) -> Target {
        match self.to {
            // As the bookstore asks for a book: dialled by the Service's full name, with another Host header.
            "bookwarehouse" => Target::Http {
                method: "POST".to_owned(),
                url: format!("http://bookwarehouse.bookwarehouse.svc.cluster.local:14001{}", self.path),
                headers: BTreeMap::from([("host".to_owned(), "bookwarehouse.bookwarehouse".to_owned())]),
                body: "1".to_owned(),
                http2: false,
            },
            // A TCP server that speaks first.
            "ledger" => Target::Tcp {
                address: "ledger.bookwarehouse.svc.cluster.local:3306".to_owned(),
                greeting: true,
                send: "get total-books".to_owned(),
            },
            _ => Target::get(format!("http://{0}.{0}:14001{1}", self.to, self.path)),
        }
    }
}

/// What should come of a flow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expectation {
    /// Every attempt succeeds.
    Reached,
    /// Every attempt is turned away: by a status that says so, or by the connection. A time-out or a failing proxy is no refusal.
    Refused,
    /// Every attempt succeeds, and this share of them is answered by v1, the rest by v2.
    FromV1(f64),
}

impl Expectation {
    /// How many attempts show whether it holds.
    pub(super) fn attempts(self) -> u32 {
        match self {
            Self::Reached | Self::Refused => 20,
            Self::FromV1(_) => 400,
        }
    }

    /// How many attempts give a first idea, cheap enough to be made over and over.
    pub(super) fn attempts_at_first(self) -> u32 {
        match self {
            Self::Reached | Self::Refused => 1,
            Self::FromV1(_) => 20,
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reached => formatter.write_str("reached"),
            Self::Refused => formatter.write_str("refused"),
            Self::FromV1(share) if *share == 0.0 => formatter.write_str("v2 only"),
            Self::FromV1(share) => write!(formatter, "v1 {:.0} %, v2 {:.0} %", share * 100.0, (1.0 - share) * 100.0),
        }
    }
}

/// Whether an expectation held, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// It held.
    pub ok: bool,
    /// What was seen, in words.
    pub observed: String,
}

/// Compares what a client saw with what it should have seen.
pub fn judge(expected: Expectation, report: &Report) -> Judgement {
    let all_succeeded = report.attempts > 0 && report.unsuccessful() == 0;
    let ok = match expected {
        Expectation::Reached => all_succeeded,
        Expectation::Refused => report.attempts > 0 && refusals(report) == report.attempts,
        Expectation::FromV1(share) => all_succeeded && share_holds(share, report),
    };
    Judgement { ok, observed: observed(report) }
}

fn refusals(report: &Report) -> u64 {
    let by_status = report.statuses.iter().filter(|(status, _)| matches!(**status, 403 | 404));
    let by_connection = report.failures.iter().filter(|(kind, _)| {
        matches!(kind, FailureKind::ConnectionRefused | FailureKind::ConnectionReset | FailureKind::Closed)
    });
    by_status.map(|(_, count)| count).chain(by_connection.map(|(_, count)| count)).sum()
}

fn share_holds(share: f64, report: &Report) -> bool {
    let count = |identity: &str| report.identities.get(identity).copied().unwrap_or_default();
    let (v1, v2) = (count("v1"), count("v2"));
    if v1 + v2 != report.attempts {
        return false;
    }
    let attempts = report.attempts as f64;
    let deviation = (attempts * share * (1.0 - share)).sqrt();
    let both = share == 0.0 || share == 1.0 || (v1 > 0 && v2 > 0);
    both && (v1 as f64 - attempts * share).abs() <= SIGMAS * deviation
}

fn observed(report: &Report) -> String {
    let mut parts = Vec::new();
    if report.successes() > 0 {
        let by: Vec<String> = report.identities.iter().map(|(identity, count)| format!("{identity} {count}")).collect();
        parts.push(format!("reached {} ({})", report.successes(), by.join(", ")));
    }
    for (status, count) in report.statuses.iter().filter(|(status, _)| **status >= 400) {
        parts.push(format!("status {status} {count}"));
    }
    for (kind, count) in &report.failures {
        parts.push(format!("{} {count}", words(*kind)));
    }
    parts.join(", ")
}

fn words(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Resolve => "name unknown",
        FailureKind::ConnectionRefused => "connection refused",
        FailureKind::Unreachable => "unreachable",
        FailureKind::ConnectionReset => "connection reset",
        FailureKind::Closed => "connection closed",
        FailureKind::Timeout => "timed out",
        FailureKind::Protocol => "protocol error",
        FailureKind::Other => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(statuses: &[(u16, u64)], failures: &[(FailureKind, u64)], identities: &[(&str, u64)]) -> Report {
        let sum = |counts: Vec<u64>| counts.into_iter().sum::<u64>();
        Report {
            attempts: sum(statuses.iter().map(|(_, count)| *count).collect())
                + sum(failures.iter().map(|(_, count)| *count).collect()),
            statuses: statuses.iter().copied().collect(),
            failures: failures.iter().copied().collect(),
            identities: identities.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn only_a_refusal_counts_as_refused() {
        let refused = |report: &Report| judge(Expectation::Refused, report).ok;
        assert!(refused(&answers(&[(403, 3), (404, 1)], &[(FailureKind::ConnectionRefused, 2)], &[])));
        assert!(!refused(&answers(&[(403, 3), (200, 1)], &[], &[("v1", 1)])), "one got through");
        assert!(!refused(&answers(&[(503, 4)], &[], &[])), "a proxy without a way is no refusal");
        assert!(!refused(&answers(&[], &[(FailureKind::Timeout, 4)], &[])), "a hang is no refusal");
        assert!(!refused(&Report::default()), "nothing was tried");
    }

    #[test]
    fn one_failure_is_not_reached() {
        assert!(judge(Expectation::Reached, &answers(&[(200, 20)], &[], &[("v1", 20)])).ok);
        let judgement = judge(Expectation::Reached, &answers(&[(200, 19), (503, 1)], &[], &[("v1", 19)]));
        assert!(!judgement.ok);
        assert_eq!(judgement.observed, "reached 19 (v1 19), status 503 1");
    }

    #[test]
    fn shares_are_bounded_by_chance() {
        let half = |v1: u64| {
            let report = answers(&[(200, 400)], &[], &[("v1", v1), ("v2", 400 - v1)]);
            judge(Expectation::FromV1(0.5), &report).ok
        };
        assert!(half(200) && half(150) && half(250));
        assert!(!half(149) && !half(251) && !half(400));
        let none =
            |v1: u64| judge(Expectation::FromV1(0.0), &answers(&[(200, 400)], &[], &[("v1", v1), ("v2", 400 - v1)])).ok;
        assert!(none(0) && !none(1));
        let stranger = answers(&[(200, 400)], &[], &[("v1", 200), ("other", 200)]);
        assert!(!judge(Expectation::FromV1(0.5), &stranger).ok);
    }
}
