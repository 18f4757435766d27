//! The edge: running the kernel's tools in a network namespace.

use std::ffi::OsString;
use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::plan;
use crate::rules::{Family, FamilyRules, RuleSet};

/// Why the rules could not be changed. Nothing of a family is changed when its step fails: each is one transaction.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// A tool is not installed.
    #[error("{program} was not found: install the package iptables (util-linux for nsenter), or put it on PATH")]
    ProgramMissing {
        /// Its name.
        program: String,
    },
    /// The process may not change the packet filter.
    #[error(
        "{program} may not change the packet filter: run as root, or with the capability NET_ADMIN in this network namespace ({message})"
    )]
    NotPermitted {
        /// Which tool said so.
        program: String,
        /// The tool's words.
        message: String,
    },
    /// The tool refused the program, or the kernel lacks a feature.
    #[error("{program} failed ({status}): {message}")]
    Failed {
        /// Which tool.
        program: String,
        /// How it ended.
        status: String,
        /// The tool's words.
        message: String,
    },
    /// IPv6 is in use here and cannot be intercepted, so its traffic would bypass the mesh.
    #[error(
        "this network namespace has the IPv6 address {address}, but IPv6 cannot be intercepted, so its traffic would bypass the mesh: {reason}; make ip6tables and the kernel's IPv6 nat table available, or remove IPv6 from the workload"
    )]
    Ipv6Unprotected {
        /// An address that others can reach.
        address: String,
        /// What is missing.
        reason: String,
    },
    /// Starting or talking to a tool failed.
    #[error("running {program}: {source}")]
    Io {
        /// Which tool.
        program: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

/// What became of IPv6. IPv4 is always applied, or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipv6Outcome {
    /// The rules are in place.
    Applied,
    /// There is no IPv6 here, so there is nothing to intercept; the text says how that was seen.
    Absent(String),
}

/// What [`NetworkNamespace::apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What became of IPv6.
    pub ipv6: Ipv6Outcome,
}

impl fmt::Display for Applied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ipv6 {
            Ipv6Outcome::Applied => formatter.write_str("TCP is intercepted for IPv4 and IPv6"),
            Ipv6Outcome::Absent(reason) => {
                write!(formatter, "TCP is intercepted for IPv4; IPv6 is not in use here: {reason}")
            }
        }
    }
}

/// Where the rules go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// The one this process is in: what an init container uses.
    Current,
    /// The one that this file refers to, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    At(PathBuf),
}

impl NetworkNamespace {
    /// Puts `rules` in place of whatever an earlier run left. Applying twice is the same as applying once, and there is
    /// no moment between the old and the new rules of a family.
    ///
    /// # Errors
    /// A tool or the permission is missing, the kernel refuses, or IPv6 is in use but cannot be intercepted.
    pub fn apply(&self, rules: &RuleSet) -> Result<Applied, InterceptError> {
        // First what can fail for want of a tool or a permission, so that a workload is not left half intercepted. What IPv4 lacks is
        // the plainer report.
        let ipv4_before = self.saved(Family::Ipv4)?;
        let ipv6_before = self.saved(Family::Ipv6);
        if let Err(error) = &ipv6_before {
            self.require_no_ipv6(error)?;
        }
        self.restore(Family::Ipv4, &plan::install(&rules.ipv4, &ipv4_before))?;
        let ipv6 = match ipv6_before {
            Ok(saved) => self.install_ipv6(&rules.ipv6, &saved)?,
            Err(error) => Ipv6Outcome::Absent(error.to_string()),
        };
        Ok(Applied { ipv6 })
    }

