//! Control groups, below which the kubelet puts its pods.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::wait;

const ROOT: &str = "/sys/fs/cgroup";

/// The name of a cluster's control group.
pub(super) fn name(cluster: &str) -> String {
    format!("osm-cluster-{cluster}")
}

/// Makes it in each hierarchy: one with version 2, one for each controller with version 1.
pub(super) fn create(name: &str) -> Result<()> {
    let hierarchies = hierarchies()?;
    ensure!(!hierarchies.is_empty(), "no control groups are mounted below {ROOT}: mount them, a kubelet needs them");
    for hierarchy in hierarchies {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).with_context(|| format!("creating {}", group.display()))?;
        // A new group of this controller has no processors and no memory until it is told.
        for setting in ["cpuset.cpus", "cpuset.mems"] {
            if hierarchy.join("tasks").exists() && hierarchy.join(setting).exists() {
                fs::write(group.join(setting), fs::read(hierarchy.join(setting))?)?;
            }
        }
        let controllers = group.join("cgroup.subtree_control");
        if controllers.exists() {
            let all = fs::read_to_string(hierarchy.join("cgroup.controllers"))?;
            for place in [hierarchy.join("cgroup.subtree_control"), controllers] {
                for controller in all.split_whitespace() {
                    // Those that matter are missed by the kubelet, which names them.
                    let _ = fs::write(&place, format!("+{controller}"));
                }
            }
        }
    }
    Ok(())
}

/// Removes it, with everything below it.
pub(super) fn remove(name: &str) -> Result<()> {
    let root = Path::new(ROOT);
    // Also where only a runtime put something, such as the hierarchy of version 2 beside those of version 1.
    let mut places = vec![root.join(name)];
    for entry in fs::read_dir(root).with_context(|| format!("reading {ROOT}"))? {
        places.push(entry?.path().join(name));
    }
    for place in places {
        // Processes that were killed leave a little later.
        wait::blocking(wait::LIMIT, || remove_below(&place))?;
    }
    Ok(())
}

/// The processes of a container: the runtime names a control group after it.
pub(super) fn processes(container: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Processes end while we look.
        let Ok(groups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { continue };
        if groups.lines().any(|line| line.rsplit('/').next() == Some(container)) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn remove_below(group: &Path) -> Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", group.display()))
        }
        _ => Ok(()),
    }
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("reading {ROOT}"))? {
        let path = entry?.path();
        // A hierarchy of version 1 has tasks; the one of version 2 beside it has no controllers.
        if path.join("tasks").exists() {
            // Two names of one hierarchy are a link and a folder.
            found.push(fs::canonicalize(&path)?);
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
