//! The table for people, on standard output.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::record::{FlowRecord, StageRecord};
use super::story::Stage;

const WIDTHS: [usize; 4] = [14, 14, 17, 17];

/// Shows a run as it goes. What is about to be overwritten is shown on terminals only.
#[derive(Debug)]
pub struct View {
    terminal: bool,
}

impl Default for View {
    fn default() -> Self {
        Self { terminal: std::io::stdout().is_terminal() }
    }
}

impl View {
    /// Says what is being done.
    pub fn say(&self, text: &str) {
        self.line(text);
    }

    pub(super) fn stage(&self, number: usize, of: usize, stage: &Stage) {
        self.line(&format!("\nstage {number} of {of}: {} (manifests of {})", stage.name, stage.folder));
        self.line(&row(["FROM", "TO", "PATH", "EXPECTED", "OBSERVED"]));
    }

    /// How many flows are as expected by now.
    pub(super) fn waiting(&self, as_expected: usize, of: usize, since: Duration) {
        if self.terminal {
            self.raw(&format!("\r\x1b[K  {as_expected} of {of} flows as expected after {:.1} s", since.as_secs_f64()));
        }
    }

    pub(super) fn checking(&self, attempts: u32) {
        if self.terminal {
            self.raw(&format!("\r\x1b[K  enforced; checking with {attempts} attempts"));
        }
    }

    pub(super) fn flows(&self, stage: &StageRecord) {
        if self.terminal {
            self.raw("\r\x1b[K");
        }
        for flow in &stage.flows {
            self.flow(flow);
        }
        match stage.seconds_to_enforce {
            Some(seconds) => self.line(&format!("  enforced {seconds:.2} s after the manifests were applied")),
            None => self.line("  not enforced in time"),
        }
    }

    fn flow(&self, flow: &FlowRecord) {
        let mark = match (flow.ok, self.terminal) {
            (true, true) => "\x1b[32mok\x1b[0m",
            (true, false) => "ok",
            (false, true) => "\x1b[31mWRONG\x1b[0m",
            (false, false) => "WRONG",
        };
        let FlowRecord { from, to, path, expected, observed, .. } = flow;
        self.line(&format!("{}  {mark}", row([from, to, path, expected, observed])));
    }

    fn line(&self, text: &str) {
        self.raw(&format!("{text}\n"));
    }

    /// A reader that went away is no error.
    fn raw(&self, text: &str) {
        let mut output = std::io::stdout().lock();
        let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    }
}

fn row(cells: [&str; 5]) -> String {
    let mut text = String::from("  ");
    for (cell, width) in cells.iter().zip(WIDTHS) {
        text.push_str(&format!("{cell:width$} "));
    }
    text + cells[4]
}
