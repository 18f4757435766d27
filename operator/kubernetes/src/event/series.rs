//! Which events are written: new ones at once while an object has few, repeated ones counted, the last one always in the end. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use osm_api::ObjectRef;
use osm_api::k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{EventLimits, RecordedEvent};

/// How long an event goes on being counted after it was last seen. Afterwards it is a new one.
const SERIES_LASTS: Duration = Duration::from_secs(360);

/// Series of one object that are remembered.
const MOST_SERIES: usize = 8;

/// Objects that are remembered.
const MOST_OBJECTS: usize = 4_096;

/// The events of all objects.
#[derive(Debug, Default)]
pub(super) struct Series {
    limits: EventLimits,
    objects: BTreeMap<ObjectRef, OfObject>,
    names: u64,
}

#[derive(Debug)]
struct OfObject {
    allowance: Allowance,
    series: Vec<One>,
    /// The latest event that could not be written yet.
    pending: Option<(RecordedEvent, Timestamp)>,
    last_seen: Instant,
}

#[derive(Debug)]
struct One {
    event: RecordedEvent,
    name: String,
    count: u32,
    counted: u32,
    last: Timestamp,
    last_seen: Instant,
    last_written: Instant,
}

/// How many writes are left.
#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
}

/// A write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    /// An event is new.
    New { event: RecordedEvent, name: String, time: Timestamp },
    /// An event has been seen so many times, last at this time.
    Again { event: RecordedEvent, name: String, count: u32, last: Timestamp },
}

impl Write {
    pub(super) fn event(&self) -> &RecordedEvent {
        match self {
            Self::New { event, .. } | Self::Again { event, .. } => event,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::New { name, .. } | Self::Again { name, .. } => name,
        }
    }
}

impl Series {
    /// No events yet.
    pub(super) fn new(limits: EventLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// An event has happened. Gives what is to be written at once.
    pub(super) fn record(&mut self, event: RecordedEvent, now: Instant, time: Timestamp) -> Option<Write> {
        self.make_room(&event.object, now);
        let of_object = self.objects.entry(event.object.clone()).or_insert_with(|| OfObject::new(self.limits, now));
        of_object.last_seen = now;
        of_object.series.retain(|one| now.duration_since(one.last_seen) < SERIES_LASTS);
        if let Some(one) = of_object.series.iter_mut().find(|one| one.event == event) {
            (one.count, one.last, one.last_seen) = (one.count.saturating_add(1), time, now);
            // What was to be said meanwhile is no longer so.
            of_object.pending = None;
            return None;
        }
        if !of_object.allowance.take(self.limits, now) {
            of_object.pending = Some((event, time));
            return None;
        }
        self.names += 1;
        Some(of_object.new_series(event, now, time, self.names))
    }

    /// What is to be written by now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Write> {
        let mut writes = Vec::new();
        for of_object in self.objects.values_mut() {
            if of_object.pending.is_some()
                && of_object.allowance.take(self.limits, now)
                && let Some((event, time)) = of_object.pending.take()
            {
                self.names += 1;
                writes.push(of_object.new_series(event, now, time, self.names));
            }
            let OfObject { series, allowance, .. } = of_object;
            for one in series.iter_mut().filter(|one| one.count > one.counted) {
                if now >= one.last_written + self.limits.count_every && allowance.take(self.limits, now) {
                    (one.counted, one.last_written) = (one.count, now);
                    let (event, name) = (one.event.clone(), one.name.clone());
                    writes.push(Write::Again { event, name, count: one.count, last: one.last });
                }
            }
        }
        writes
    }

    /// When [`Series::due`] will have something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.objects.values().filter_map(|of_object| of_object.next_due(self.limits)).min()
    }

    /// A write failed. With `gone` the event that was to be counted is not there any more.
    pub(super) fn failed(&mut self, write: &Write, gone: bool) {
        let never_there = matches!(write, Write::New { .. });
        if (gone || never_there)
            && let Some(of_object) = self.objects.get_mut(&write.event().object)
        {
            of_object.series.retain(|one| one.name != write.name());
        }
    }

    /// Forgets objects about which nothing is to be said, and if there are still too many, the one seen least recently.
    fn make_room(&mut self, object: &ObjectRef, now: Instant) {
        if self.objects.len() < MOST_OBJECTS || self.objects.contains_key(object) {
            return;
        }
        self.objects.retain(|_, of_object| now.duration_since(of_object.last_seen) < SERIES_LASTS);
        if self.objects.len() >= MOST_OBJECTS {
            let oldest = self.objects.iter().min_by_key(|(_, of_object)| of_object.last_seen);
            if let Some(oldest) = oldest.map(|(object, _)| object.clone()) {
                self.objects.remove(&oldest);
            }
        }
    }
}

impl OfObject {
    fn new(limits: EventLimits, now: Instant) -> Self {
        let allowance = Allowance { left: limits.burst, since: now };
        Self { allowance, series: Vec::new(), pending: None, last_seen: now }
    }

