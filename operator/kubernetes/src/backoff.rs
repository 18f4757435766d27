//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double from one failure to the next, shortened at random so that many who failed together do not return together.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from `first` up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next wait. `portion` is random, from 0 to 1; a wait is shortened by up to half.
    pub(crate) fn next(&mut self, portion: f64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait.mul_f64(1.0 - portion.clamp(0.0, 1.0) / 2.0)
    }

    /// Begins anew, after something has succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A random portion, from 0 to 1.
pub(crate) fn portion() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        let waits: Vec<u128> = (0..5).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.next(1.0).as_millis(), 500);
        backoff.reset();
        assert_eq!(backoff.next(0.5).as_millis(), 150);
    }
}
