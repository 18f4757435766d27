//! How many new streams are let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How many streams may be open at a time.
#[derive(Debug, Default)]
pub(super) struct StreamLimit {
    /// 0 is no limit.
    most: AtomicU64,
    open: AtomicU64,
    refused: AtomicU64,
}

/// A place among the open streams; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<StreamLimit>,
}

impl StreamLimit {
    pub(super) fn set(&self, most: Option<u64>) {
        self.most.store(most.unwrap_or(0), Ordering::Relaxed);
    }

    /// How many streams were refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes a place; the error is how many there are when all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Result<Place, u64> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        // Gives it back when there was none.
        let place = Place { of: Arc::clone(self) };
        match self.most.load(Ordering::Relaxed) {
            0 => Ok(place),
            most if before < most => Ok(place),
            most => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(most)
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.open.fetch_sub(1, Ordering::Relaxed);
    }
}

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
