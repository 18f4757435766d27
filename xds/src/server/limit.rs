//! How many new streams are let in.

use std::time::Instant;

/// A bucket that fills at a steady rate and holds one second's worth.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: f64,
    tokens: f64,
    filled: Option<Instant>,
}

impl RateLimit {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), tokens: f64::from(per_second), filled: None }
    }

    /// Takes a place; `false` when there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if let Some(filled) = self.filled {
            let elapsed = now.saturating_duration_since(filled).as_secs_f64();
            self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second);
        }
        self.filled = Some(now);
        let there_is_one = self.tokens >= 1.0;
        if there_is_one {
            self.tokens -= 1.0;
        }
        there_is_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_second_s_worth_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(2);
        let taken = |limit: &mut RateLimit, after: u64| limit.take(start + Duration::from_millis(after));
        assert!(taken(&mut limit, 0) && taken(&mut limit, 0) && !taken(&mut limit, 0));
        assert!(taken(&mut limit, 500) && !taken(&mut limit, 500));
        assert!(taken(&mut limit, 10_000) && taken(&mut limit, 10_000) && !taken(&mut limit, 10_000));
    }
}
