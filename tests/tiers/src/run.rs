//! Running one test program.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::build::{Program, cargo};

/// How many tests a test program runs at the same time.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How the tests are called in print.
    pub(crate) label: String,
    /// Tests that passed.
    pub(crate) passed: u32,
    /// Tests that failed.
    pub(crate) failed: u32,
    /// Whether the program ended as a test program does whose tests passed.
    pub(crate) success: bool,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Runs a test program where cargo would, with so many of its tests at the same time for each core.
pub(crate) fn program(program: &Program, tests_per_core: usize) -> Outcome {
    let mut command = Command::new(&program.executable);
    command.current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
    command.env("CARGO_PKG_NAME", &program.package);
    // Who runs the tests may have said it.
    if std::env::var_os(TEST_THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        command.env(TEST_THREADS, (cores * tests_per_core).to_string());
    }
    count(program.label(), command, std::io::stdout())
}

/// Runs the examples in documentation.
pub(crate) fn doc_tests() -> Outcome {
    let mut command = cargo();
    command.args(["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    count("documentation".to_owned(), command, std::io::stdout())
}

/// Runs the command, shows what it says and adds up its counts.
fn count(label: String, mut command: Command, mut shown: impl Write) -> Outcome {
    let start = Instant::now();
    let mut outcome = Outcome { label, passed: 0, failed: 0, success: false, took: Duration::ZERO };
    // Nothing is to be done about a reader that is gone.
    let _ = writeln!(shown, "\n     Running {}", outcome.label);
    match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(mut child) => {
            for line in
                child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok)
            {
                if let Some((passed, failed)) = result_line(&line) {
                    outcome.passed += passed;
                    outcome.failed += failed;
                }
                let _ = writeln!(shown, "{line}");
            }
            outcome.success = child.wait().is_ok_and(|status| status.success());
        }
        Err(error) => drop(writeln!(shown, "cannot be run: {error}")),
    }
    outcome.took = start.elapsed();
    outcome
}

/// Passed and failed, from the line with which a test program ends.
fn result_line(line: &str) -> Option<(u32, u32)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| -> Option<u32> {
        counts.split("; ").find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
    };
    Some((count("passed")?, count("failed")?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_read() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.20s";
        assert_eq!(result_line(line), Some((12, 0)));
        let line = "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(result_line(line), Some((2, 3)));
        assert_eq!(result_line("test a::b ... ok"), None);
    }

    #[test]
    fn a_program_that_cannot_be_run_has_failed() {
        let outcome = count("nothing".to_owned(), Command::new("/nonexistent/program"), Vec::new());
        assert!(!outcome.success);
        assert_eq!((outcome.passed, outcome.failed), (0, 0));
    }

    #[test]
    fn what_a_program_says_is_added_up() {
        let mut command = Command::new("sh");
        let line = "test result: ok. 4 passed; 1 failed; 0 ignored";
        command.args(["-c", &format!("echo '{line}'; echo '{line}'; exit 1")]);
        let mut shown = Vec::new();
        let outcome = count("twice".to_owned(), command, &mut shown);
        assert_eq!((outcome.passed, outcome.failed, outcome.success), (8, 2, false));
        assert_eq!(String::from_utf8(shown).unwrap(), format!("\n     Running twice\n{line}\n{line}\n"));
    }
}
