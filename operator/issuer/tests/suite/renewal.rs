//! The schedule of renewals and of attempts after failures.

use std::time::Duration;

use osm_issuer::{Advice, JitterFraction, renew_at, retry_at};
use proptest::prelude::*;
use time::OffsetDateTime;

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

#[track_caller]
fn check(life_minutes: i64, earliest_minutes: i64, latest_minutes: i64) {
    let issued = at(1_800_000_000);
    let minutes = time::Duration::minutes;
    let latest = renew_at(issued, issued + minutes(life_minutes), JitterFraction::ZERO);
    assert_eq!(latest - issued, minutes(latest_minutes), "without jitter");
    let earliest = renew_at(issued, issued + minutes(life_minutes), JitterFraction::MAX);
    // The most jitter is a hair less than the whole.
    assert!((earliest - issued - minutes(earliest_minutes)).abs() < time::Duration::seconds(1), "{earliest}");
}

#[test]
fn a_leaf_is_renewed_between_half_and_two_thirds_of_its_life() {
    check(24 * 60, 12 * 60, 16 * 60);
    check(60, 30, 40);
    // The shortest that OSM allows: five minutes are left at least.
    check(12, 5, 7);
    check(6, 2, 3);
}

#[test]
fn waits_grow_from_the_advice_to_ten_minutes() {
    let now = at(1_800_000_000);
    let wait =
        |advice, failures| retry_at(now, advice, failures, JitterFraction::ZERO).map(|at| (at - now).whole_seconds());
    let soon = Advice::RetryAfter(Duration::from_secs(30));
    assert_eq!(
        [1, 2, 3, 4, 5, 6, u32::MAX].map(|failures| wait(soon, failures)),
        [30, 60, 120, 240, 480, 600, 600].map(Some)
    );
    assert_eq!([1, 2, 5].map(|failures| wait(Advice::WaitForOperator, failures)), [60, 120, 600].map(Some));
    assert_eq!(wait(Advice::GiveUp, 1), None);
    // A provider is never asked without a pause, and one that asks for an hour gets an hour.
    assert_eq!(wait(Advice::RetryAfter(Duration::ZERO), 1), Some(1));
    assert_eq!(wait(Advice::RetryAfter(Duration::from_secs(3600)), 9), Some(3600));
    assert_eq!(wait(Advice::RetryAfter(Duration::MAX), 9), None);
}

proptest! {
    #[test]
    fn renewal_is_within_life_and_leaves_a_third_to_do_it(issued in -1_000_000_000_i64..10_000_000_000, life in 1_i64..400_000_000, bits: u32) {
        let (issued, not_after) = (at(issued), at(issued + life));
        let renewal = renew_at(issued, not_after, JitterFraction::from_bits(bits));
        let life = not_after - issued;
        prop_assert!(renewal >= issued + life / 3, "not too early");
        prop_assert!(not_after - renewal >= life / 3 - time::Duration::nanoseconds(1), "not too late");
        prop_assert!(life < time::Duration::minutes(10) || not_after - renewal >= time::Duration::minutes(5));
    }

    #[test]
    fn more_jitter_is_never_later(life in 1_i64..400_000_000, one: u32, other: u32) {
        let (issued, not_after) = (at(0), at(life));
        let (less, more) = (one.min(other), one.max(other));
        let renewal = |bits| renew_at(issued, not_after, JitterFraction::from_bits(bits));
        prop_assert!(renewal(more) <= renewal(less));
    }

    #[test]
    fn leaves_issued_together_are_spread(step in 600_i64..400_000_000) {
        let renewals: std::collections::BTreeSet<_> = (0..64_u32)
            .map(|number| renew_at(at(0), at(step), JitterFraction::from_bits(number << 26)))
            .collect();
        prop_assert_eq!(renewals.len(), 64);
        let span = *renewals.last().unwrap() - *renewals.first().unwrap();
        prop_assert!(span >= time::Duration::seconds(step) / 7);
    }

    #[test]
    fn a_leaf_without_life_is_due_at_once(issued in 0_i64..10_000_000_000, past in 0_i64..1_000_000, bits: u32) {
        prop_assert_eq!(renew_at(at(issued), at(issued - past), JitterFraction::from_bits(bits)), at(issued));
    }

    #[test]
    fn a_wait_is_what_was_advised_or_longer_within_bounds(wait in 0_u64..100_000, failures in 0_u32..100, bits: u32) {
        let now = at(1_800_000_000);
        let advice = Advice::RetryAfter(Duration::from_secs(wait));
        let retry = retry_at(now, advice, failures, JitterFraction::from_bits(bits)).unwrap();
        let waited = Duration::try_from(retry - now).unwrap();
        let longest = Duration::from_secs(wait.max(600));
        prop_assert!(waited >= Duration::from_secs(wait.max(1)));
        prop_assert!(waited <= longest + longest / 4);
    }
}
