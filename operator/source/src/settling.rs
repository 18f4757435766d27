//! When to look at files that change: at once when a write is finished, after a pause while one goes on or files are removed.
//! Pure; `now` is given.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a path that was just made has to be left alone before it is looked at, and how long a removal waits for others.
///
/// A folder that is removed loses its files first, one by one, and the last good state is to survive that: only at the end is it
/// known that the folder went and not its objects.
pub const QUIET_PERIOD: Duration = Duration::from_millis(10);

/// After how long it is looked at although there was no such pause, counted from the first of them.
pub const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// How long a file has to be left alone that somebody has begun to write and has not closed.
///
/// Between emptying a file and writing it a writer may be held up for long on a busy machine, and an emptied file must not be
/// taken for one whose objects were removed. Writers close their files, so that this is waited for only by those that do not.
pub const UNCLOSED_QUIET_PERIOD: Duration = Duration::from_secs(1);

/// After how long a file is looked at that is written without such a pause.
pub const UNCLOSED_LONGEST_WAIT: Duration = Duration::from_secs(3);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The whole folder: nobody knows what changed, or a folder did.
    Everything,
    /// These paths, each a name in a directory that was asked for. Nothing else changed.
    Paths(BTreeSet<PathBuf>),
}

/// What happened to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// The path has its new content: closed after writing, given another file by renaming, or renamed away.
    Finished(PathBuf),
    /// What the path led to is removed.
    Removed(PathBuf),
    /// It was made, and may be written from now on, or not: links are made like this.
    Made(PathBuf),
    /// Something writes it, and has not closed it.
    Writing(PathBuf),
    /// Its attributes changed, which neither starts nor ends a write.
    Attributes(PathBuf),
    /// A directory is removed.
    FolderRemoved,
    /// A directory changed in another way, or events were lost.
    Unclear,
}

/// When something happened to a path since it was last looked at, and how long to wait for more of it.
#[derive(Debug)]
struct Wait {
    first: Instant,
    last: Instant,
    quiet: Duration,
    longest: Duration,
}

impl Wait {
    fn short(now: Instant) -> Self {
        Self { first: now, last: now, quiet: QUIET_PERIOD, longest: LONGEST_WAIT }
    }

    fn for_close(now: Instant) -> Self {
        Self { quiet: UNCLOSED_QUIET_PERIOD, longest: UNCLOSED_LONGEST_WAIT, ..Self::short(now) }
    }

    fn due(&self) -> Instant {
        (self.last + self.quiet).min(self.first + self.longest)
    }
}

/// What happened and has not been told yet.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    finished: BTreeSet<PathBuf>,
    writing: BTreeMap<PathBuf, Wait>,
    removed: BTreeSet<PathBuf>,
    /// When the first and the last of these were removed.
    removal: Option<Wait>,
    /// Since when the whole folder is to be looked at.
    unclear: Option<Instant>,
}

impl Settling {
    /// Notes what happened.
    pub(crate) fn note(&mut self, happening: Happening, now: Instant) {
        match happening {
            Happening::Finished(path) => {
                self.writing.remove(&path);
                self.finished.insert(path);
            }
            Happening::Removed(path) => {
                self.writing.remove(&path);
                self.finished.remove(&path);
                self.removed.insert(path);
                self.removal.get_or_insert(Wait::short(now)).last = now;
            }
            Happening::FolderRemoved => {
                self.unclear.get_or_insert(now);
                self.removal.get_or_insert(Wait::short(now)).last = now;
            }
            Happening::Made(path) => {
                self.finished.remove(&path);
                self.writing.entry(path).or_insert(Wait::short(now)).last = now;
            }
            Happening::Writing(path) => {
                // A path that is written anew is not finished after all.
                self.finished.remove(&path);
                let first = self.writing.get(&path).map_or(now, |wait| wait.first);
                self.writing.insert(path, Wait { first, ..Wait::for_close(now) });
            }
            Happening::Attributes(path) => {
                if !self.writing.contains_key(&path) {
                    self.finished.insert(path);
                }
            }
            Happening::Unclear => {
                self.unclear.get_or_insert(now);
            }
        }
    }

