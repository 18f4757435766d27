//! What is in an image: files by the path that they have in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest;

use super::archive::Configuration;
use crate::cache::hexadecimal;

/// Users that images name, and the root that an init container is.
const USERS: &str = "root:x:0:0:root:/:/sbin/nologin\nenvoy:x:1500:1500:envoy:/:/sbin/nologin\nnobody:x:65532:65532:nobody:/:/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nenvoy:x:1500:\nnobody:x:65532:\n";
/// How the C library finds names of hosts.
const NAMES: &str = "hosts: files dns\n";
/// Certificates of public authorities, where the machine has them.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A file of the machine, with its mode.
    File { source: PathBuf, mode: u32 },
    /// A file with this text.
    Text(&'static str),
    /// A symbolic link to this.
    Link(String),
    /// A folder with this mode.
    Folder(u32),
}

/// Paths in the image (absolute), in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    entries: BTreeMap<String, Entry>,
}

impl Content {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Entries, without leading slash, each folder before what is in it.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.trim_start_matches('/'), entry))
    }

    /// A program of the machine, with the libraries that it is linked to.
    pub(super) fn program(&mut self, source: &Path, path: &str) -> Result<()> {
        ensure!(source.is_file(), "{} is missing; build it first", source.display());
        self.libraries_of(source)?;
        self.insert(path, Entry::File { source: source.to_owned(), mode: 0o755 });
        Ok(())
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Entry::Link(target.to_owned()));
    }

    /// The libraries that a program loads by name while it runs: all of a folder `name` beside the system's libraries.
    pub(super) fn loadable_libraries(&mut self, name: &str) -> Result<()> {
        let folder = library_folders()?.into_iter().map(|folder| folder.join(name)).find(|folder| folder.is_dir());
        let folder = folder.with_context(|| format!("no folder {name} beside the system's libraries"))?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "so") {
                self.libraries_of(&path)?;
                let source = fs::canonicalize(&path)?;
                self.insert(&path.to_string_lossy(), Entry::File { source, mode: 0o644 });
            }
        }
        Ok(())
    }

    /// What every program may look for: users, how names are found, certificates of public authorities, a place for scratch files.
    pub(super) fn basics(&mut self) -> Result<()> {
        self.insert("/etc/passwd", Entry::Text(USERS));
        self.insert("/etc/group", Entry::Text(GROUPS));
        self.insert("/etc/nsswitch.conf", Entry::Text(NAMES));
        if Path::new(AUTHORITIES).is_file() {
            let source = fs::canonicalize(AUTHORITIES)?;
            self.insert(AUTHORITIES, Entry::File { source, mode: 0o644 });
        }
        self.insert("/tmp", Entry::Folder(0o1777));
        Ok(())
    }

    /// A hash of everything that makes a difference.
    pub(super) fn fingerprint(&self, configuration: &Configuration) -> Result<String> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(configuration.text()?.as_bytes());
        for (path, entry) in &self.entries {
            context.update(format!("\0{path}\0").as_bytes());
            match entry {
                Entry::File { source, mode } => {
                    let size = fs::metadata(source)?.len();
                    context.update(format!("file {mode:o} {size}\0").as_bytes());
                    read(source, |bytes| context.update(bytes))?;
                }
                Entry::Text(text) => context.update(format!("text {text}").as_bytes()),
                Entry::Link(target) => context.update(format!("link {target}").as_bytes()),
                Entry::Folder(mode) => context.update(format!("folder {mode:o}").as_bytes()),
            }
        }
        Ok(hexadecimal(context.finish().as_ref()))
    }

    fn libraries_of(&mut self, program: &Path) -> Result<()> {
        for library in libraries(program)? {
            let source = fs::canonicalize(&library)?;
            self.insert(&library.to_string_lossy(), Entry::File { source, mode: 0o755 });
        }
        Ok(())
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let mut folder = Path::new(path).parent();
        while let Some(path) = folder.filter(|path| path.parent().is_some()) {
            self.entries.entry(path.to_string_lossy().into_owned()).or_insert(Entry::Folder(0o755));
            folder = path.parent();
        }
        self.entries.insert(path.to_owned(), entry);
    }
}

/// Gives the bytes of a file, part by part.
fn read(path: &Path, mut part: impl FnMut(&[u8])) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => part(&buffer[..count]),
        }
    }
}

/// The libraries that the dynamic linker would load for a program, and the linker itself; none of a static one.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("starting ldd; install the package libc-bin")?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if text.contains("statically linked") || errors.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    ensure!(output.status.success(), "ldd {}: {}", program.display(), errors.trim());
    parse_libraries(&text).with_context(|| format!("the libraries of {}", program.display()))
}

/// Lines such as `libm.so.6 => /lib/libm.so.6 (0x7f00)` and `/lib64/ld-linux-x86-64.so.2 (0x7f00)`; the kernel's own library has no
/// file.
fn parse_libraries(text: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in text.lines().map(str::trim) {
        ensure!(!line.ends_with("not found"), "missing on this machine: {line}");
        let place = line.split_once(" => ").map_or(line, |(_, place)| place);
        let path = place.split(" (").next().unwrap_or(place);
        if path.starts_with('/') {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

/// Where the C library lies, with and without `/usr`.
fn library_folders() -> Result<Vec<PathBuf>> {
    let own = std::env::current_exe()?;
    let folders: Vec<PathBuf> = libraries(&own)?.iter().filter_map(|path| Some(path.parent()?.to_owned())).collect();
    let merged = folders.iter().map(|folder| Path::new("/usr").join(folder.strip_prefix("/").unwrap_or(folder)));
    Ok(merged.clone().chain(folders.clone()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn what_the_linker_says_is_read() {
        let text =
            "\tlinux-vdso.so.1 (0x7ffd)\n\tlibm.so.6 => /lib/libm.so.6 (0x7f00)\n\t/lib64/ld-linux.so.2 (0x7f01)\n";
        let paths = parse_libraries(text).unwrap();
        assert_eq!(paths, [PathBuf::from("/lib/libm.so.6"), PathBuf::from("/lib64/ld-linux.so.2")]);
        assert!(parse_libraries("libx.so => not found").unwrap_err().to_string().contains("libx.so"));
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut content = Content::new();
        content.link("/usr/sbin/iptables", "xtables-nft-multi");
        let paths: Vec<&str> = content.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr/sbin", "usr/sbin/iptables"]);
    }

    #[test]
    fn the_fingerprint_follows_the_content() {
        let configuration = Configuration::new(&["/a"], "1:1");
        let with = |target: &str| {
            let mut content = Content::new();
            content.link("/a", target);
            content.fingerprint(&configuration).unwrap()
        };
        assert_eq!(with("b"), with("b"));
        assert_ne!(with("b"), with("c"));
        let mut content = Content::new();
        content.link("/a", "b");
        assert_ne!(content.fingerprint(&Configuration::new(&["/a"], "2:2")).unwrap(), with("b"));
    }
}
