//! Since when which root certificates are in every place of a kind: in the ConfigMap of every namespace, or in every webhook
//! configuration. Whoever reads there (a kubelet, an API server) reads late, so that a root is known to have arrived only some
//! time after it was written, and only if it was never missing since. How late is for others to know; this is bookkeeping.

mod pace;

use std::collections::{BTreeMap, BTreeSet};

use osm_issuer::TrustBundle;
use time::OffsetDateTime;

pub(crate) use self::pace::Pace;

/// A root certificate, DER.
type Certificate = Vec<u8>;

/// What every place of a kind holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WrittenRoots {
    /// Nobody has looked at all places yet, or this replica does not keep them.
    #[default]
    Unknown,
    /// There is no place of the kind, so nobody reads any.
    Nowhere,
    /// The certificates that all places hold, with the time since when all do.
    Known(BTreeMap<Certificate, OffsetDateTime>),
}

impl WrittenRoots {
    /// Since when every place holds all certificates of `root`; `None` when one does not, or is not known to.
    pub fn since(&self, root: &TrustBundle) -> Option<OffsetDateTime> {
        match self {
            Self::Unknown => None,
            Self::Nowhere => Some(ALWAYS),
            Self::Known(certificates) => {
                let since = root.roots().iter().map(|certificate| certificates.get(certificate.as_ref()).copied());
                since.collect::<Option<Vec<_>>>()?.into_iter().max()
            }
        }
    }
}

/// Of what was in a place before anybody could read anything else there.
const ALWAYS: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// What is to be thought of a place that is seen for the first time, and is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newcomers {
    /// Something else may have been read there before, as after a change of the one who looks.
    MayHaveHeld,
    /// Nothing was read there before: the place itself is new.
    HeldNothing,
}

/// The places of a kind, by name.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<String, Place>);

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nothing was ever read there.
    New,
    Holds(Content),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    /// As it is written.
    pem: String,
    /// What that says, with the time since when it is there.
    certificates: BTreeMap<Certificate, OffsetDateTime>,
}

impl Places {
    /// Takes in what was found in each of all places there are at `now`: PEM, or nothing. Says what that makes of all of them.
    pub(crate) fn look<'a>(
        &mut self,
        found: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
        newcomers: Newcomers,
        now: OffsetDateTime,
    ) -> WrittenRoots {
        let mut there = BTreeSet::new();
        for (name, pem) in found {
            there.insert(name.to_owned());
            match self.0.get_mut(name) {
                Some(place) => place.learn(pem, now),
                None => {
                    let mut place = match (pem, newcomers) {
                        (None, Newcomers::HeldNothing) => Place::New,
                        _ => Place::Holds(Content::default()),
                    };
                    place.learn(pem, now);
                    self.0.insert(name.to_owned(), place);
                }
            }
        }
        // One that comes back may have been read before.
        for (_, place) in self.0.iter_mut().filter(|(name, _)| !there.contains(*name)) {
            *place = Place::Holds(Content::default());
        }
        self.everywhere(&there)
    }

    fn everywhere(&self, there: &BTreeSet<String>) -> WrittenRoots {
        let contents = self.0.iter().filter(|(name, _)| there.contains(*name)).filter_map(|(_, place)| match place {
            Place::New => None,
            Place::Holds(content) => Some(&content.certificates),
        });
        let in_both = |one: BTreeMap<Certificate, OffsetDateTime>, other: &BTreeMap<Certificate, OffsetDateTime>| {
            let both = one.into_iter().filter_map(|(certificate, since)| {
                let other = other.get(&certificate)?;
                Some((certificate, since.max(*other)))
            });
            both.collect()
        };
        let mut contents = contents;
        match contents.next().cloned() {
            Some(first) => WrittenRoots::Known(contents.fold(first, in_both)),
            None => WrittenRoots::Nowhere,
        }
    }
}

impl Place {
    fn learn(&mut self, pem: Option<&str>, now: OffsetDateTime) {
        match (self, pem) {
            (Self::New, None) => {}
            (place @ Self::New, Some(pem)) => *place = Self::Holds(Content::default().replaced(pem, ALWAYS)),
            (Self::Holds(content), pem) => {
                let pem = pem.unwrap_or_default();
                if content.pem != pem {
                    *content = std::mem::take(content).replaced(pem, now);
                }
            }
        }
    }
}

impl Content {
    /// What is there once it is `pem`. A file that no TLS library would read holds nothing.
    fn replaced(self, pem: &str, now: OffsetDateTime) -> Self {
        let bundle = TrustBundle::from_pem(pem).ok();
        let certificates = bundle.iter().flat_map(|bundle| bundle.roots()).map(|certificate| {
            let since = self.certificates.get(certificate.as_ref()).copied().unwrap_or(now);
            (certificate.to_vec(), since)
        });
        Self { pem: pem.to_owned(), certificates: certificates.collect() }
    }
}

