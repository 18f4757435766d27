//! File events from the kernel, as hints of what to look at.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::settling::{Happening, Hint, Settling};
use crate::walk::Interest;

/// How often everything is looked at while the kernel does not watch for us.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes for events: some hundred at a time.
const BUFFER_BYTES: usize = 16 * 1024;

/// What is reported of each directory. Reading is not, so that our own looks cause no events.
const REPORTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);

/// A watch on the entries of directories, by inotify.
///
/// A write that is finished (closed, renamed) is told at once; new links and removals after a pause
/// ([`QUIET_PERIOD`](crate::QUIET_PERIOD)), at the latest after [`LONGEST_WAIT`](crate::LONGEST_WAIT); a write that goes on after
/// [`UNCLOSED_QUIET_PERIOD`](crate::UNCLOSED_QUIET_PERIOD), at the latest after [`UNCLOSED_LONGEST_WAIT`](crate::UNCLOSED_LONGEST_WAIT). Changes of directories and lost events are
/// told as [`Hint::Everything`]. Where the kernel refuses to watch a directory, everything is looked at once a second.
///
/// Changes made by other machines to a network file system are not seen by the kernel and not told.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<OwnedFd>,
    watched: BTreeMap<PathBuf, Watched>,
    paths: HashMap<i32, PathBuf>,
    settling: Settling,
    /// Set while a directory is not watched although it should be.
    poll_at: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    descriptor: i32,
    interest: Interest,
}

impl Watch {
    /// A watch on nothing yet.
    ///
    /// # Errors
    /// The kernel gives no inotify instance (`fs.inotify.max_user_instances`). Must be called within a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|error| {
            let remedy = "raise fs.inotify.max_user_instances if that is the reason";
            io::Error::new(error.kind(), format!("cannot watch folders: {error}; {remedy}"))
        })?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that lie about their descriptor; OwnedFd does not"
        )]
        let inotify = AsyncFd::new(inotify)?;
        Ok(Self {
            inotify,
            watched: BTreeMap::new(),
            paths: HashMap::new(),
            settling: Settling::default(),
            poll_at: None,
        })
    }

    /// Watches these directories, by real path, and no others. What happens in a directory before it is watched is not seen:
    /// if there are new ones, everything is to be looked at once more, and [`next`](Self::next) says so.
    pub fn cover(&mut self, directories: &BTreeMap<PathBuf, Interest>) {
        let superfluous: Vec<_> =
            self.watched.keys().filter(|path| !directories.contains_key(*path)).cloned().collect();
        for path in superfluous {
            self.stop(&path);
        }
        let mut refused = false;
        for (path, interest) in directories {
            match self.watched.get_mut(path) {
                Some(watched) if watched.interest == *interest => {}
                Some(watched) => {
                    watched.interest = interest.clone();
                    self.settling.note(Happening::Unclear, Instant::now());
                }
                None => refused |= !self.start(path, interest),
            }
        }
        self.poll_at = refused.then(|| Instant::now() + POLL_INTERVAL);
    }

    /// Watches the directory. `false` if the kernel refuses to.
    fn start(&mut self, path: &Path, interest: &Interest) -> bool {
        match inotify::add_watch(self.inotify.get_ref(), path, REPORTED) {
            Ok(descriptor) => {
                self.paths.insert(descriptor, path.to_owned());
                self.watched.insert(path.to_owned(), Watched { descriptor, interest: interest.clone() });
            }
            // Gone since it was seen. The next look sees that.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => {
                tracing::warn!(
                    directory = %path.display(),
                    %error,
                    "cannot watch a directory, looking at it every second instead; \
                     raise fs.inotify.max_user_watches if that is the reason"
                );
                return false;
            }
        }
        self.settling.note(Happening::Unclear, Instant::now());
        true
    }

    fn stop(&mut self, path: &Path) {
        if let Some(watched) = self.watched.remove(path) {
            self.paths.remove(&watched.descriptor);
            // Fails if the kernel has dropped the watch already, which is as well.
            let _ = inotify::remove_watch(self.inotify.get_ref(), watched.descriptor);
        }
    }

    /// Waits until there is something to look at. May be dropped and called again without loss.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn next(&mut self) -> io::Result<Hint> {
        loop {
            self.drain()?;
            let now = Instant::now();
            if self.poll_at.is_some_and(|at| at <= now) {
                self.poll_at = Some(now + POLL_INTERVAL);
                return Ok(Hint::Everything);
            }
            if let Some(hint) = self.settling.take(now) {
                return Ok(hint);
            }
            let due = [self.settling.due(now), self.poll_at].into_iter().flatten().min();
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.inotify.readable() => ready?.clear_ready(),
                () = timer => {}
            }
        }
    }

    /// Whether something happened by now to what `hint` told to look at. A file that was read empty, because its writer had emptied
    /// it and not yet written, is always found out: the kernel tells of the emptying before it shows it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_outdated(&mut self, hint: &Hint) -> io::Result<bool> {
        self.drain()?;
        Ok(self.settling.is_outdated(hint))
    }

    /// Takes all events that the kernel has.
    fn drain(&mut self) -> io::Result<()> {
        let Self { inotify, watched, paths, settling, .. } = self;
        let mut buffer = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut reader = inotify::Reader::new(inotify.get_ref(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            let Some(directory) = paths.get(&event.wd()) else {
                if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                    settling.note(Happening::Unclear, Instant::now());
                }
                continue;
            };
            if flags.intersects(ReadFlags::IGNORED | ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT)
            {
                // The descriptor follows the directory, not the path.
                let directory = directory.clone();
                paths.remove(&event.wd());
                watched.remove(&directory);
                let _ = inotify::remove_watch(inotify.get_ref(), event.wd());
                let removed = flags.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF);
                let happening = if removed { Happening::FolderRemoved } else { Happening::Unclear };
                settling.note(happening, Instant::now());
                continue;
            }
            let Some(name) = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())) else { continue };
            if let Some(Watched { interest: Interest::Names(names), .. }) = watched.get(directory)
                && !names.contains(name)
            {
                continue;
            }
            settling.note(happening(flags, directory.join(name)), Instant::now());
        }
    }
}

fn happening(flags: ReadFlags, path: PathBuf) -> Happening {
    if flags.contains(ReadFlags::ISDIR | ReadFlags::DELETE) {
        Happening::FolderRemoved
    } else if flags.contains(ReadFlags::ISDIR) {
        Happening::Unclear
    } else if flags.contains(ReadFlags::DELETE) {
        Happening::Removed(path)
    } else if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO | ReadFlags::MOVED_FROM) {
        Happening::Finished(path)
    } else if flags.contains(ReadFlags::MODIFY) {
        Happening::Writing(path)
    } else if flags.contains(ReadFlags::CREATE) {
        Happening::Made(path)
    } else {
        Happening::Attributes(path)
    }
}
