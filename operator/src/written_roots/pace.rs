//! How often the same is put back, where somebody else insists on something else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What was put where, and when. Whoever changes it finds it put back at once, and whoever changes it again and again finds it
/// put back from time to time: two who do not agree make no loop.
#[derive(Debug)]
pub(crate) struct Pace<Value> {
    every: Duration,
    places: BTreeMap<String, (Value, Option<Instant>)>,
}

impl<Value: PartialEq> Pace<Value> {
    /// The same is put into a place so often at the most.
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, places: BTreeMap::new() }
    }

    /// How long to wait before a value is put into a place again.
    pub(crate) fn wait(&self, place: &str, value: &Value, now: Instant) -> Option<Duration> {
        let (last, at) = self.places.get(place)?;
        let passed = now.saturating_duration_since((*at)?);
        (last == value && passed < self.every).then(|| self.every - passed)
    }

    /// Whether the value was there before, so that somebody must have changed it.
    pub(crate) fn was_there(&self, place: &str, value: &Value) -> bool {
        self.places.get(place).is_some_and(|(last, _)| last == value)
    }

    /// The value is found in its place.
    pub(crate) fn found(&mut self, place: &str, value: Value) {
        match self.places.get_mut(place) {
            Some((last, _)) if *last == value => {}
            _ => drop(self.places.insert(place.to_owned(), (value, None))),
        }
    }

    /// The value is put into its place.
    pub(crate) fn written(&mut self, place: &str, value: Value, now: Instant) {
        self.places.insert(place.to_owned(), (value, Some(now)));
    }

    /// Forgets all other places.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.places.retain(|place, _| is_there(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_put_back_at_once_and_then_from_time_to_time() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::new(10 * second);
        assert_eq!((pace.wait("a", &1, now), pace.was_there("a", &1)), (None, false));
        pace.found("a", 1);
        // Somebody changes it.
        assert_eq!((pace.wait("a", &1, now), pace.was_there("a", &1)), (None, true));
        pace.written("a", 1, now);
        assert_eq!(pace.wait("a", &1, now + 3 * second), Some(7 * second));
        pace.found("a", 1);
        assert_eq!(pace.wait("a", &1, now + 3 * second), Some(7 * second), "that it was there is no new beginning");
        assert_eq!(pace.wait("a", &1, now + 10 * second), None);
        // Something else, and somewhere else, wait for nothing.
        assert_eq!((pace.wait("a", &2, now), pace.was_there("a", &2), pace.wait("b", &1, now)), (None, false, None));
        pace.retain(|place| place != "a");
        assert!(!pace.was_there("a", &1));
    }
}