#[cfg(test)]
mod tests {
    use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial};

    use super::*;

    fn root() -> TrustBundle {
        let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, at(0)).unwrap();
        TrustBundle::from_pem(material.certificate_pem()).unwrap()
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000 + seconds).unwrap()
    }

    /// Roots `a` and `b`, what a place holds that has one of them, and that has both.
    struct Roots {
        a: TrustBundle,
        b: TrustBundle,
        only_a: String,
        both: String,
    }

    fn roots() -> Roots {
        let (a, b) = (root(), root());
        Roots { only_a: a.pem(), both: a.union(&b).pem(), a, b }
    }

    fn since(written: &WrittenRoots, roots: &Roots) -> (Option<OffsetDateTime>, Option<OffsetDateTime>) {
        (written.since(&roots.a), written.since(&roots.b))
    }

    #[test]
    fn a_root_counts_from_when_the_last_place_holds_it_and_keeps_its_time() {
        let roots = roots();
        let mut places = Places::default();
        let mut look = |one: &str, other: &str, now| {
            let found = [("one", Some(one)), ("other", Some(other))];
            since(&places.look(found, Newcomers::HeldNothing, at(now)), &roots)
        };
        assert_eq!(look(&roots.only_a, &roots.only_a, 1), (Some(at(1)), None));
        assert_eq!(look(&roots.both, &roots.only_a, 2), (Some(at(1)), None), "one write is missing, or failed");
        assert_eq!(look(&roots.both, &roots.both, 5), (Some(at(1)), Some(at(5))));
        assert_eq!(look(&roots.both, &roots.both, 9), (Some(at(1)), Some(at(5))), "looking again changes nothing");
        // Another order of the same certificates is read as the same.
        let turned = roots.b.pem() + &roots.a.pem();
        let (one, other) =
            (roots.both.clone(), if turned == roots.both { roots.a.pem() + &roots.b.pem() } else { turned });
        assert_eq!(look(&one, &other, 10), (Some(at(1)), Some(at(5))));
        // Both together are known since the later of both.
        let all = roots.a.union(&roots.b);
        let found = [("one", Some(&*roots.both)), ("other", Some(&*roots.both))];
        assert_eq!(places.look(found, Newcomers::HeldNothing, at(11)).since(&all), Some(at(5)));
    }

    #[test]
    fn what_somebody_changed_or_deleted_counts_anew_when_it_is_put_back() {
        let roots = roots();
        for elses in [None, Some(""), Some("no certificate"), Some(&*roots.only_a)] {
            let mut places = Places::default();
            let mut look = |pem: Option<&str>, now| {
                let found = [("changed", pem), ("good", Some(&*roots.both))];
                since(&places.look(found, Newcomers::HeldNothing, at(now)), &roots)
            };
            assert_eq!(look(Some(&roots.both), 1), (Some(at(1)), Some(at(1))));
            assert_eq!(look(elses, 2).1, None, "{elses:?}");
            let kept = elses == Some(&*roots.only_a);
            assert_eq!(look(Some(&roots.both), 3), (Some(at(if kept { 1 } else { 3 })), Some(at(3))), "{elses:?}");
        }
    }

    #[test]
    fn a_new_namespace_holds_nobody_up_and_does_not_start_the_time_of_others_anew() {
        let roots = roots();
        let mut places = Places::default();
        let mut look = |found: &[(&'static str, Option<&str>)], now| {
            since(&places.look(found.iter().copied(), Newcomers::HeldNothing, at(now)), &roots)
        };
        let (only_a, both) = (Some(&*roots.only_a), Some(&*roots.both));
        assert_eq!(look(&[("a", both)], 1), (Some(at(1)), Some(at(1))));
        // Its ConfigMap is still to be written: no pod can have started there.
        assert_eq!(look(&[("a", both), ("new", None)], 2), (Some(at(1)), Some(at(1))));
        assert_eq!(look(&[("a", both), ("new", both)], 3), (Some(at(1)), Some(at(1))));
        // From now on it counts like all others.
        assert_eq!(look(&[("a", both), ("new", only_a)], 4), (Some(at(1)), None));
        assert_eq!(look(&[("a", both), ("new", both)], 5), (Some(at(1)), Some(at(5))));
        // So does one that had something of our name when it came.
        assert_eq!(look(&[("a", both), ("new", both), ("other", only_a)], 6), (Some(at(6)), None));
        assert_eq!(look(&[("a", both), ("new", both), ("other", both)], 7), (Some(at(6)), Some(at(7))));
    }

    #[test]
    fn a_namespace_that_left_and_comes_back_counts_anew() {
        let roots = roots();
        let mut places = Places::default();
        let mut look = |found: &[(&'static str, Option<&str>)], now| {
            since(&places.look(found.iter().copied(), Newcomers::HeldNothing, at(now)), &roots)
        };
        let both = Some(&*roots.both);
        assert_eq!(look(&[("a", both), ("b", both)], 1), (Some(at(1)), Some(at(1))));
        assert_eq!(look(&[("a", both)], 2), (Some(at(1)), Some(at(1))));
        assert_eq!(look(&[("a", both), ("b", None)], 3), (None, None), "its pods may have what they had before");
        assert_eq!(look(&[("a", both), ("b", both)], 4), (Some(at(4)), Some(at(4))));
    }

    #[test]
    fn after_a_fail_over_time_starts_when_all_was_seen() {
        let roots = roots();
        assert_eq!(since(&WrittenRoots::Unknown, &roots), (None, None));
        let mut places = Places::default();
        let both = Some(&*roots.both);
        let first = places.look([("a", both), ("b", None)], Newcomers::MayHaveHeld, at(100));
        assert_eq!(since(&first, &roots), (None, None), "somebody may have deleted what was there");
        let second = places.look([("a", both), ("b", both)], Newcomers::HeldNothing, at(101));
        assert_eq!(since(&second, &roots), (Some(at(101)), Some(at(101))));
    }

    #[test]
    fn where_there_is_no_place_nobody_is_waited_for() {
        let roots = roots();
        let mut places = Places::default();
        let none = places.look([], Newcomers::MayHaveHeld, at(1));
        assert_eq!((&none, since(&none, &roots)), (&WrittenRoots::Nowhere, (Some(ALWAYS), Some(ALWAYS))));
        let new = places.look([("new", None)], Newcomers::HeldNothing, at(2));
        assert_eq!(new, WrittenRoots::Nowhere);
    }
}