    fn new_series(&mut self, event: RecordedEvent, now: Instant, time: Timestamp, number: u64) -> Write {
        self.pending = None;
        if self.series.len() >= MOST_SERIES {
            self.series.remove(0);
        }
        // Unique by the time in nanoseconds, and by the number within this process.
        let name = format!("{}.{:x}{number:04x}", event.object.name, time.as_nanosecond());
        self.series.push(One {
            event: event.clone(),
            name: name.clone(),
            count: 1,
            counted: 1,
            last: time,
            last_seen: now,
            last_written: now,
        });
        Write::New { event, name, time }
    }

    fn next_due(&self, limits: EventLimits) -> Option<Instant> {
        let counts =
            self.series.iter().filter(|one| one.count > one.counted).map(|one| one.last_written + limits.count_every);
        let counts = counts.min().map(|due| due.max(self.allowance.next(limits)));
        let pending = self.pending.as_ref().map(|_| self.allowance.next(limits));
        counts.into_iter().chain(pending).min()
    }
}

impl Allowance {
    fn take(&mut self, limits: EventLimits, now: Instant) -> bool {
        while self.left < limits.burst && now >= self.since + limits.refill {
            self.left += 1;
            self.since += limits.refill;
        }
        if self.left == limits.burst {
            self.since = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }

    /// When there is one at the latest.
    fn next(&self, limits: EventLimits) -> Instant {
        if self.left > 0 { self.since } else { self.since + limits.refill }
    }
}

#[cfg(test)]
mod tests {
    use osm_api::Kind;

    use super::super::EventType;
    use super::*;

    fn event(reason: &str, note: &str) -> RecordedEvent {
        let object = ObjectRef::new(Kind::TrafficTarget, "shop", "buyer");
        RecordedEvent { object, type_: EventType::Warning, reason: reason.into(), note: note.into() }
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_repeats_is_counted_in_one_event() {
        let mut series = Series::default();
        let now = Instant::now();
        let first = series.record(event("Bad", "is bad"), now, time(0)).unwrap();
        for second in 1..600_u32 {
            let now = now + Duration::from_millis(100) * second;
            assert_eq!(series.record(event("Bad", "is bad"), now, time(second.into())), None);
        }
        assert_eq!(series.next_due(), Some(now + EventLimits::default().count_every));
        assert_eq!(series.due(now + EventLimits::default().count_every - Duration::from_secs(1)), []);
        let again = series.due(now + EventLimits::default().count_every);
        let expected =
            Write::Again { event: event("Bad", "is bad"), name: first.name().into(), count: 600, last: time(599) };
        assert_eq!(again, [expected]);
        assert_eq!(series.next_due(), None);
    }

    #[test]
    fn an_object_that_says_something_else_each_time_is_limited_and_its_last_word_is_written() {
        let mut series = Series::default();
        let begun = Instant::now();
        let mut writes = Vec::new();
        for step in 0..6_000_u32 {
            let now = begun + Duration::from_millis(10) * step;
            while series.next_due().is_some_and(|due| due <= now) {
                writes.extend(series.due(now));
            }
            writes.extend(series.record(event("Bad", &format!("is bad {step}")), now, time(0)));
        }
        assert!((3..=5).contains(&writes.len()), "{} writes in a minute", writes.len());
        let due = series.next_due().unwrap();
        let last = series.due(due);
        assert_eq!(last.iter().map(|write| write.event().note.as_str()).collect::<Vec<_>>(), ["is bad 5999"]);
        assert_eq!(series.next_due(), None);
    }

    #[test]
    fn what_is_true_again_replaces_what_was_not_written_yet() {
        let mut series = Series::default();
        let now = Instant::now();
        for reason in ["Good", "Bad", "Worse"] {
            assert!(series.record(event(reason, ""), now, time(0)).is_some());
        }
        assert_eq!(series.record(event("Worst", ""), now, time(0)), None);
        assert_eq!(series.record(event("Good", ""), now, time(0)), None);
        let later = now + EventLimits::default().refill * 10;
        assert!(series.due(later).iter().all(|write| write.event().reason == "Good"));
    }

    #[test]
    fn an_event_that_is_not_there_any_more_is_made_anew() {
        let mut series = Series::default();
        let now = Instant::now();
        let first = series.record(event("Bad", ""), now, time(0)).unwrap();
        series.failed(&first, true);
        assert!(matches!(series.record(event("Bad", ""), now, time(1)), Some(Write::New { .. })));
        let later = now + SERIES_LASTS + Duration::from_secs(1);
        assert!(
            matches!(series.record(event("Bad", ""), later, time(2)), Some(Write::New { .. })),
            "it is another one"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut series = Series::default();
        let now = Instant::now();
        for number in 0..2 * MOST_OBJECTS {
            let object = ObjectRef::new(Kind::TrafficTarget, "shop", format!("t-{number}"));
            series.record(RecordedEvent { object, ..event("Bad", "") }, now, time(0));
        }
        assert!(series.objects.len() <= MOST_OBJECTS);
        let mut later = now;
        for number in 0..100 {
            later += EventLimits::default().refill;
            series.record(event("Bad", &number.to_string()), later, time(0));
        }
        assert!(series.objects.values().all(|of_object| of_object.series.len() <= MOST_SERIES));
    }
}
