//! What a client saw: counts, kinds of failure and latencies.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How an attempt failed without an answer, as the application sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The name does not resolve.
    Resolve,
    /// Nobody listens, or somebody refuses.
    ConnectionRefused,
    /// No route to the address.
    Unreachable,
    /// The connection was reset.
    ConnectionReset,
    /// The connection was closed before the answer was complete.
    Closed,
    /// No answer within the time limit.
    Timeout,
    /// An answer that is not the protocol's, or not what was sent.
    Protocol,
    /// Anything else; see the samples.
    Other,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailure {
    /// What kind.
    pub kind: FailureKind,
    /// The system's words, causes included.
    pub message: String,
}

impl AttemptFailure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Classifies by the innermost system error in the chain of causes.
    pub(crate) fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut kind = FailureKind::Other;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(found) = classify(error) {
                kind = found;
            }
            cause = cause_of(error);
            if let Some(cause) = cause {
                message.push_str(": ");
                message.push_str(&cause.to_string());
            }
        }
        Self { kind, message }
    }
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.kind, self.message)
    }
}

/// A system error that wraps another does not name it as its source, but hands it out.
fn cause_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn classify(error: &(dyn std::error::Error + 'static)) -> Option<FailureKind> {
    use std::io::ErrorKind;
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return match error.kind() {
            ErrorKind::ConnectionRefused => Some(FailureKind::ConnectionRefused),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Some(FailureKind::ConnectionReset),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some(FailureKind::Unreachable),
            ErrorKind::UnexpectedEof => Some(FailureKind::Closed),
            ErrorKind::TimedOut => Some(FailureKind::Timeout),
            ErrorKind::InvalidData => Some(FailureKind::Protocol),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        // An HTTP/2 connection that ends before its first request is sent cancels that request.
        if error.is_incomplete_message() || error.is_canceled() {
            return Some(FailureKind::Closed);
        }
        if error.is_parse() {
            return Some(FailureKind::Protocol);
        }
    }
    None
}

/// What one attempt brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status, or for gRPC the HTTP status that its code corresponds to (200 for success).
    pub(crate) status: u16,
    /// Who answered, by its own account.
    pub(crate) identity: Option<String>,
    /// The beginning of the body.
    pub(crate) body: String,
}

/// Latencies in milliseconds, of attempts that got an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half were faster.
    pub p50: f64,
    /// 90 % were faster.
    pub p90: f64,
    /// 99 % were faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    fn of(durations: &mut [Duration]) -> Self {
        durations.sort_unstable();
        let at = |fraction: f64| {
            let index = ((durations.len() as f64 * fraction).ceil() as usize).clamp(1, durations.len().max(1)) - 1;
            durations.get(index).map_or(0.0, |duration| duration.as_secs_f64() * 1000.0)
        };
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }
}

/// What a series of attempts brought.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How many were made and have ended.
    pub attempts: u64,
    /// Answers by status. gRPC codes appear as the HTTP status they correspond to, TCP and WebSocket successes as 200.
    pub statuses: BTreeMap<u16, u64>,
    /// Attempts without an answer, by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Successful answers (status below 400) by who gave them: the `Identity` header, or what an echo application calls itself.
    pub identities: BTreeMap<String, u64>,
    /// Latencies in milliseconds, of attempts that got an answer.
    pub latency_milliseconds: Latency,
    /// The first few distinct failure messages.
    pub samples: Vec<String>,
    /// The body of the last successful answer, its first 4096 bytes.
    pub last_body: String,
}

impl Report {
    /// Answers with a status below 400.
    pub fn successes(&self) -> u64 {
        self.statuses.iter().filter(|(status, _)| **status < 400).map(|(_, count)| count).sum()
    }

    /// Everything that is not a success: refused by status, or without an answer.
    pub fn unsuccessful(&self) -> u64 {
        self.attempts - self.successes()
    }
}

const SAMPLES: usize = 8;

/// Collects a [`Report`].
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    report: Report,
    durations: Vec<Duration>,
}

impl Recorder {
    pub(crate) fn record(&mut self, outcome: &Result<Answer, AttemptFailure>, duration: Duration) {
        self.report.attempts += 1;
        match outcome {
            Ok(answer) => {
                self.durations.push(duration);
                *self.report.statuses.entry(answer.status).or_default() += 1;
                if answer.status < 400 {
                    let identity = answer.identity.clone().unwrap_or_else(|| "unknown".to_owned());
                    *self.report.identities.entry(identity).or_default() += 1;
                    self.report.last_body.clone_from(&answer.body);
                } else {
                    self.sample(format!("status {}: {}", answer.status, answer.body.trim_end()));
                }
            }
            Err(failure) => {
                *self.report.failures.entry(failure.kind).or_default() += 1;
                self.sample(failure.to_string());
            }
        }
    }

    pub(crate) fn report(&self) -> Report {
        let mut report = self.report.clone();
        report.latency_milliseconds = Latency::of(&mut self.durations.clone());
        report
    }

    fn sample(&mut self, message: String) {
        if self.report.samples.len() < SAMPLES && !self.report.samples.contains(&message) {
            self.report.samples.push(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut durations: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(&mut durations);
        assert_eq!((latency.p50, latency.p90, latency.p99, latency.max), (50.0, 90.0, 99.0, 100.0));
        assert_eq!(Latency::of(&mut []), Latency::default());
    }

    #[test]
    fn failures_are_classified_by_their_innermost_cause() {
        let inner = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let outer = std::io::Error::other(inner);
        assert_eq!(AttemptFailure::from_error(&outer).kind, FailureKind::ConnectionRefused);
    }

    #[test]
    fn refusals_count_as_unsuccessful() {
        let mut recorder = Recorder::default();
        let answer = |status| Ok(Answer { status, identity: Some("v1".into()), body: String::new() });
        recorder.record(&answer(200), Duration::from_millis(1));
        recorder.record(&answer(403), Duration::from_millis(1));
        recorder.record(&Err(AttemptFailure::new(FailureKind::Timeout, "late")), Duration::from_secs(1));
        let report = recorder.report();
        assert_eq!((report.attempts, report.successes(), report.unsuccessful()), (3, 1, 2));
        assert_eq!(report.identities, BTreeMap::from([("v1".to_owned(), 1)]));
        assert_eq!(report.samples.len(), 2);
    }
}
