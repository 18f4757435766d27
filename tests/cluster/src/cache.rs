//! Where built programs are kept: outside the checkout, each under a name that says which version it is.
//!
//! A folder is made in a scratch folder beside it and renamed when it is complete, and it holds a list of its files with their
//! sizes. So what an interrupted run left, or a disk lost, is noticed and made again; it never costs more than time.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest;

/// The list of a complete folder's files.
const COMPLETE: &str = ".complete";

/// The cache of this product: `osm-operator` below `XDG_CACHE_HOME`, or else below `~/.cache`.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_directory() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("set HOME or XDG_CACHE_HOME: programs are kept there")?.join("osm-operator"))
}

/// Hexadecimal digits of the SHA-256 of `parts`, each told apart from the next.
pub(crate) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    hexadecimal(context.finish().as_ref())
}

/// `bytes` in lower case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Makes `folder` by `make` unless it is there and complete. Processes that want the same folder wait for the first of them.
///
/// # Errors
/// The cache cannot be written, or `make` fails; then nothing is kept.
pub fn once(folder: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if is_complete(folder) {
        return Ok(());
    }
    let parent = folder.parent().context("a folder of the cache has a parent")?;
    let name = folder.file_name().context("a folder of the cache has a name")?.to_string_lossy();
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let lock = File::create(parent.join(format!(".{name}.lock")))?;
    // Let go by the system when this process ends, however it ends.
    lock.lock()?;
    if is_complete(folder) {
        return Ok(());
    }
    let scratch = parent.join(format!(".{name}.scratch"));
    remove(&scratch)?;
    fs::create_dir(&scratch)?;
    let made = make(&scratch).and_then(|()| seal(&scratch));
    if let Err(error) = made {
        remove(&scratch)?;
        return Err(error);
    }
    remove(folder)?;
    fs::rename(&scratch, folder).with_context(|| format!("putting {} into place", folder.display()))
}

/// Removes what is there, if anything.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn seal(folder: &Path) -> Result<()> {
    let list: String = files(folder, folder)?.iter().map(|(path, size)| format!("{size} {path}\n")).collect();
    fs::write(folder.join(COMPLETE), list)?;
    Ok(())
}

fn is_complete(folder: &Path) -> bool {
    let Ok(list) = fs::read_to_string(folder.join(COMPLETE)) else { return false };
    list.lines().all(|line| {
        let Some((size, path)) = line.split_once(' ') else { return false };
        fs::metadata(folder.join(path)).is_ok_and(|metadata| size == metadata.len().to_string())
    })
}

fn files(root: &Path, folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What links point to counts, not the links.
        let metadata = fs::metadata(entry.path())?;
        if metadata.is_dir() {
            found.extend(files(root, &entry.path())?);
        } else {
            let path = entry.path().strip_prefix(root)?.to_string_lossy().into_owned();
            found.push((path, metadata.len()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn write(folder: &Path, content: &str) -> Result<()> {
        fs::write(folder.join("program"), content)?;
        Ok(())
    }

    #[test]
    fn what_is_complete_is_kept_and_what_is_damaged_is_made_again() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("tool/1.0");
        once(&folder, |scratch| write(scratch, "first")).unwrap();
        once(&folder, |_| panic!("made twice")).unwrap();
        assert_eq!(fs::read_to_string(folder.join("program")).unwrap(), "first");

        fs::write(folder.join("program"), "half").unwrap();
        once(&folder, |scratch| write(scratch, "again")).unwrap();
        assert_eq!(fs::read_to_string(folder.join("program")).unwrap(), "again");

        fs::remove_file(folder.join("program")).unwrap();
        once(&folder, |scratch| write(scratch, "third")).unwrap();
        assert_eq!(fs::read_to_string(folder.join("program")).unwrap(), "third");
    }

    #[test]
    fn what_an_interrupted_or_failed_run_left_is_not_taken_for_the_result() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("tool/1.0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("program"), "half").unwrap();
        let scratch = cache.path().join("tool/.1.0.scratch");
        fs::create_dir_all(&scratch).unwrap();
        fs::write(scratch.join("rest"), "of another run").unwrap();

        once(&folder, |_| anyhow::bail!("no compiler")).unwrap_err();
        assert!(!scratch.exists());
        once(&folder, |scratch| write(scratch, "whole")).unwrap();
        assert_eq!(fs::read_to_string(folder.join("program")).unwrap(), "whole");
        assert!(!folder.join("rest").exists());
    }

    #[test]
    fn fingerprints_tell_parts_apart() {
        assert_ne!(fingerprint([b"ab".as_slice(), b"c"]), fingerprint([b"a".as_slice(), b"bc"]));
        assert_eq!(fingerprint([b"ab".as_slice()]).len(), 64);
    }
}
