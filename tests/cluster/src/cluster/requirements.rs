//! What a cluster needs of the machine.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::Tier;

/// Where Debian puts the programs that give pods their network.
pub(super) const CNI_PROGRAMS: &str = "/usr/lib/cni";

const ALWAYS: [&str; 6] = ["ip", "mount", "nsenter", "setpriv", "setsid", "unshare"];
const FOR_A_NODE: [&str; 6] = ["conntrack", "containerd", "ctr", "iptables", "iptables-restore", "runc"];

/// Says what is missing, and how to get it.
pub(super) fn check(tier: Tier) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a cluster needs root: it makes namespaces, mounts and control groups"
    );
    let programs = match tier {
        Tier::ApiServer => ALWAYS.to_vec(),
        Tier::Whole => [ALWAYS, FOR_A_NODE].concat(),
    };
    let mut missing: Vec<String> = programs.into_iter().filter(|name| !is_on_path(name)).map(str::to_owned).collect();
    if tier == Tier::Whole {
        let plugins = ["host-local", "loopback", "portmap", "ptp"].map(|name| format!("{CNI_PROGRAMS}/{name}"));
        missing.extend(plugins.into_iter().filter(|path| !Path::new(path).exists()));
    }
    ensure!(missing.is_empty(), "missing on this machine: {}; run hack/setup --cluster as root", missing.join(", "));
    Ok(())
}

fn is_on_path(name: &str) -> bool {
    let look = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", name]).stdout(Stdio::null()).status();
    look.is_ok_and(|status| status.success())
}
