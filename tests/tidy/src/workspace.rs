//! Packages of the workspace and what they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A package of the workspace.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Packages of the workspace that it needs to be built (not those that only its tests need).
    pub knows: BTreeSet<String>,
    /// Root files of its libraries, binaries, tests and so on.
    pub roots: BTreeSet<PathBuf>,
}

/// The workspace as cargo resolves it.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Its folder.
    pub folder: PathBuf,
    /// Its packages by name.
    pub packages: BTreeMap<String, Package>,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// Cargo cannot be run, or does not answer with what it documents.
    pub fn load() -> io::Result<Self> {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr)));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let members: BTreeSet<&str> = texts(&metadata["workspace_members"]).collect();
        let of_workspace =
            elements(&metadata["packages"]).filter(|package| members.contains(text(&package["id"]).as_str()));
        let known: BTreeSet<String> = of_workspace.clone().map(|package| text(&package["name"])).collect();
        let packages = of_workspace.map(|it| package(it, &known)).map(|it| (it.name.clone(), it)).collect();
        Ok(Self { folder: PathBuf::from(text(&metadata["workspace_root"])), packages })
    }

    /// Names of all packages that `package` needs to be built when it is built alone, itself included, not looking into `opaque`
    /// ones. Alone, because features that others of the workspace switch on are not its own.
    ///
    /// # Errors
    /// Cargo cannot be run, or knows no such package.
    pub fn reach(&self, package: &str, opaque: &[&str]) -> io::Result<BTreeSet<String>> {
        let all = self.tree(package, &[])?;
        // Cargo refuses to leave out what is not there.
        let present: Vec<&str> = opaque.iter().copied().filter(|name| all.contains(*name)).collect();
        if present.is_empty() { Ok(all) } else { self.tree(package, &present) }
    }

    fn tree(&self, package: &str, pruned: &[&str]) -> io::Result<BTreeSet<String>> {
        let pruned = pruned.iter().flat_map(|name| ["--prune", name]);
        let output = cargo()
            .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(pruned)
            .current_dir(&self.folder)
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn package(value: &Value, known: &BTreeSet<String>) -> Package {
    let knows = elements(&value["dependencies"])
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| text(&dependency["name"]))
        .filter(|name| known.contains(name))
        .collect();
    let manifest = PathBuf::from(text(&value["manifest_path"]));
    Package {
        name: text(&value["name"]),
        folder: manifest.parent().map(Path::to_path_buf).unwrap_or_default(),
        knows,
        roots: elements(&value["targets"]).map(|target| PathBuf::from(text(&target["src_path"]))).collect(),
    }
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    elements(value).filter_map(Value::as_str)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
