//! Processes in a pod's network namespace, with their output kept.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::sandbox::STATE_DIRECTORY;

/// A user id. In the sandbox every id below 65536 exists, also without root.
pub type Uid = u32;

/// What to run.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// Unique among the processes that run at the same time; names the log.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables in addition to the runner's.
    pub environment: Vec<(OsString, OsString)>,
    /// As whom. 0 is the sandbox's root.
    pub uid: Uid,
}

impl ProcessSpec {
    /// A program without arguments, run as the sandbox's root.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), program: program.into(), arguments: Vec::new(), environment: Vec::new(), uid: 0 }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// As whom to run.
    #[must_use]
    pub fn uid(mut self, uid: Uid) -> Self {
        self.uid = uid;
        self
    }
}

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts `spec` in the network namespace at `namespace`, or where the runner is.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(namespace: Option<&Path>, spec: &ProcessSpec) -> Result<Self> {
        let log = Path::new(STATE_DIRECTORY).join("log").join(format!("{}.log", spec.name));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = command(namespace, spec);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {}", spec.name))?;
        let pid = child.id().context("a process that was just started has an id")?;
        Ok(Self { name: spec.name.clone(), child, pid, log })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id in the sandbox.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has printed so far, of all processes that had this name.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last `lines` lines of [`log`](Self::log), for error messages.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let waited = tokio::time::timeout(limit, self.child.wait()).await;
        let status = waited.with_context(|| format!("{} has not ended within {limit:?}", self.name))?;
        Ok(status?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has already ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ensure!(self.child.id().is_some(), "{} has already ended", self.name);
        let pid = Pid::from_raw(i32::try_from(self.pid)?).context("a process id is not zero")?;
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// Asks it to end, and makes it end if it has not after `grace`.
    ///
    /// # Errors
    /// The system does not tell how it ended.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        match tokio::time::timeout(grace, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => self.kill().await,
        }
    }

    /// Kills it at once, as a crash would.
    ///
    /// # Errors
    /// The system does not tell how it ended.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.child.start_kill()?;
        Ok(self.child.wait().await?)
    }

    /// Runs `spec` to its end and returns how it ended and what it printed on standard output and standard error.
    ///
    /// # Errors
    /// It cannot be started, or has not ended after `limit`.
    pub async fn run(namespace: Option<&Path>, spec: &ProcessSpec, limit: Duration) -> Result<std::process::Output> {
        let mut command = command(namespace, spec);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(limit, command.output()).await;
        let output = output.with_context(|| format!("{} has not ended within {limit:?}", spec.name))?;
        output.with_context(|| format!("starting {}", spec.name))
    }
}

/// `nsenter` and `setpriv` replace themselves by what they run, so the child's id is the program's.
fn command(namespace: Option<&Path>, spec: &ProcessSpec) -> Command {
    let mut words: Vec<OsString> = Vec::new();
    if let Some(namespace) = namespace {
        let mut option = OsString::from("--net=");
        option.push(namespace);
        words.extend([OsString::from("nsenter"), option, "--".into()]);
    }
    if spec.uid != 0 {
        let uid = spec.uid.to_string();
        let options = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "--"];
        words.extend(options.map(OsString::from));
    }
    words.push(spec.program.as_os_str().to_owned());
    words.extend(spec.arguments.iter().cloned());
    let (program, arguments): (&OsStr, _) = (&words[0], &words[1..]);
    let mut command = Command::new(program);
    command.args(arguments);
    command.envs(spec.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Waits until `check` gives a value. Between two looks 5 milliseconds pass; `what` says what never came.
///
/// # Errors
/// Not within `limit`; the message holds the last thing `check` said instead.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut check: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A check that hangs must not make the deadline void.
        match tokio::time::timeout_at(deadline, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if tokio::time::Instant::now() >= deadline => {
                return Err(error.context(format!("{what}: not within {limit:?}")));
            }
            Ok(Err(_)) => {}
            Err(_) => anyhow::bail!("{what}: not within {limit:?}, and the last look did not end"),
        }
    }
}
