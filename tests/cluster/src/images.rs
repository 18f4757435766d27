//! Images of containers, made without a registry and without a container engine.
//!
//! An image is an archive as `docker save` writes it, with one layer: programs, the libraries that they need, and little else. Its
//! tag is a hash of what is in it, so an image that is there need not be loaded again, and the same content is never made twice.

mod archive;
mod content;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use self::archive::Configuration;
use self::content::Content;
use crate::cache::cache_directory;
use crate::tools::Tool;

/// Who the operator and the applications are.
const NOBODY: &str = "65532:65532";
/// Who Envoy is in a pod, so that its own traffic can be told from the application's.
const ENVOY: &str = "1500:1500";
/// What `osm-operator intercept` runs, each a name of the one program of the kernel's packet filter.
const INTERCEPT_PROGRAMS: [&str; 4] = ["ip6tables-restore", "ip6tables-save", "iptables-restore", "iptables-save"];

/// An image in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    repository: String,
    tag: String,
    reference: String,
    archive: PathBuf,
}

impl Image {
    /// Its name without the tag, such as `local/osm-operator`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Its tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// What a container's field `image` says: `REPOSITORY:TAG`.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The archive.
    pub fn archive(&self) -> &Path {
        &self.archive
    }
}

/// The operator: `osm-operator`, and what its `intercept` runs, so that the same image is the init container. On an empty base, as a
/// user without rights.
///
/// # Errors
/// `program` or a program of the package iptables is missing.
pub fn operator(program: &Path) -> Result<Image> {
    let mut content = Content::new();
    content.program(program, "/usr/local/bin/osm-operator")?;
    let filter = fs::canonicalize("/usr/sbin/xtables-nft-multi");
    content.program(&filter.context("iptables is missing: run hack/setup")?, "/usr/sbin/xtables-nft-multi")?;
    for name in INTERCEPT_PROGRAMS {
        content.link(&format!("/usr/sbin/{name}"), "xtables-nft-multi");
    }
    content.loadable_libraries("xtables")?;
    content.basics()?;
    let configuration = Configuration::new(&["/usr/local/bin/osm-operator"], NOBODY);
    build("local/osm-operator", &content, &configuration)
}

/// Envoy, of a version that `hack/setup` fetched.
///
/// # Errors
/// It is not there.
pub fn envoy(version: &str) -> Result<Image> {
    let program = envoy_directory()?.join(version).join("envoy");
    ensure!(
        program.is_file(),
        "Envoy {version} is not at {}: run hack/setup, or set OSM_ENVOY_DIR to a directory with {version}/envoy",
        program.display()
    );
    let mut content = Content::new();
    content.program(&program, "/usr/local/bin/envoy")?;
    content.basics()?;
    build("local/envoy", &content, &Configuration::new(&["/usr/local/bin/envoy"], ENVOY))
}

/// The newest version of Envoy that `hack/setup` fetched.
///
/// # Errors
/// There is none.
pub fn newest_envoy() -> Result<String> {
    let directory = envoy_directory()?;
    let entries = fs::read_dir(&directory);
    let entries = entries.with_context(|| format!("no Envoy in {}: run hack/setup", directory.display()))?;
    let mut versions: Vec<(Vec<u32>, String)> = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let numbers: Result<Vec<u32>, _> = name.split('.').map(str::parse).collect();
        if let (Ok(numbers), true) = (numbers, directory.join(&name).join("envoy").is_file()) {
            versions.push((numbers, name));
        }
    }
    let newest = versions.into_iter().max().map(|(_, name)| name);
    newest.with_context(|| format!("no Envoy in {}: run hack/setup", directory.display()))
}

/// The applications of the demo and of tests, as a user without rights.
///
/// # Errors
/// `program` is missing.
pub fn bookstore(program: &Path) -> Result<Image> {
    let mut content = Content::new();
    content.program(program, "/usr/local/bin/osm-bookstore")?;
    content.basics()?;
    build("local/osm-bookstore", &content, &Configuration::new(&["/usr/local/bin/osm-bookstore"], NOBODY))
}

/// A shell with the usual small programs, for tests: `sh`, `wget`, `nc`, `nslookup` and so on.
///
/// # Errors
/// The package busybox-static is missing.
pub fn busybox() -> Result<Image> {
    let mut content = Content::new();
    let program = static_busybox()?;
    content.program(&program, "/bin/busybox")?;
    for name in crate::tools::run(std::process::Command::new(&program).arg("--list"))?.lines() {
        if name != "busybox" {
            content.link(&format!("/bin/{name}"), "busybox");
        }
    }
    content.basics()?;
    build("local/busybox", &content, &Configuration::new(&["/bin/sh"], NOBODY))
}

/// What holds a pod's namespaces: a program that waits.
///
/// # Errors
/// The package busybox-static is missing.
pub fn pause() -> Result<Image> {
    let mut content = Content::new();
    content.program(&static_busybox()?, "/bin/busybox")?;
    build("local/pause", &content, &Configuration::new(&["/bin/busybox", "sleep", "2147483647"], NOBODY))
}

/// The cluster's DNS server.
///
/// # Errors
/// It cannot be built.
pub fn coredns() -> Result<Image> {
    let mut content = Content::new();
    content.program(Tool::CoreDns.prepare()?.program(), "/coredns")?;
    content.basics()?;
    // It listens on port 53.
    build("local/coredns", &content, &Configuration::new(&["/coredns"], "0:0"))
}

fn static_busybox() -> Result<PathBuf> {
    let program = PathBuf::from("/bin/busybox");
    ensure!(program.is_file(), "busybox is missing: run hack/setup --cluster");
    let libraries = content::libraries(&program)?;
    ensure!(libraries.is_empty(), "{} is not static: install the package busybox-static", program.display());
    Ok(program)
}

fn envoy_directory() -> Result<PathBuf> {
    match std::env::var_os("OSM_ENVOY_DIR") {
        Some(directory) => Ok(directory.into()),
        None => Ok(cache_directory()?.join("envoy")),
    }
}

/// Writes the archive, unless it is there.
fn build(repository: &str, content: &Content, configuration: &Configuration) -> Result<Image> {
    let tag = content.fingerprint(configuration)?[..12].to_owned();
    let folder = cache_directory()?.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let name = repository.replace('/', "_");
    let reference = format!("{repository}:{tag}");
    let archive = folder.join(format!("{name}-{tag}.tar"));
    if !archive.is_file() {
        // Of this process alone, and renamed when it is whole.
        let scratch = folder.join(format!(".{name}-{tag}.{}", std::process::id()));
        let written = archive::write(&scratch, &reference, content, configuration);
        if let Err(error) = written {
            crate::cache::remove(&scratch)?;
            return Err(error.context(format!("writing the image {reference}")));
        }
        fs::rename(&scratch, &archive)?;
        forget_old(&folder, &name)?;
    }
    Ok(Image { repository: repository.to_owned(), tag, reference, archive })
}

/// Keeps the newest few archives of a name: each build of a program is another.
fn forget_old(folder: &Path, name: &str) -> Result<()> {
    const KEPT: usize = 6;
    let mut archives = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let tag = file.strip_prefix(&format!("{name}-")).and_then(|rest| rest.strip_suffix(".tar"));
        if tag.is_some_and(|tag| tag.len() == 12) {
            // Others tidy up at the same time.
            let Ok(metadata) = entry.metadata() else { continue };
            archives.push((metadata.modified()?, entry.path()));
        }
    }
    archives.sort();
    for (_, path) in archives.iter().rev().skip(KEPT) {
        crate::cache::remove(path)?;
    }
    Ok(())
}