    /// When [`take`](Self::take) has something to give, if nothing more happens.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let removal = self.removal.as_ref().map(Wait::due);
        let pending = self.writing.values().map(Wait::due).chain(removal);
        if let Some(since) = self.unclear {
            // Files that are being written would be read half-way, and a folder half removed, so that the look at everything waits.
            return Some(pending.max().unwrap_or(now).min(since + UNCLOSED_LONGEST_WAIT));
        }
        if !self.finished.is_empty() {
            return Some(now);
        }
        pending.min()
    }

    /// Whether something happened again to what this hint told to look at, so that a look may have found it half-way.
    pub(crate) fn is_outdated(&self, hint: &Hint) -> bool {
        match hint {
            Hint::Everything => !self.finished.is_empty() || !self.writing.is_empty(),
            Hint::Paths(paths) => {
                paths.iter().any(|path| self.finished.contains(path) || self.writing.contains_key(path))
            }
        }
    }

    /// What is to be looked at now, which is then forgotten.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Hint> {
        if self.due(now)? > now {
            return None;
        }
        // Removals go with whatever is told first: together they are more likely one step of whoever edits the folder.
        self.removal = None;
        let removed = std::mem::take(&mut self.removed);
        if self.unclear.take().is_some() {
            self.finished.clear();
            self.writing.clear();
            return Some(Hint::Everything);
        }
        let mut paths = std::mem::take(&mut self.finished);
        paths.extend(removed);
        self.writing.retain(|path, write| {
            let due = write.due() <= now;
            if due {
                paths.insert(path.clone());
            }
            !due
        });
        Some(Hint::Paths(paths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn paths(names: &[&str]) -> Option<Hint> {
        Some(Hint::Paths(names.iter().map(PathBuf::from).collect()))
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_finished_write_is_told_at_once_and_once() {
        let start = Instant::now();
        let mut settling = Settling::default();
        assert_eq!(settling.due(start), None);
        settling.note(Happening::Writing(path("a")), start);
        assert_eq!(settling.take(start), None);
        settling.note(Happening::Finished(path("a")), start);
        assert_eq!(settling.due(start), Some(start));
        assert_eq!(settling.take(start), paths(&["a"]));
        assert_eq!(settling.take(start + 200 * MS), None);
    }

    #[test]
    fn a_write_that_goes_on_waits_for_a_pause_and_does_not_hold_up_others() {
        let start = Instant::now();
        let mut settling = Settling::default();
        settling.note(Happening::Writing(path("a")), start);
        settling.note(Happening::Writing(path("a")), start + 6 * MS);
        settling.note(Happening::Finished(path("b")), start + 7 * MS);
        assert_eq!(settling.take(start + 7 * MS), paths(&["b"]));
        let due = start + 6 * MS + UNCLOSED_QUIET_PERIOD;
        assert_eq!(settling.due(start + 7 * MS), Some(due));
        assert_eq!(settling.take(due - MS), None);
        assert_eq!(settling.take(due), paths(&["a"]));
    }

    #[test]
    fn a_write_without_pauses_is_looked_at_after_the_longest_wait() {
        let start = Instant::now();
        let mut settling = Settling::default();
        for step in 0..30 {
            settling.note(Happening::Writing(path("a")), start + step * 100 * MS);
            assert_eq!(settling.take(start + step * 100 * MS), None, "{step}");
        }
        assert_eq!(settling.take(start + UNCLOSED_LONGEST_WAIT), paths(&["a"]));
    }

    #[test]
    fn a_look_at_everything_waits_for_writes_but_not_for_ever() {
        let start = Instant::now();
        let mut settling = Settling::default();
        settling.note(Happening::Unclear, start);
        settling.note(Happening::Writing(path("a")), start);
        assert_eq!(settling.take(start), None);
        settling.note(Happening::Finished(path("a")), start + MS);
        assert_eq!(settling.take(start + MS), Some(Hint::Everything));
        assert_eq!(settling.due(start + MS), None);

        settling.note(Happening::Unclear, start);
        for step in 0..30 {
            settling.note(Happening::Writing(path(&step.to_string())), start + step * 100 * MS);
            assert_eq!(settling.take(start + step * 100 * MS), None);
        }
        assert_eq!(settling.take(start + UNCLOSED_LONGEST_WAIT), Some(Hint::Everything));
    }

    #[test]
    fn removals_that_follow_one_another_are_told_together() {
        let start = Instant::now();
        let mut settling = Settling::default();
        settling.note(Happening::Removed(path("a")), start);
        settling.note(Happening::Removed(path("b")), start + QUIET_PERIOD / 2);
        assert_eq!(settling.take(start + QUIET_PERIOD), None);
        assert_eq!(settling.take(start + QUIET_PERIOD * 3 / 2), paths(&["a", "b"]));
        assert_eq!(settling.due(start), None);

        settling.note(Happening::Removed(path("a")), start);
        settling.note(Happening::Finished(path("c")), start);
        assert_eq!(settling.take(start), paths(&["a", "c"]), "a removal delays no write");
        assert_eq!(settling.due(start), None);

        for step in 0..100 {
            settling.note(Happening::Removed(path(&step.to_string())), start + step * MS);
            assert_eq!(settling.take(start + step * MS), None);
        }
        assert!(matches!(settling.take(start + LONGEST_WAIT), Some(Hint::Paths(paths)) if paths.len() == 100));

        settling.note(Happening::Removed(path("a")), start);
        settling.note(Happening::FolderRemoved, start + MS);
        assert_eq!(settling.take(start + QUIET_PERIOD), None, "more may follow");
        assert_eq!(settling.take(start + MS + QUIET_PERIOD), Some(Hint::Everything), "the folder went with its files");
        assert_eq!(settling.due(start), None);
    }

    #[test]
    fn attributes_count_unless_the_file_is_being_written() {
        let start = Instant::now();
        let mut settling = Settling::default();
        settling.note(Happening::Attributes(path("a")), start);
        assert_eq!(settling.take(start), paths(&["a"]));
        settling.note(Happening::Writing(path("a")), start);
        settling.note(Happening::Attributes(path("a")), start);
        assert_eq!(settling.take(start), None);
    }

    #[test]
    fn a_file_that_is_written_again_is_not_finished() {
        let start = Instant::now();
        let mut settling = Settling::default();
        settling.note(Happening::Finished(path("a")), start);
        settling.note(Happening::Writing(path("a")), start);
        assert_eq!(settling.take(start), None);
        assert_eq!(settling.take(start + UNCLOSED_QUIET_PERIOD), paths(&["a"]));
    }

    #[test]
    fn a_look_is_outdated_by_what_happens_to_the_same_paths() {
        let start = Instant::now();
        let mut settling = Settling::default();
        settling.note(Happening::Finished(path("a")), start);
        let hint = settling.take(start).unwrap();
        assert!(!settling.is_outdated(&hint));
        settling.note(Happening::Writing(path("b")), start);
        assert!(!settling.is_outdated(&hint));
        assert!(settling.is_outdated(&Hint::Everything));
        settling.note(Happening::Writing(path("a")), start);
        assert!(settling.is_outdated(&hint), "it may have been empty");
        settling.note(Happening::Finished(path("a")), start);
        assert!(settling.is_outdated(&hint), "it has been written since");
    }

    #[test]
    fn a_path_that_was_made_is_not_waited_for_as_long_as_one_that_is_written() {
        let start = Instant::now();
        let mut settling = Settling::default();
        settling.note(Happening::Made(path("link")), start);
        settling.note(Happening::Made(path("file")), start);
        settling.note(Happening::Writing(path("file")), start + MS);
        assert_eq!(settling.take(start + QUIET_PERIOD), paths(&["link"]));
        assert_eq!(settling.take(start + UNCLOSED_QUIET_PERIOD), None, "it may be half written");
        assert_eq!(settling.take(start + MS + UNCLOSED_QUIET_PERIOD), paths(&["file"]));
    }
}
