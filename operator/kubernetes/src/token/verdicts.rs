//! What was said of tokens, without the tokens.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

/// A keyed hash of a token. The key is random and of this process alone: a dump of memory helps nobody to find out which token it was.
pub(super) type Digest = [u8; 32];

/// Verdicts, each for a time, and questions that are being asked.
///
/// Bounded: when there are too many verdicts, those that end soonest go first.
pub(super) struct Verdicts<V, Q> {
    key: [u8; 32],
    capacity: usize,
    known: HashMap<Digest, (V, Instant)>,
    by_end: BTreeSet<(Instant, Digest)>,
    asking: HashMap<Digest, Q>,
}

/// What is there about a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<V, Q> {
    Verdict(V),
    Question(Q),
}

impl<V: Clone, Q: Clone> Verdicts<V, Q> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            key: rand::random(),
            capacity: capacity.max(1),
            known: HashMap::new(),
            by_end: BTreeSet::new(),
            asking: HashMap::new(),
        }
    }

    pub(super) fn digest(&self, token: &[u8]) -> Digest {
        *blake3::keyed_hash(&self.key, token).as_bytes()
    }

    pub(super) fn find(&mut self, digest: &Digest, now: Instant) -> Option<Found<V, Q>> {
        match self.known.get(digest) {
            Some((verdict, until)) if *until > now => return Some(Found::Verdict(verdict.clone())),
            Some(_) => self.forget(digest),
            None => {}
        }
        self.asking.get(digest).cloned().map(Found::Question)
    }

    pub(super) fn asking(&mut self, digest: Digest, question: Q) {
        self.asking.insert(digest, question);
    }

    /// The question is answered, and the answer counts for `keep_for`.
    pub(super) fn answered(&mut self, digest: Digest, verdict: V, now: Instant, keep_for: Duration) {
        self.asking.remove(&digest);
        self.forget(&digest);
        if keep_for.is_zero() {
            return;
        }
        let until = now + keep_for;
        self.known.insert(digest, (verdict, until));
        self.by_end.insert((until, digest));
        while let Some((end, first)) = self.by_end.first().copied() {
            if end > now && self.known.len() <= self.capacity {
                break;
            }
            self.forget(&first);
        }
    }

    fn forget(&mut self, digest: &Digest) {
        if let Some((_, until)) = self.known.remove(digest) {
            self.by_end.remove(&(until, *digest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_end_and_their_number_is_bounded() {
        let mut verdicts: Verdicts<u32, ()> = Verdicts::new(2);
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let digests: Vec<Digest> = (0..4_u8).map(|token| verdicts.digest(&[token])).collect();
        verdicts.asking(digests[0], ());
        assert_eq!(verdicts.find(&digests[0], now), Some(Found::Question(())));
        verdicts.answered(digests[0], 0, now, second * 5);
        assert_eq!(verdicts.find(&digests[0], now), Some(Found::Verdict(0)));
        assert_eq!(verdicts.find(&digests[0], now + second * 5), None);
        for (verdict, digest) in (0..).zip(&digests) {
            verdicts.answered(*digest, verdict, now, second * (1 + verdict));
        }
        let left: Vec<bool> = digests.iter().map(|digest| verdicts.find(digest, now).is_some()).collect();
        assert_eq!(left, [false, false, true, true]);
        assert_eq!((verdicts.known.len(), verdicts.by_end.len()), (2, 2));
        verdicts.answered(digests[0], 9, now, Duration::ZERO);
        assert_eq!(verdicts.find(&digests[0], now), None);
        let other: Verdicts<u32, ()> = Verdicts::new(2);
        assert_ne!(other.digest(&[0]), digests[0], "each process has a key of its own");
    }
}
