use std::collections::BTreeMap;
use std::time::Duration;

use osm_api::k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::record::Record;
use super::super::{Leadership, LeaseOptions, LeaseTiming};
use super::*;

fn options(holder: &str) -> LeaseOptions {
    LeaseOptions {
        namespace: "osm-system".into(),
        name: "osm-controller".into(),
        holder: holder.into(),
        labels: BTreeMap::new(),
        timing: LeaseTiming::default(),
    }
}

fn held_by(holder: &str) -> Record {
    Record::held(&options(holder), Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, 0)
}

fn elector(holder: &str) -> Elector {
    Elector::new(holder.into(), LeaseTiming::default())
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_lease_that_is_not_there_is_made_and_renewed_in_time() {
    let mut elector = elector("a");
    let now = Instant::now();
    assert_eq!(elector.step(now, 0.0), Step::Read);
    elector.read(Ok(None), now);
    assert_eq!(elector.step(now, 0.0), Step::Write(Precondition::Absent));
    assert_eq!(elector.leadership(now), Leadership::Follower);
    elector.written(held_by("a"), "1".into(), now, now + SECOND);
    assert_eq!(elector.leadership(now + SECOND), Leadership::Leader);
    assert_eq!(elector.step(now + SECOND, 0.0), Step::Hold(now + 10 * SECOND));
    assert_eq!(elector.step(now + SECOND, 1.0), Step::Hold(now + 9 * SECOND), "a little earlier at random");
    assert_eq!(elector.step(now + 10 * SECOND, 0.0), Step::Write(Precondition::Version("1".into())));
    assert_eq!(elector.leadership(now + 19 * SECOND), Leadership::Leader);
    assert_eq!(elector.leadership(now + 20 * SECOND), Leadership::Follower, "counted from before the request");
}

#[test]
fn another_s_lease_is_taken_over_only_after_it_has_not_changed_for_its_duration() {
    let mut elector = elector("b");
    let now = Instant::now();
    elector.read(Ok(Some((held_by("a"), "1".into()))), now);
    assert_eq!(elector.step(now, 0.0), Step::Watch { version: "1".into(), until: now + 30 * SECOND });
    elector.read(Ok(Some((held_by("a"), "2".into()))), now + 29 * SECOND);
    assert_eq!(
        elector.step(now + 31 * SECOND, 0.0),
        Step::Watch { version: "2".into(), until: now + 59 * SECOND },
        "it was renewed"
    );
    // To look again and find the same is no sign of life.
    elector.lost_sight(now + 40 * SECOND);
    assert_eq!(elector.step(now + 41 * SECOND, 0.0), Step::Read);
    elector.read(Ok(Some((held_by("a"), "2".into()))), now + 41 * SECOND);
    assert_eq!(elector.step(now + 59 * SECOND, 0.0), Step::Write(Precondition::Version("2".into())));
}

#[test]
fn a_lease_that_was_given_back_is_taken_at_once() {
    let mut elector = elector("b");
    let now = Instant::now();
    let released = Record::released(&options("a"), Timestamp::UNIX_EPOCH, 4);
    elector.read(Ok(Some((released, "1".into()))), now);
    assert_eq!(elector.step(now, 0.0), Step::Write(Precondition::Version("1".into())));
    assert_eq!(elector.transitions(), 4);
}

#[test]
fn whoever_finds_another_s_name_in_its_lease_stops_leading() {
    let mut elector = elector("a");
    let now = Instant::now();
    elector.written(held_by("a"), "1".into(), now, now);
    elector.not_written(now + 5 * SECOND);
    assert_eq!(elector.leadership(now + 5 * SECOND), Leadership::Leader, "until it is known better");
    assert_eq!(elector.step(now + 6 * SECOND, 0.0), Step::Read);
    elector.read(Ok(Some((held_by("b"), "2".into()))), now + 6 * SECOND);
    assert_eq!(elector.leadership(now + 6 * SECOND), Leadership::Follower);
    assert_eq!(elector.resign(), None, "it is not ours to give back");
}

#[test]
fn failures_are_followed_by_a_pause_that_ends_with_the_leadership() {
    let mut elector = elector("a");
    let now = Instant::now();
    elector.read(Err(()), now);
    assert_eq!(elector.step(now, 0.0), Step::Hold(now + 2 * SECOND));
    elector.written(held_by("a"), "1".into(), now, now);
    elector.not_written(now + 19 * SECOND + SECOND / 2);
    assert_eq!(elector.step(now + 19 * SECOND + SECOND / 2, 0.0), Step::Hold(now + 20 * SECOND));
}

/// Replicas, an API server, and a network that delays, loses and repeats. Time is one for all here, but each replica sees the
/// world only through its own requests.
struct World {
    stored: Option<(Record, u64)>,
    replicas: Vec<Replica>,
    now: Instant,
}

struct Replica {
    elector: Elector,
    name: String,
    /// What it waits for: when the request reaches the server, and when the answer reaches it.
    request: Option<Request>,
    alive: bool,
}

#[derive(Clone)]
struct Request {
    step: Step,
    started: Instant,
    arrives: Option<Instant>,
    answer: Option<(Instant, Answer)>,
    gives_up: Instant,
}

#[derive(Clone)]
enum Answer {
    Read(Option<(Record, String)>),
    Written(Record, String),
    Refused,
}

/// What happens to one request: how long it takes there and back, and whether it or its answer is lost.
#[derive(Clone, Copy, Debug)]
struct Weather {
    there: u64,
    back: u64,
    lost: bool,
    answer_lost: bool,
}

impl World {
    fn server(&mut self, replica: usize, step: &Step) -> Answer {
        let Step::Write(precondition) = step else {
            return Answer::Read(self.stored.as_ref().map(|(record, version)| (record.clone(), version.to_string())));
        };
        let fits = match (precondition, &self.stored) {
            (Precondition::Absent, stored) => stored.is_none(),
            (Precondition::Version(version), Some((_, stored))) => *version == stored.to_string(),
            (Precondition::Version(_), None) => false,
        };
        if !fits {
            return Answer::Refused;
        }
        let version = self.stored.as_ref().map_or(1, |(_, version)| version + 1);
        let record = held_by(&self.replicas[replica].name);
        self.stored = Some((record.clone(), version));
        Answer::Written(record, version.to_string())
    }

    fn tick(&mut self, weather: &mut impl Iterator<Item = Weather>) {
        let now = self.now;
        for index in 0..self.replicas.len() {
            if let Some(mut request) = self.replicas[index].request.clone() {
                if request.arrives.is_some_and(|arrives| arrives <= now) {
                    request.arrives = None;
                    let answer = self.server(index, &request.step);
                    let back = weather.next().unwrap();
                    request.answer = (!back.answer_lost).then(|| (now + Duration::from_millis(back.back), answer));
                }
                self.replicas[index].request = Some(request);
            }
            let replica = &mut self.replicas[index];
            if !replica.alive {
                continue;
            }
            if let Some(request) = replica.request.clone() {
                match request.answer {
                    Some((at, answer)) if at <= now => {
                        match answer {
                            Answer::Read(answer) => replica.elector.read(Ok(answer), now),
                            Answer::Written(record, version) => {
                                replica.elector.written(record, version, request.started, now);
                            }
                            Answer::Refused => replica.elector.not_written(now),
                        }
                        replica.request = None;
                    }
                    _ if request.gives_up <= now => {
                        match request.step {
                            Step::Write(_) => replica.elector.not_written(now),
                            _ => replica.elector.read(Err(()), now),
                        }
                        // What is still on its way may arrive all the same: the server acts on it, nobody hears of it.
                        if let Some(arrives) = request.arrives {
                            self.late(index, &request.step, arrives);
                        }
                        self.replicas[index].request = None;
                    }
                    _ => continue,
                }
            }
            self.begin(index, weather);
        }
    }

    /// A write that its sender has given up reaches the server.
    fn late(&mut self, index: usize, step: &Step, _arrives: Instant) {
        self.server(index, step);
    }

    fn begin(&mut self, index: usize, weather: &mut impl Iterator<Item = Weather>) {
        let now = self.now;
        let replica = &mut self.replicas[index];
        let step = match replica.elector.step(now, 0.0) {
            Step::Hold(_) => return,
            // A watch tells what a read would tell.
            Step::Watch { .. } => Step::Read,
            step => step,
        };
        let there = weather.next().unwrap();
        let most = now + 5 * SECOND;
        let gives_up = replica.elector.leads_until().map_or(most, |until| until.min(most));
        let arrives = (!there.lost).then(|| now + Duration::from_millis(there.there));
        replica.request = Some(Request { step, started: now, arrives, answer: None, gives_up });
    }
}

fn weather() -> impl Strategy<Value = Vec<Weather>> {
    let one = (0..8_000_u64, 0..8_000_u64, 0..10_u8, 0..10_u8).prop_map(|(there, back, lost, answer_lost)| Weather {
        // Mostly quick.
        there: if there < 6_000 { there / 60 } else { there },
        back: if back < 6_000 { back / 60 } else { back },
        lost: lost == 0,
        answer_lost: answer_lost == 0,
    });
    proptest::collection::vec(one, 60..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn there_are_never_two_leaders(
        weather in weather(),
        deaths in proptest::collection::vec((0..600_u64, 0..3_usize), 0..6),
    ) {
        let start = Instant::now();
        let replicas = ["a", "b", "c"]
            .map(|name| Replica { elector: elector(name), name: name.into(), request: None, alive: true });
        let mut world = World { stored: None, replicas: replicas.into(), now: start };
        let mut weather = weather.iter().copied().cycle();
        let mut led = 0;
        for step in 0..6_000_u64 {
            world.now = start + Duration::from_millis(100) * u32::try_from(step).unwrap();
            for (second, index) in &deaths {
                // Dead for a minute, then another process with the same share of the world, but none of its memory.
                if step == second * 10 {
                    world.replicas[*index].alive = false;
                } else if step == second * 10 + 600 {
                    let name = format!("{}-{second}", ["a", "b", "c"][*index]);
                    world.replicas[*index] = Replica { elector: elector(&name), name, request: None, alive: true };
                }
            }
            world.tick(&mut weather);
            let leaders: Vec<&str> = world.replicas.iter()
                .filter(|replica| replica.alive && replica.elector.leadership(world.now) == Leadership::Leader)
                .map(|replica| replica.name.as_str())
                .collect();
            prop_assert!(leaders.len() <= 1, "{leaders:?} at {step}");
            led += leaders.len();
        }
        // With weather this bad it is enough that somebody led at all; in good weather see below.
        prop_assert!(led > 0);
    }
}

#[test]
fn in_good_weather_the_lease_is_held_all_the_time_and_passes_on_when_its_holder_dies() {
    let start = Instant::now();
    let replicas =
        ["a", "b", "c"].map(|name| Replica { elector: elector(name), name: name.into(), request: None, alive: true });
    let mut world = World { stored: None, replicas: replicas.into(), now: start };
    let mut weather = std::iter::repeat(Weather { there: 5, back: 5, lost: false, answer_lost: false });
    let mut leaders = Vec::new();
    for step in 0..2_000_u32 {
        world.now = start + Duration::from_millis(100) * step;
        world.tick(&mut weather);
        let leader = world
            .replicas
            .iter()
            .position(|replica| replica.alive && replica.elector.leadership(world.now) == Leadership::Leader);
        if step == 1_000 {
            world.replicas[leader.unwrap()].alive = false;
        }
        leaders.push(leader);
    }
    let first = leaders[10].unwrap();
    assert!(leaders[10..1_000].iter().all(|leader| *leader == Some(first)), "one leader without a gap");
    let next = leaders[1_400].unwrap();
    assert_ne!(next, first);
    let gap = leaders[1_001..].iter().take_while(|leader| leader.is_none()).count();
    assert!((200..=310).contains(&gap), "taken over after {gap} tenths of a second");
    assert!(leaders[1_400..].iter().all(|leader| *leader == Some(next)));
}
