//! Programs that run beside this one, and end when it does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::wait::{self, Hopeless};

/// How much of a log goes into an error.
const TAIL: usize = 15;

/// A program that runs. It is killed when this is dropped, and by the system when this process ends.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program`; what it prints goes to the end of `log`.
    pub(crate) fn start(name: &str, program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        // Replaces itself by the program, so the child's id is the program's.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawn(command).with_context(|| format!("starting {name} ({})", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// An error that is [`Hopeless`] if it has ended.
    pub(crate) fn require_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let tail = tail(&self.log);
            return Err(Hopeless(format!("{} has ended ({status}); its last words:\n{tail}", self.name)).into());
        }
        Ok(())
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing can be done about a process that cannot be killed.
        let _ = self.kill();
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// Starts a command on a thread that never ends. The system kills what asked for it when the *thread* that started it ends, and
/// threads of tests end long before their process does.
pub(crate) fn spawn(command: Command) -> Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, receiver) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in receiver {
                // Nobody may be waiting any more; then the child is dropped, and dies with this process.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = channel();
    starter.send((command, reply)).ok().context("the thread that starts programs runs as long as this process")?;
    Ok(answer.recv()??)
}

/// Whether a process of that id and start time runs. Ids are used again, so the time belongs to the identity.
pub(crate) fn is_running(pid: u32, started: u64) -> bool {
    start_time(pid).is_ok_and(|time| time == started)
}

/// When a process started, in ticks since the machine did.
pub(crate) fn start_time(pid: u32) -> Result<u64> {
    start_time_in(Path::new("/proc"), pid)
}

/// As [`start_time`], of a process of the namespace whose `/proc` is at `proc`.
pub(crate) fn start_time_in(proc: &Path, pid: u32) -> Result<u64> {
    let stat =
        std::fs::read_to_string(proc.join(format!("{pid}/stat"))).with_context(|| format!("no process {pid}"))?;
    // The name in brackets may hold anything; the 20th word after it is the time.
    let (_, words) = stat.rsplit_once(')').context("a process has a name")?;
    let mut words = words.split_whitespace();
    ensure!(words.next() != Some("Z"), "process {pid} has ended");
    words.nth(18).and_then(|word| word.parse().ok()).context("a process has a start time")
}

/// Waits until the process is gone.
pub(crate) fn wait_gone(pid: u32, started: u64, limit: Duration) -> Result<()> {
    wait::blocking(limit, || {
        ensure!(!is_running(pid, started), "process {pid} still runs");
        Ok(())
    })
}
