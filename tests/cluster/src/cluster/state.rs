//! What is known of a cluster outside the process that started it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Lifetime, Tier, cgroups, network};
use crate::cache;
use crate::cluster::holder::Holder;
use crate::control_plane::ControlPlane;
use crate::daemon;
use crate::tools::KubernetesVersion;

/// Clusters need root, so this is writable. Not below /run, which may be small: images are unpacked here.
const CLUSTERS: &str = "/var/lib/osm-operator/clusters";
/// Folders on which the first process of a cluster mounts what is its own, and which are there for nothing else.
const MOUNTED: [&str; 2] = ["/var/lib/cni", "/var/lib/kubelet"];
/// In a cluster's folder: who owns it, and its number.
const CLAIM: &str = "claim.json";
const STATE: &str = "state.json";

/// What [`State::read`] gives back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) index: u8,
    pub(super) version: KubernetesVersion,
    pub(super) tier: Tier,
    pub(super) control_plane: ControlPlane,
}

impl State {
    pub(super) fn write(&self, place: &Place) -> Result<()> {
        Ok(fs::write(place.folder().join(STATE), serde_json::to_vec_pretty(self)?)?)
    }

    pub(super) fn read(place: &Place) -> Result<Self> {
        let text = fs::read_to_string(place.folder().join(STATE));
        let text = text.with_context(|| format!("the cluster {} was never whole", place.name()))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Written first thing, so that whatever happens afterwards can be undone.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claim {
    index: u8,
    /// The process with which it ends: id and start time.
    owner: Option<(u32, u64)>,
}

/// The folder of a cluster, and the number from which its addresses follow.
#[derive(Debug, Clone)]
pub(super) struct Place {
    name: String,
    folder: PathBuf,
    index: u8,
}

impl Place {
    /// A new place, after everything that belongs to the dead was removed.
    pub(super) fn take(name: &str, lifetime: Lifetime) -> Result<Self> {
        check_name(name)?;
        let clusters = Path::new(CLUSTERS);
        fs::create_dir_all(clusters).with_context(|| format!("creating {CLUSTERS}"))?;
        // One at a time, or two would take the same number.
        let lock = File::create(clusters.join(".lock"))?;
        lock.lock()?;
        let mut taken = Vec::new();
        for other in names()? {
            let place = Self::of(&other)?;
            let claim = place.claim();
            let dead = claim
                .as_ref()
                .is_none_or(|claim| claim.owner.is_some_and(|(pid, started)| !daemon::is_running(pid, started)));
            // One that was kept and died with the machine would never be anybody's.
            let dead = dead || (other == name && Holder::find(place.folder())?.is_none());
            if dead {
                remove(&place)?;
                continue;
            }
            ensure!(other != name, "the cluster {name} runs already; end it by osm-cluster down --name {name}");
            taken.push(place.index);
        }
        let index = (1..=250).find(|index| !taken.contains(index)).context("250 clusters run on this machine")?;
        let owner = match lifetime {
            Lifetime::Owned => Some((process::id(), daemon::start_time(process::id())?)),
            Lifetime::Kept => None,
        };
        let place = Self { name: name.to_owned(), folder: clusters.join(name), index };
        fs::create_dir(&place.folder)?;
        fs::write(place.folder.join(CLAIM), serde_json::to_vec(&Claim { index, owner })?)?;
        Ok(place)
    }

    /// The one of a cluster that is there.
    pub(super) fn of(name: &str) -> Result<Self> {
        check_name(name)?;
        let folder = Path::new(CLUSTERS).join(name);
        ensure!(folder.is_dir(), "there is no cluster {name}; osm-cluster status lists those that there are");
        let mut place = Self { name: name.to_owned(), folder, index: 0 };
        place.index = place.claim().map_or(0, |claim| claim.index);
        Ok(place)
    }

    fn claim(&self) -> Option<Claim> {
        serde_json::from_slice(&fs::read(self.folder.join(CLAIM)).ok()?).ok()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn index(&self) -> u8 {
        self.index
    }
}

/// The names of all clusters, in order.
pub(super) fn names() -> Result<Vec<String>> {
    let entries = match fs::read_dir(CLUSTERS) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Ends what runs of a cluster, and removes what it left on the host. The folder goes last, so that what failed can be tried again.
pub(super) fn remove(place: &Place) -> Result<()> {
    Holder::end(place.folder())?;
    if place.index != 0 {
        network::disconnect(place.index)?;
    }
    cgroups::remove(&cgroups::name(&place.name))?;
    cache::remove(&place.folder)
}

/// As [`remove`], and then also the empty folders on which the last cluster of the machine had mounted its own.
pub(super) fn remove_and_tidy(place: &Place) -> Result<()> {
    remove(place)?;
    let lock = File::create(Path::new(CLUSTERS).join(".lock"))?;
    // Whoever starts one now needs them.
    if lock.try_lock().is_ok() && names()?.is_empty() {
        for mounted in MOUNTED {
            // Not empty: somebody else's.
            let _ = fs::remove_dir(mounted);
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let length = (1..=20).contains(&name.len());
    ensure!(
        length && name.bytes().all(good),
        "{name:?} cannot be the name of a cluster: use up to 20 small letters, digits and dashes"
    );
    Ok(())
}
