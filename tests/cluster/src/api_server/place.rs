//! An address and a folder that nobody else has.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::cache::remove;
use crate::daemon;

/// A port at which nothing else listens. Whoever has it has the address.
const GUARD: u16 = 6400;
/// How many addresses there are to choose from: those of 127.66.0.0/16 whose last two numbers are 1 to 250.
const SIDE: u32 = 250;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// An address of the loopback interface, all ports of which are ours, and an empty folder. Both are given up when this is dropped;
/// of what a killed process left, the system frees the address and the next process the folder.
#[derive(Debug)]
pub(super) struct Place {
    address: Ipv4Addr,
    folder: PathBuf,
    _guard: TcpListener,
}

impl Place {
    pub(super) fn find() -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let first = process::id().wrapping_mul(31).wrapping_add(number);
        let (address, guard) = (0..SIDE * SIDE)
            .find_map(|step| {
                let address = address(first.wrapping_add(step) % (SIDE * SIDE));
                TcpListener::bind((address, GUARD)).ok().map(|guard| (address, guard))
            })
            .context("no address of 127.66.0.0/16 is free, or the loopback interface is down")?;
        let parent = std::env::temp_dir().join("osm-api-servers");
        fs::create_dir_all(&parent)?;
        sweep(&parent)?;
        let owner = process::id();
        let folder = parent.join(format!("{owner}-{}-{number}", daemon::start_time(owner)?));
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(Self { address, folder, _guard: guard })
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays is removed by the next that starts.
        let _ = remove(&self.folder);
    }
}

fn address(number: u32) -> Ipv4Addr {
    let byte = |number: u32| u8::try_from(number % SIDE + 1).expect("numbers below 251 fit");
    Ipv4Addr::new(127, 66, byte(number / SIDE), byte(number))
}

/// Removes the folders of processes that are gone.
fn sweep(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut numbers = name.split('-');
        let owner =
            numbers.next().and_then(|pid| pid.parse().ok()).zip(numbers.next().and_then(|time| time.parse().ok()));
        if owner.is_some_and(|(pid, started)| !daemon::is_running(pid, started)) {
            remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn places_are_different_and_leave_nothing() {
        let (first, second) = (Place::find().unwrap(), Place::find().unwrap());
        assert_ne!(first.address(), second.address());
        let folders = [first.folder().to_owned(), second.folder().to_owned()];
        assert_ne!(folders[0], folders[1]);
        assert!(folders.iter().all(|folder| folder.is_dir()));
        drop((first, second));
        assert!(folders.iter().all(|folder| !folder.exists()));
    }

    #[test]
    fn folders_of_the_dead_are_removed() {
        let dead = std::env::temp_dir().join("osm-api-servers").join(format!("{}-1-0", process::id()));
        fs::create_dir_all(&dead).unwrap();
        let place = Place::find().unwrap();
        assert!(!dead.exists(), "this process did not start one tick after the machine");
        assert!(place.folder().exists());
    }
}
