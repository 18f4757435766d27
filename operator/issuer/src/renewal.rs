//! When to renew and when to try again. Pure: time and chance are arguments.

use std::time::Duration;

use time::OffsetDateTime;

use crate::error::Advice;

/// A leaf is renewed at the latest when this much of its life remains, unless its life is very short (OSM's rule).
const MIN_LEAD: Duration = Duration::from_secs(5 * 60);
/// First wait after a failure that says to wait for the operator; many remedies are invisible from here.
const OPERATOR_WAIT: Duration = Duration::from_secs(60);
/// Longest wait between attempts.
const MAX_WAIT: Duration = Duration::from_secs(10 * 60);
/// Shortest wait between attempts, whatever a provider advises.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// A fraction between 0 and 1, in steps of 2⁻³², by which events that began together are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JitterFraction(u32);

impl JitterFraction {
    /// No jitter.
    pub const ZERO: Self = Self(0);
    /// The most there is.
    pub const MAX: Self = Self(u32::MAX);

    /// The fraction `bits` / 2³²; uniform when `bits` are random.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// That fraction of `span`.
    fn of(self, span: Duration) -> Duration {
        let nanos = (span.as_nanos() * u128::from(self.0)) >> 32;
        u64::try_from(nanos).map_or(span, Duration::from_nanos)
    }
}

/// When a leaf that was issued at `issued` and ends at `not_after` is due for renewal.
///
/// A third of its life before it ends (but at least 5 minutes, and at most half of its life), and earlier than that by up
/// to a sixth of its life, in proportion to `jitter`. So there is always at least a third of its life left to renew it,
/// and leaves issued together are not renewed together. A leaf without any life is due at once.
pub fn renew_at(issued: OffsetDateTime, not_after: OffsetDateTime, jitter: JitterFraction) -> OffsetDateTime {
    let Ok(life) = Duration::try_from(not_after - issued) else {
        return issued;
    };
    let lead = (life / 3).max(MIN_LEAD).min(life / 2);
    not_after - lead - jitter.of(life / 6)
}

/// When to try again after the `failures`-th failure in a row (from 1), which happened at `now`; `None` for never.
///
/// The wait is what the error advises, doubled by each failure up to ten minutes (or what the error advises, if that is
/// longer), and lengthened by up to a quarter in proportion to `jitter`, so that many who failed together do not come back
/// together.
pub fn retry_at(now: OffsetDateTime, advice: Advice, failures: u32, jitter: JitterFraction) -> Option<OffsetDateTime> {
    let first = match advice {
        Advice::RetryAfter(wait) => wait.max(MIN_WAIT),
        Advice::WaitForOperator => OPERATOR_WAIT,
        Advice::GiveUp => return None,
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let wait = doubled.min(MAX_WAIT.max(first));
    let wait = wait.saturating_add(jitter.of(wait / 4));
    now.checked_add(time::Duration::try_from(wait).ok()?)
}
