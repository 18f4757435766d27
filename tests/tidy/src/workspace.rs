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
    /// Normal dependencies of every package, also of others, by package id.
    edges: BTreeMap<String, BTreeSet<String>>,
    names: BTreeMap<String, String>,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// Cargo cannot be run, or does not answer with what it documents.
    pub fn load() -> io::Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr)));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let members: BTreeSet<&str> = texts(&metadata["workspace_members"]).collect();
        let names = elements(&metadata["packages"]).map(|package| (text(&package["id"]), text(&package["name"])));
        let names: BTreeMap<String, String> = names.collect();
        let of_workspace =
            elements(&metadata["packages"]).filter(|package| members.contains(text(&package["id"]).as_str()));
        let known: BTreeSet<String> = of_workspace.clone().map(|package| text(&package["name"])).collect();
        let packages = of_workspace.map(|it| package(it, &known)).map(|it| (it.name.clone(), it)).collect();
        let edges = elements(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), normal(node))).collect();
        Ok(Self { folder: PathBuf::from(text(&metadata["workspace_root"])), packages, edges, names })
    }

    /// Names of all packages that `package` needs to be built, itself included, not looking into `opaque` ones.
    pub fn reach(&self, package: &str, opaque: &[&str]) -> BTreeSet<String> {
        let mut open: Vec<&String> = self.names.iter().filter(|(_, name)| *name == package).map(|(id, _)| id).collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            let name = self.names.get(id).cloned().unwrap_or_default();
            if seen.insert(id) && !opaque.contains(&name.as_str()) {
                open.extend(self.edges.get(id).into_iter().flatten());
            }
        }
        seen.into_iter().filter_map(|id| self.names.get(id).cloned()).collect()
    }
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

fn normal(node: &Value) -> BTreeSet<String> {
    let is_normal = |dependency: &&Value| elements(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
    elements(&node["deps"]).filter(is_normal).map(|dependency| text(&dependency["pkg"])).collect()
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
