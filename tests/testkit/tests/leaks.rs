//! Whatever way a run ends, nothing of it is left. This one runs without the test harness: it is its own runner, so that it can be killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use osm_intercept::InterceptConfig;
use osm_testkit::sandbox::{Side, enter};
use osm_testkit::{EnvoyBinary, EnvoySpec, Fabric, NEWEST_ENVOY, Signal, Workload, WorkloadSpec};

const HOLD: &str = "hold-until-standard-input-ends";
const LIMIT: Duration = Duration::from_secs(30);
const BOOTSTRAP: &str = r#"{"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":15000}}}}"#;

fn main() -> ExitCode {
    let outcome = if std::env::args().any(|argument| argument == HOLD) { hold() } else { check_all() };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// The run that is ended in different ways: a workload in the mesh, with everything that comes with it.
fn hold() -> Result<ExitCode> {
    if let Side::Outside(status) = enter()? {
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    tokio::runtime::Runtime::new()?.block_on(async {
        let fabric = Fabric::create().await?;
        let mut workload = Workload::start(&fabric, &WorkloadSpec::new("held", ["client"])).await?;
        let spec = EnvoySpec::new(EnvoyBinary::find(NEWEST_ENVOY)?, BOOTSTRAP);
        workload.join_mesh(&spec, &InterceptConfig::default())?.ready(LIMIT).await?;
        writeln!(std::io::stdout(), "holding")?;
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
        Ok(ExitCode::SUCCESS)
    })
}

fn check_all() -> Result<ExitCode> {
    let mut stdout = std::io::stdout();
    for (name, end) in [
        ("the run ends by itself", None),
        ("the runner is interrupted", Some(Signal::INT)),
        ("the runner is killed", Some(Signal::KILL)),
    ] {
        check(end).with_context(|| name.to_owned())?;
        writeln!(stdout, "test nothing_is_left_when: {name} ... ok")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(end: Option<Signal>) -> Result<()> {
    let before = Inventory::take()?;
    // Whoever runs in the background may have been told to ignore interrupts, and that is handed down.
    let mut runner = Command::new("env")
        .arg("--default-signal=INT")
        .arg(std::env::current_exe()?)
        .arg(HOLD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(runner.stdout.take().context("a pipe")?).read_line(&mut line)?;
    ensure!(line == "holding\n", "the run did not come up: {line:?}");

    let family = descendants(runner.id())?;
    let programs: BTreeSet<&str> = family.values().map(String::as_str).collect();
    for expected in ["osm-bookstore", "envoy"] {
        ensure!(programs.iter().any(|program| program.contains(expected)), "{expected} is not running: {programs:?}");
    }
    ensure!(Inventory::take()? == before, "the run is visible outside its sandbox");
    let _input = end_run(&mut runner, end)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let left: Vec<_> = family.keys().filter(|process| process.exists()).collect();
        if left.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "processes are left: {left:?}");
        std::thread::yield_now();
    }
    ensure!(Inventory::take()? == before, "something is left outside the sandbox");
    Ok(())
}

/// Returns the run's standard input: as long as it is open, a run that was not ended goes on.
fn end_run(runner: &mut Child, end: Option<Signal>) -> Result<Option<ChildStdin>> {
    // Waiting would close it, and the run would end by itself.
    let input = runner.stdin.take();
    let Some(signal) = end else {
        drop(input);
        let status = runner.wait()?;
        ensure!(status.success(), "the run failed: {status}");
        return Ok(None);
    };
    let pid = rustix::process::Pid::from_raw(i32::try_from(runner.id())?).context("a process id")?;
    rustix::process::kill_process(pid, signal)?;
    ensure!(!runner.wait()?.success());
    Ok(input)
}

/// What the host would show of a run that leaks.
#[derive(Debug, PartialEq, Eq)]
struct Inventory {
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    named_namespaces: BTreeSet<PathBuf>,
    rules: String,
}

impl Inventory {
    fn take() -> Result<Self> {
        let names = |directory: &str| -> Result<BTreeSet<PathBuf>> {
            match std::fs::read_dir(directory) {
                Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
                Err(error) => Err(error.into()),
            }
        };
        let links = names("/sys/class/net")?.iter().map(|path| path.display().to_string()).collect();
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let mut rules = String::new();
        for program in ["/usr/sbin/iptables-save", "/usr/sbin/ip6tables-save"] {
            let output = Command::new(program).output().with_context(|| program.to_owned())?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            rules.extend(text.lines().filter(|line| line.starts_with("-A")).map(|line| format!("{line}\n")));
        }
        Ok(Self {
            links,
            mounts: mounts.lines().map(ToOwned::to_owned).collect(),
            named_namespaces: names("/run/netns")?,
            rules,
        })
    }
}

/// A process that cannot be taken for a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ProcessKey {
    pid: u32,
    started: String,
}

impl ProcessKey {
    fn exists(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != "Z")
    }
}

struct Stat {
    name: String,
    state: String,
    parent: u32,
    started: String,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may hold anything, brackets included.
    let (head, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        state: (*fields.first()?).to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        started: (*fields.get(19)?).to_owned(),
    })
}

fn descendants(root: u32) -> Result<BTreeMap<ProcessKey, String>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(stat) = stat(pid) {
            all.insert(pid, stat);
        }
    }
    let mut family: BTreeSet<u32> = [root].into();
    loop {
        let size = family.len();
        family.extend(
            all.iter().filter(|(_, stat)| family.contains(&stat.parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if family.len() == size {
            break;
        }
    }
    ensure!(family.len() >= 5, "runner, setpriv or unshare, first process inside, application and sidecar: {family:?}");
    let mut keys = BTreeMap::new();
    for pid in family {
        let Some(stat) = all.get(&pid) else { bail!("process {pid} is gone already") };
        keys.insert(ProcessKey { pid, started: stat.started.clone() }, stat.name.clone());
    }
    Ok(keys)
}
