//! What may be on its way to somebody: all that was published since what it acknowledged.

use std::collections::VecDeque;

/// Values by the publication (epoch) that made each current, oldest first. Values that are no longer of use are dropped
/// by [`History::forget_before`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History<T> {
    published: VecDeque<(u64, T)>,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self { published: VecDeque::new() }
    }
}

impl<T: PartialEq> History<T> {
    /// The value became current with `epoch`. Publishing what is current already changes nothing.
    pub fn publish(&mut self, epoch: u64, value: T) {
        if self.published.back().is_none_or(|(_, current)| *current != value) {
            self.published.push_back((epoch, value));
        }
    }

    /// The current value.
    pub fn current(&self) -> Option<&T> {
        self.published.back().map(|(_, value)| value)
    }

    /// The values that somebody may hold who has acknowledged everything up to `acknowledged`: the newest that it has
    /// acknowledged, and all that came after. `None` when it acknowledged nothing of this history, so that it may hold
    /// something older.
    pub fn held_since(&self, acknowledged: u64) -> Option<impl Iterator<Item = &T>> {
        let newest = self.published.iter().rposition(|(epoch, _)| *epoch <= acknowledged)?;
        Some(self.published.iter().skip(newest).map(|(_, value)| value))
    }

    /// Drops what nobody holds who has acknowledged everything up to `epoch`.
    pub fn forget_before(&mut self, epoch: u64) {
        while self.published.get(1).is_some_and(|(next, _)| *next <= epoch) {
            self.published.pop_front();
        }
    }

    /// How many values are kept.
    pub fn len(&self) -> usize {
        self.published.len()
    }

    /// Whether nothing was published.
    pub fn is_empty(&self) -> bool {
        self.published.is_empty()
    }
}
