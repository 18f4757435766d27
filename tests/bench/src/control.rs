//! The line protocol by which a run steers a server under measurement, whatever language it is written in.
//!
//! The server prints `listening ADDRESS` once. Then each line on its standard input is one [`Command`], answered by one
//! line: `ok`, `ok {"json": "object"}` or `error TEXT`. An answer means that the change was handed to every stream.
//! End of input ends the server.

use std::io::{BufRead, Write};
use std::str::FromStr;

use crate::world::Revision;

/// Which resource of a service a change touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// The service's cluster.
    Cluster,
    /// The service's endpoints.
    Endpoints,
}

/// One instruction to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `services N`: hold services 0 to N-1, new ones at revision 0, as one change.
    Services(u32),
    /// `change clusters|endpoints FIRST COUNT REVISION`: set these services' resource to a revision, as one change.
    Change {
        /// Which resource.
        kind: ResourceKind,
        /// First service.
        first: u32,
        /// Number of services.
        count: u32,
        /// The revision they get.
        revision: Revision,
    },
    /// `rebuild`: build every resource again from the same input and publish it: an edit that changes nothing.
    Rebuild,
    /// `counters`: answer with the server's own counters.
    Counters,
}

impl std::fmt::Display for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Services(count) => write!(formatter, "services {count}"),
            Self::Change { kind, first, count, revision } => {
                let kind = match kind {
                    ResourceKind::Cluster => "clusters",
                    ResourceKind::Endpoints => "endpoints",
                };
                write!(formatter, "change {kind} {first} {count} {revision}")
            }
            Self::Rebuild => formatter.write_str("rebuild"),
            Self::Counters => formatter.write_str("counters"),
        }
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |word: &str| word.parse::<u32>().map_err(|error| format!("{word:?} in {line:?}: {error}"));
        match words.as_slice() {
            ["services", count] => Ok(Self::Services(number(count)?)),
            ["change", kind, first, count, revision] => {
                let kind = match *kind {
                    "clusters" => ResourceKind::Cluster,
                    "endpoints" => ResourceKind::Endpoints,
                    other => return Err(format!("change {other:?}: expected clusters or endpoints")),
                };
                let (first, count, revision) = (number(first)?, number(count)?, number(revision)?);
                Ok(Self::Change { kind, first, count, revision })
            }
            ["rebuild"] => Ok(Self::Rebuild),
            ["counters"] => Ok(Self::Counters),
            _ => Err(format!("unknown command {line:?}")),
        }
    }
}

/// What a server does with its commands. The answer's text follows `ok`.
pub trait Steered {
    /// Carries out one command.
    ///
    /// # Errors
    /// A text that says what cannot be done.
    fn carry_out(&mut self, command: &Command) -> Result<Option<serde_json::Value>, String>;
}

/// Announces `address` and serves commands from standard input until it ends. Blocks the calling thread.
///
/// # Errors
/// When standard input or output fails.
pub fn serve_commands(address: std::net::SocketAddr, steered: &mut impl Steered) -> std::io::Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "listening {address}")?;
    output.flush()?;
    for line in std::io::stdin().lock().lines() {
        match line?.parse().and_then(|command| steered.carry_out(&command)) {
            Ok(None) => writeln!(output, "ok")?,
            Ok(Some(answer)) => writeln!(output, "ok {answer}")?,
            Err(error) => writeln!(output, "error {error}")?,
        }
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        for command in [
            Command::Services(1000),
            Command::Change { kind: ResourceKind::Cluster, first: 3, count: 1, revision: 9 },
            Command::Change { kind: ResourceKind::Endpoints, first: 0, count: 100, revision: 1 },
            Command::Rebuild,
            Command::Counters,
        ] {
            assert_eq!(command.to_string().parse(), Ok(command));
        }
        assert!("change listeners 1 1 1".parse::<Command>().is_err());
        assert!("services many".parse::<Command>().is_err());
    }
}
