//! Finds the descriptor set that the `envoy-types` crate ships and hands its path to the compiler.
//!
//! The crate publishes `src/generated/types.bin` beside the code generated from it but does not export it. Cargo knows
//! where it put the crate's sources (registry, vendored folder or patch), so Cargo is asked; nothing is copied into
//! this repository, and the JSON can never disagree with the Rust types.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Where `envoy-types` keeps its descriptor set, below the folder of its `Cargo.toml`.
const DESCRIPTOR_SET: &str = "src/generated/types.bin";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    match locate() {
        Ok(path) => {
            println!("cargo:rerun-if-changed={}", path.display());
            println!("cargo:rustc-env=ENVOY_DESCRIPTOR_SET={}", path.display());
        }
        Err(error) => {
            println!("cargo::error=cannot find the descriptor set of the crate envoy-types: {error}");
        }
    }
}

fn locate() -> Result<PathBuf, String> {
    // Offline first: the build has just fetched every crate it needs, so this works without a network and without
    // waiting for one. Where other platforms' or members' crates were never fetched, Cargo may have to fetch them.
    let metadata = metadata(&["--offline"])
        .or_else(|offline| metadata(&[]).map_err(|online| format!("offline: {offline}; online: {online}")))?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata lists no package named envoy-types")?;
    let path = Path::new(manifest).with_file_name(DESCRIPTOR_SET);
    if path.is_file() { Ok(path) } else { Err(format!("{} is not a file", path.display())) }
}

/// The answer of `cargo metadata`, limited to the platform built for so that no other platform's crates are needed.
fn metadata(network: &[&str]) -> Result<Value, String> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let output = Command::new(variable("CARGO")?)
        .args(["metadata", "--format-version", "1", "--filter-platform", &variable("TARGET")?])
        .args(network)
        .current_dir(variable("CARGO_MANIFEST_DIR")?)
        .output()
        .map_err(|error| format!("start cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("read cargo metadata: {error}"))
}
