//! Programs built from Go modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::run;

/// Where sources lie while they are built. A build never touches the checkout.
const SOURCES: &str = "sources";

/// Builds `sources` (names and contents of files of package main) into the file `program` of `folder`. The versions of all modules
/// are those of `go.sum`, or the build fails.
pub(super) fn build(folder: &Path, sources: &[(&str, &str)], program: &str, linker_flags: &str) -> Result<()> {
    with_sources(folder, sources, |place| {
        let mut command = go("build")?;
        command.args(["-trimpath", "-buildvcs=false", "-ldflags", &format!("-s -w {linker_flags}"), "-o"]);
        run(command.arg(folder.join(program)).arg(".").current_dir(place).env("GOFLAGS", "-mod=readonly"))?;
        Ok(())
    })
}

/// Builds the command that `package` (`path@version`) is into `folder`.
pub(super) fn install(folder: &Path, package: &str) -> Result<()> {
    let mut command = go("install")?;
    command.args(["-trimpath", "-ldflags", "-s -w"]).arg(package);
    // Anywhere but in a module, whose go.mod would count.
    run(command.env("GOBIN", folder).env("GOFLAGS", "").current_dir(folder))?;
    Ok(())
}

/// Where the sources of the module `path`, that `sources` require, were put by Go.
pub(super) fn module_folder(sources: &[(&str, &str)], scratch: &Path, path: &str) -> Result<PathBuf> {
    with_sources(scratch, sources, |place| {
        let mut command = go("list")?;
        let folder =
            run(command.args(["-m", "-f", "{{.Dir}}", path]).current_dir(place).env("GOFLAGS", "-mod=readonly"))?;
        Ok(PathBuf::from(folder.trim_end()))
    })
}

fn with_sources<T>(folder: &Path, sources: &[(&str, &str)], use_them: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let place = folder.join(SOURCES);
    fs::create_dir(&place)?;
    for (name, text) in sources {
        fs::write(place.join(name), text)?;
    }
    let result = use_them(&place);
    fs::remove_dir_all(&place)?;
    result
}

fn go(verb: &str) -> Result<Command> {
    let version = Command::new("go").arg("version").output();
    version.context("go is missing: install Go 1.26 or newer from https://go.dev/dl, and put it on PATH")?;
    let mut command = Command::new("go");
    command.arg(verb).env("CGO_ENABLED", "0").env("GOWORK", "off").env_remove("GOOS").env_remove("GOARCH");
    Ok(command)
}
