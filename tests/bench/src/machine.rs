//! What a run was made on.

use serde::Serialize;

/// The machine of a run, in the words of its kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Processor model.
    pub processor: String,
    /// Number of processors.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// Load average of the last minute when the run began and when it ended: what else the machine was doing.
    pub load: [String; 2],
}

fn first_line_after(text: &str, prefix: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(prefix))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Load average of the last minute, as text.
#[must_use]
pub fn load() -> String {
    read("/proc/loadavg").split_ascii_whitespace().next().unwrap_or("unknown").to_owned()
}

impl Machine {
    /// Reads what this machine is.
    #[must_use]
    pub fn of(load_at_start: String) -> Self {
        let memory = first_line_after(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib = memory.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        Self {
            processor: first_line_after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib.unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: [load_at_start, load()],
        }
    }
}
