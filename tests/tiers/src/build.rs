//! The test programs, built by cargo.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A program that runs tests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Program {
    /// Package it belongs to.
    pub(crate) package: String,
    /// Library, binary or test file it is made from.
    pub(crate) target: String,
    /// Whether it is made from a file of `tests/`, not from unit tests.
    pub(crate) integration: bool,
    /// Where it is.
    pub(crate) executable: PathBuf,
    /// Folder of its package, in which cargo would run it.
    pub(crate) folder: PathBuf,
}

impl Program {
    /// How it is called in print.
    pub(crate) fn label(&self) -> String {
        let part = if self.integration { "tests/" } else { "" };
        format!("{} {part}{}", self.package, self.target)
    }
}

/// The cargo that runs us, or the one on PATH.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds all test programs and says what they are, sorted.
///
/// # Errors
/// Cargo cannot be run, or the build failed; cargo has said why.
pub(crate) fn programs() -> Result<Vec<Program>, String> {
    // Programs that tests start (the operator, the applications) are built by the first, test programs by the second.
    let built = cargo().args(["build", "--locked", "--workspace", "--all-targets"]).status();
    if !built.map_err(|error| format!("cargo cannot be run: {error}"))?.success() {
        return Err("the workspace does not build".to_owned());
    }
    let mut child = cargo()
        .args(["test", "--locked", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    let packages = packages()?;
    let stdout = child.stdout.take().ok_or("cargo says nothing")?;
    let mut programs = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| format!("cargo cannot be read: {error}"))?;
        if let Some(program) = serde_json::from_str(&line).ok().and_then(|message| program(&message, &packages)) {
            programs.push(program);
        }
    }
    let built = child.wait().map_err(|error| format!("cargo cannot be waited for: {error}"))?;
    if !built.success() {
        return Err("the tests do not build".to_owned());
    }
    programs.sort();
    Ok(programs)
}

/// Name and folder of each package, by its id.
fn packages() -> Result<BTreeMap<String, (String, PathBuf)>, String> {
    let output = cargo().args(["metadata", "--locked", "--no-deps", "--format-version", "1"]).output();
    let output = output.map_err(|error| format!("cargo cannot be run: {error}"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata cannot be read: {error}"))?;
    let packages = metadata["packages"].as_array().into_iter().flatten().filter_map(|package| {
        let folder = PathBuf::from(package["manifest_path"].as_str()?).parent()?.to_owned();
        Some((package["id"].as_str()?.to_owned(), (package["name"].as_str()?.to_owned(), folder)))
    });
    Ok(packages.collect())
}

/// The test program that a message of cargo's is about, if it is about one.
fn program(message: &Value, packages: &BTreeMap<String, (String, PathBuf)>) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let (package, folder) = packages.get(message["package_id"].as_str()?)?.clone();
    let target = &message["target"];
    Some(Program {
        package,
        target: target["name"].as_str()?.to_owned(),
        integration: target["kind"].as_array()?.iter().any(|kind| kind == "test"),
        executable: PathBuf::from(message["executable"].as_str()?),
        folder,
    })
}