    /// Takes everything of ours out, in both families. Others' rules stay, and so do the kernel's empty tables.
    ///
    /// # Errors
    /// A tool or the permission is missing, or the kernel refuses. A missing IPv6 tool is no error.
    pub fn remove(&self) -> Result<(), InterceptError> {
        if let Some(program) = plan::uninstall(&self.saved(Family::Ipv4)?) {
            self.restore(Family::Ipv4, &program)?;
        }
        match self.saved(Family::Ipv6) {
            Ok(saved) => plan::uninstall(&saved).map_or(Ok(()), |program| self.restore(Family::Ipv6, &program)),
            // Without the tools nothing of ours can have been put there.
            Err(InterceptError::ProgramMissing { .. } | InterceptError::Failed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether rules of ours are in place, for IPv4 or IPv6.
    ///
    /// # Errors
    /// The IPv4 table cannot be read.
    pub fn is_intercepted(&self) -> Result<bool, InterceptError> {
        let ipv6 = self.saved(Family::Ipv6).is_ok_and(|saved| plan::is_installed(&saved));
        Ok(plan::is_installed(&self.saved(Family::Ipv4)?) || ipv6)
    }

    fn install_ipv6(&self, rules: &FamilyRules, saved: &str) -> Result<Ipv6Outcome, InterceptError> {
        match self.restore(Family::Ipv6, &plan::install(rules, saved)) {
            Ok(()) => Ok(Ipv6Outcome::Applied),
            Err(error) => {
                self.require_no_ipv6(&error)?;
                Ok(Ipv6Outcome::Absent(error.to_string()))
            }
        }
    }

    /// `why` is acceptable only where no IPv6 address exists that anything but this machine could use.
    fn require_no_ipv6(&self, why: &InterceptError) -> Result<(), InterceptError> {
        match self.reachable_ipv6_address()? {
            Some(address) => Err(InterceptError::Ipv6Unprotected { address, reason: why.to_string() }),
            None => Ok(()),
        }
    }

    fn reachable_ipv6_address(&self) -> Result<Option<String>, InterceptError> {
        // A kernel without IPv6 has no such file: `cat` then fails, which is the answer "none".
        let output = self.run("cat", &["/proc/net/if_inet6"], None)?;
        Ok(global_ipv6_address(&String::from_utf8_lossy(&output.stdout)))
    }

    fn saved(&self, family: Family) -> Result<String, InterceptError> {
        let output = self.run(family.save_program(), &["-t", "nat"], None)?;
        let output = successful(family.save_program(), output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn restore(&self, family: Family, program: &str) -> Result<(), InterceptError> {
        // --wait matters to the variant of the tools that takes a lock; the other one accepts it.
        let output = self.run(family.restore_program(), &["--noflush", "--wait", "10"], Some(program))?;
        successful(family.restore_program(), output).map(drop)
    }

    fn run(&self, program: &str, arguments: &[&str], input: Option<&str>) -> Result<Output, InterceptError> {
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => InterceptError::ProgramMissing { program: program.to_owned() },
            _ => InterceptError::Io { program: program.to_owned(), source },
        };
        let mut command = self.command(program)?;
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(failed)?;
        if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
            // A tool that ends early closes its end: what it says on standard error is the better report.
            if let Err(error) = pipe.write_all(text.as_bytes())
                && error.kind() != ErrorKind::BrokenPipe
            {
                return Err(failed(error));
            }
        }
        child.wait_with_output().map_err(failed)
    }

    fn command(&self, program: &str) -> Result<Command, InterceptError> {
        let resolved = resolve(program)?;
        Ok(match self {
            Self::Current => Command::new(resolved),
            Self::At(path) => {
                let mut argument = OsString::from("--net=");
                argument.push(path);
                let mut command = Command::new(resolve("nsenter")?);
                command.arg(argument).arg("--").arg(resolved);
                command
            }
        })
    }
}

/// The tools live in `sbin`, which is not on every user's PATH. Looked for here, because what a failed execution says depends on which
/// directories of PATH may be read.
fn resolve(program: &str) -> Result<PathBuf, InterceptError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let always = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(always)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| InterceptError::ProgramMissing { program: program.to_owned() })
}

fn successful(program: &str, output: Output) -> Result<Output, InterceptError> {
    if output.status.success() {
        return Ok(output);
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let program = program.to_owned();
    Err(match output.status.code() {
        // What nsenter answers when the program disappeared meanwhile.
        Some(127) => InterceptError::ProgramMissing { program },
        _ if message.contains("Permission denied") || message.contains("Operation not permitted") => {
            InterceptError::NotPermitted { program, message }
        }
        _ => InterceptError::Failed { program, status: output.status.to_string(), message },
    })
}

/// The first address of global scope in the text of `/proc/net/if_inet6` (address, index, prefix length, scope, flags, interface).
fn global_ipv6_address(table: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, "00", _, interface] = fields.as_slice() else {
            return None;
        };
        let number = u128::from_str_radix(address, 16).ok()?;
        Some(format!("{} ({interface})", std::net::Ipv6Addr::from(number)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    #[test]
    fn only_global_addresses_count() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe80000000000000a8bbccfffeddee01 02 40 20 80     eth0\n";
        assert_eq!(global_ipv6_address(table), None);
        let table = format!("{table}fd000244000000000000000000000005 02 80 00 80     eth0\n");
        assert_eq!(global_ipv6_address(&table).as_deref(), Some("fd00:244::5 (eth0)"));
        assert_eq!(global_ipv6_address(""), None);
    }

    fn output(code: i32, stderr: &str) -> Output {
        Output { status: ExitStatus::from_raw(code << 8), stdout: Vec::new(), stderr: stderr.into() }
    }

    #[test]
    fn failures_say_what_to_do() {
        let denied = successful("iptables-save", output(4, "Fatal: Permission denied (you must be root)")).unwrap_err();
        assert!(denied.to_string().contains("NET_ADMIN"), "{denied}");
        let missing = successful("ip6tables-save", output(127, "")).unwrap_err();
        assert!(missing.to_string().contains("install the package iptables"), "{missing}");
        let refused = successful("iptables-restore", output(2, "line 4 failed")).unwrap_err();
        assert!(refused.to_string().contains("line 4 failed"), "{refused}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = NetworkNamespace::Current.run("iptables-of-nowhere", &[], None).unwrap_err();
        assert!(matches!(error, InterceptError::ProgramMissing { ref program } if program == "iptables-of-nowhere"));
    }
}
