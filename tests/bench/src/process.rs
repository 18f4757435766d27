//! A server under measurement as a process: started, steered, and read from `/proc`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::control::Command;

/// Which processor a process may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere.
    Free,
    /// On this core alone, so that the fleet on another core does not disturb it.
    Core(usize),
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    id: u32,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

/// How long a server may take to carry out one command.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A process is at rest when it used less than [`REST`] of processor time within this time.
const REST_WINDOW: Duration = Duration::from_millis(20);
/// See [`REST_WINDOW`].
const REST: Duration = Duration::from_micros(200);
/// A process that never rests is an error after this time.
const REST_LIMIT: Duration = Duration::from_secs(20);

impl ServerProcess {
    /// Starts `program` and waits until it listens.
    ///
    /// # Errors
    /// When it does not start, or says something else than the control protocol.
    pub async fn start(program: &Path, arguments: &[String], placement: Placement) -> anyhow::Result<Self> {
        let mut command = match placement {
            Placement::Free => tokio::process::Command::new(program),
            Placement::Core(core) => {
                let mut command = tokio::process::Command::new("taskset");
                command.args(["--cpu-list", &core.to_string()]).arg(program);
                command
            }
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let id = child.id().context("the server ended at once")?;
        let input = child.stdin.take().context("no standard input")?;
        let mut output = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let line = output.next_line().await?.with_context(|| format!("{} ended at once", program.display()))?;
        let address = line.strip_prefix("listening ").with_context(|| format!("unexpected first line {line:?}"))?;
        let address = address.parse().with_context(|| format!("address in {line:?}"))?;
        Ok(Self { child, id, input, output, address })
    }

    /// Where the server listens for proxies.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one command and waits until it was carried out.
    ///
    /// # Errors
    /// When the server refuses the command or is gone.
    pub async fn tell(&mut self, command: &Command) -> anyhow::Result<Option<serde_json::Value>> {
        self.input.write_all(format!("{command}\n").as_bytes()).await.context("the server does not read")?;
        let line = tokio::time::timeout(COMMAND_LIMIT, self.output.next_line())
            .await
            .with_context(|| format!("no answer to {command} within {COMMAND_LIMIT:?}"))??
            .with_context(|| format!("the server ended on {command}"))?;
        match line.split_once(' ') {
            None if line == "ok" => Ok(None),
            Some(("ok", answer)) => Ok(Some(serde_json::from_str(answer)?)),
            _ => bail!("{command}: {line}"),
        }
    }

    /// Processor time used so far by all its threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id))? {
            // A thread that ends meanwhile takes its time with it; the servers measured keep their threads.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let nanoseconds = text.split_ascii_whitespace().next().context("empty schedstat")?;
            total += nanoseconds.parse::<u64>().with_context(|| format!("schedstat {text:?}"))?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident(&self) -> anyhow::Result<u64> {
        resident(self.id)
    }

    /// Waits until the process is at rest and returns the processor time it used so far.
    ///
    /// # Errors
    /// When it does not come to rest.
    pub async fn rested(&self) -> anyhow::Result<Duration> {
        let resting = async {
            let mut before = self.processor_time()?;
            loop {
                tokio::time::sleep(REST_WINDOW).await;
                let now = self.processor_time()?;
                if now - before < REST {
                    return Ok(now);
                }
                before = now;
            }
        };
        tokio::time::timeout(REST_LIMIT, resting).await.context("the server does not come to rest")?
    }

    /// Ends the server and waits for it.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn end(self) -> anyhow::Result<()> {
        let Self { mut child, input, .. } = self;
        drop(input);
        if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
            child.kill().await?;
        }
        Ok(())
    }
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// It is gone.
pub fn resident(id: u32) -> anyhow::Result<u64> {
    memory(id, "VmRSS:")
}

/// The most resident memory that a process ever had, in bytes.
///
/// # Errors
/// It is gone.
pub fn peak(id: u32) -> anyhow::Result<u64> {
    memory(id, "VmHWM:")
}

fn memory(id: u32, field: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field} in status"))?;
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().with_context(|| format!("{field} {line:?}"))?;
    Ok(kib * 1024)
}
