//! The namespaces of a cluster, and the programs in them.
//!
//! A process namespace ends with its first process, and everything in it is killed by the system. So a cluster cannot leave a shim,
//! a mount or a network namespace behind, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Lifetime, remove_file};
use crate::daemon;
use crate::tools::run;
use crate::wait::{self, Hopeless};

/// Marks the first process of a cluster, with its folder as the next argument.
const MARK: &str = "osm-cluster-holder";

/// The first process. It prepares the namespaces, and collects processes that ended.
///
/// `/run`, `/var/log` and the places below `/var/lib` that programs insist on are the cluster's own, so what is written there goes with it. The kernel settings that a
/// kubelet insists on are files of ours with the values that it wants, so it does not change the host's.
const FIRST: &str = r#"
set -eu
folder=$1
mount -t proc proc /proc
for own in /run /var/log /var/lib/cni /var/lib/kubelet; do
    mkdir -p "$own"
    mount -t tmpfs -o mode=755 tmpfs "$own"
done
mkdir -p /run/netns /run/lock "$folder/settings"
while read -r setting value; do
    [ -e "/proc/sys/$setting" ] || continue
    file=$folder/settings/$(echo "$setting" | tr / -)
    echo "$value" >"$file"
    mount --bind "$file" "/proc/sys/$setting"
done <<SETTINGS
kernel/keys/root_maxbytes 25000000
kernel/keys/root_maxkeys 1000000
kernel/panic 10
kernel/panic_on_oops 1
vm/overcommit_memory 1
vm/panic_on_oom 0
SETTINGS
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
touch "$folder/holder-ready"
while true; do
    sleep 1000000 &
    wait
done
"#;

/// Starts a program in the background, and prints its id in the cluster's process namespace.
const START: &str = r#"log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!"#;

/// The first process of a cluster that runs, seen from the host.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    folder: PathBuf,
    pid: u32,
}

impl Holder {
    pub(super) fn start(folder: &Path, lifetime: Lifetime) -> Result<Self> {
        let log = fs::File::create(folder.join("holder.log"))?;
        let mut words: Vec<&str> = Vec::new();
        if lifetime == Lifetime::Owned {
            words.extend(["setpriv", "--pdeathsig", "KILL", "--"]);
        }
        words.extend(["setsid", "unshare", "--mount", "--propagation", "private", "--net", "--ipc", "--uts", "--pid"]);
        words.extend(["--fork", "--kill-child", "--", "sh", "-c", FIRST, MARK]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(folder).current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = daemon::spawn(command).context("starting the cluster's namespaces")?;
        let ready = folder.join("holder-ready");
        let holder = wait::blocking(wait::LIMIT, || {
            if let Some(status) = child.try_wait()? {
                let words = daemon::tail(&folder.join("holder.log"));
                return Err(Hopeless(format!("the namespaces cannot be made ({status}): {words}")).into());
            }
            ensure!(ready.exists(), "the namespaces are not ready");
            Self::find(folder)?.context("the first process is not there")
        })?;
        // Whoever waits for children of this process collects it; nothing is lost if nobody does.
        std::thread::spawn(move || child.wait());
        Ok(holder)
    }

    /// The one that runs for a cluster's folder.
    pub(super) fn find(folder: &Path) -> Result<Option<Self>> {
        let first = marked(folder)?.into_iter().find(|pid| id_inside(*pid) == Some(1));
        Ok(first.map(|pid| Self { folder: folder.to_owned(), pid }))
    }

    /// Kills the first process, and with it all others, and waits until they are gone.
    pub(super) fn end(folder: &Path) -> Result<()> {
        for pid in marked(folder)? {
            let Ok(started) = daemon::start_time(pid) else { continue };
            kill(pid)?;
            // The first process is gone only after all others.
            daemon::wait_gone(pid, started, wait::LIMIT)?;
        }
        Ok(())
    }

    /// Its id on the host.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs `program` in all namespaces of the cluster.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--mount", "--net", "--ipc", "--uts", "--pid", "--", program]);
        command
    }

    /// Starts a program of the cluster. It runs on when this process ends; what it prints goes to `NAME.log`.
    pub(super) fn start_program(&self, name: &str, program: &Path, arguments: &[String]) -> Result<()> {
        ensure!(self.started(name)?.is_none(), "{name} runs already");
        let mut command = self.command("sh");
        command.args(["-c", START, "sh"]).arg(self.log(name)).arg(program).args(arguments);
        let pid = run(&mut command).with_context(|| format!("starting {name}"))?;
        let pid: u32 = pid.trim().parse().context("the shell prints the id of what it started")?;
        fs::write(self.record(name), format!("{pid} {}", self.start_time(pid).unwrap_or(0)))?;
        Ok(())
    }

    /// Kills a program of the cluster at once, and waits until it is gone.
    pub(super) fn kill(&self, name: &str) -> Result<()> {
        let Some(pid) = self.started(name)? else { bail!("{name} does not run") };
        run(self.command("sh").args(["-c", "kill -KILL \"$1\"", "sh", &pid.to_string()]))?;
        wait::blocking(wait::LIMIT, || {
            ensure!(self.started(name)?.is_none(), "{name} still runs");
            Ok(())
        })?;
        remove_file(&self.record(name))
    }

    /// An error that is [`Hopeless`] if the program has ended.
    pub(super) fn require_alive(&self, name: &str) -> Result<()> {
        if self.started(name)?.is_none() {
            let words = daemon::tail(&self.log(name));
            return Err(Hopeless(format!("{name} has ended; its last words:\n{words}")).into());
        }
        Ok(())
    }

    /// The id, inside, of a program that runs.
    fn started(&self, name: &str) -> Result<Option<u32>> {
        let record = match fs::read_to_string(self.record(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            record => record?,
        };
        let (pid, started) = record.split_once(' ').context("a record holds an id and a time")?;
        let (pid, started): (u32, u64) = (pid.parse()?, started.parse()?);
        Ok(self.start_time(pid).is_ok_and(|time| time == started).then_some(pid))
    }

    /// As [`daemon::start_time`], of an id inside.
    fn start_time(&self, pid: u32) -> Result<u64> {
        daemon::start_time_in(&PathBuf::from(format!("/proc/{}/root/proc", self.pid)), pid)
    }

    fn record(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pid"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }
}

/// The processes that are marked with the folder: `unshare`, which waits, and the first process. The first comes last, so that whoever
/// kills them in this order sees both end.
fn marked(folder: &Path) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Processes end while we look.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split('\0').collect();
        if words.windows(2).any(|words| words[0] == MARK && Path::new(words[1]) == folder) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The id of a process in its own namespace.
fn id_inside(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let mut ids = ids.split_whitespace();
    // On the host there is one; a process of another namespace has one more.
    ids.next()?;
    ids.next_back()?.parse().ok()
}

/// Kills a process of the host's at once, unless it has ended.
pub(super) fn kill(pid: u32) -> Result<()> {
    let id = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("a process id is positive")?;
    match rustix::process::kill_process(id, rustix::process::Signal::KILL) {
        Err(error) if error != rustix::io::Errno::SRCH => Err(error).with_context(|| format!("killing process {pid}")),
        _ => Ok(()),
    }
}
