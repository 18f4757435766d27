//! Reading one file, whatever it turns out to be, without waiting for anybody and within a limit.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::manifest::MAX_FILE_BYTES;
use crate::problem::Problem;

/// How old the last change of a file has to be before its time stamps tell whether there was another one. Clocks of file systems
/// tick in milliseconds, some in seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What tells a file's state from an earlier one without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a change after `now` is sure to give another stamp.
    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = u64::try_from(self.changed.0)
            .map_or(SystemTime::UNIX_EPOCH, |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        now.duration_since(changed).is_ok_and(|age| age > SETTLED_AFTER)
    }
}

/// What was found where a file was expected.
#[derive(Debug)]
pub(crate) enum Content {
    /// A file's bytes, and its stamp if that will tell of every later change.
    Bytes(Vec<u8>, Option<Stamp>),
    /// There is nothing, not even a link.
    Gone,
    /// There is a link that leads nowhere.
    DanglingLink,
    /// There is something that cannot be used.
    Unusable(Problem),
}

/// Reads the file. Only regular files are opened, and never in a way that waits: a pipe would wait for its writer.
pub(crate) fn read(file: &Path) -> Content {
    match try_read(file) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => match file.symlink_metadata() {
            Ok(_) => Content::DanglingLink,
            Err(_) => Content::Gone,
        },
        Err(error) => Content::Unusable(unreadable(file, &error)),
    }
}

fn try_read(path: &Path) -> io::Result<Content> {
    let metadata = path.metadata()?;
    if let Some(problem) = unfit(path, &metadata) {
        return Ok(Content::Unusable(problem));
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let mut file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    let now = SystemTime::now();
    // The path may lead to something else by now.
    let metadata = file.metadata()?;
    if let Some(problem) = unfit(path, &metadata) {
        return Ok(Content::Unusable(problem));
    }
    let Some(bytes) = bytes_within_limit(&mut file, metadata.len())? else {
        return Ok(Content::Unusable(too_large(path)));
    };
    let stamp = Stamp::of(&metadata);
    Ok(Content::Bytes(bytes, stamp.is_settled(now).then_some(stamp)))
}

/// The file's bytes, or `None` when there are more than the limit: a file can grow while it is read.
fn bytes_within_limit(file: &mut File, expected: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected.min(MAX_FILE_BYTES)).unwrap_or_default() + 1);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_FILE_BYTES).then_some(bytes))
}

fn unfit(path: &Path, metadata: &Metadata) -> Option<Problem> {
    let kind = metadata.file_type();
    let found = if kind.is_file() {
        return (metadata.len() > MAX_FILE_BYTES).then(|| too_large(path));
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Some(Problem::of_file(
        path,
        format!("has the name of a manifest but is {found}"),
        "rename it or put a file in its place",
    ))
}

fn too_large(path: &Path) -> Problem {
    let limit = MAX_FILE_BYTES / (1024 * 1024);
    Problem::of_file(path, format!("is larger than {limit} MiB"), "split it into smaller files")
}

/// The problem for a path that the operating system does not let us use.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Problem {
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        let message = "is a symbolic link that leads back to itself";
        return Problem::of_file(path, message, "let the link lead to a file or folder, or remove it");
    }
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => "allow the user that runs this program to read it",
        _ => "make it readable or remove it",
    };
    let message = format!("cannot be read: {error}");
    Problem::of_file(path, message, remedy)
}
