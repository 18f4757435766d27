//! Kubernetes, all of its programs in one.

use std::fmt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use super::go;
use crate::cache::fingerprint;

/// The one program.
pub(super) const PROGRAM: &str = "kubernetes";

/// The names that it is started by, each a link beside it.
const NAMES: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"];

/// A version of Kubernetes that is claimed to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum KubernetesVersion {
    /// The oldest that is supported.
    V1_33,
    /// The newest.
    V1_36,
}

impl KubernetesVersion {
    /// The newest that is claimed to work.
    pub const NEWEST: Self = Self::V1_36;
    /// The oldest that is claimed to work.
    pub const OLDEST: Self = Self::V1_33;
    /// All of them.
    pub const ALL: [Self; 2] = [Self::V1_33, Self::V1_36];

    /// The release that stands for it, such as `1.36.3`.
    pub fn release(self) -> &'static str {
        match self {
            Self::V1_33 => "1.33.13",
            Self::V1_36 => "1.36.3",
        }
    }

    /// Its second number.
    fn minor(self) -> &'static str {
        match self {
            Self::V1_33 => "33",
            Self::V1_36 => "36",
        }
    }

    fn sources(self) -> [(&'static str, &'static str); 3] {
        let (modules, sums) = match self {
            Self::V1_33 => (include_str!("../../kubernetes/1.33.mod"), include_str!("../../kubernetes/1.33.sum")),
            Self::V1_36 => (include_str!("../../kubernetes/go.mod"), include_str!("../../kubernetes/go.sum")),
        };
        [("main.go", include_str!("../../kubernetes/main.go")), ("go.mod", modules), ("go.sum", sums)]
    }

    /// What a build depends on.
    pub(super) fn fingerprint(self) -> String {
        fingerprint(self.sources().map(|(_, text)| text.as_bytes()))
    }

    pub(super) fn build(self, folder: &Path) -> Result<()> {
        let version = "k8s.io/component-base/version";
        let (release, minor) = (self.release(), self.minor());
        // Without these the cluster would say that it is v0.0.0.
        let flags = format!("-X {version}.gitVersion=v{release} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}");
        go::build(folder, &self.sources(), PROGRAM, &flags)?;
        for name in NAMES {
            symlink(PROGRAM, folder.join(name)).with_context(|| format!("linking {name}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "1.{}", self.minor())
    }
}

impl FromStr for KubernetesVersion {
    type Err = anyhow::Error;

    /// `1.36` or `1.36.3`.
    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|version| text == version.release() || text == version.to_string());
        let Some(version) = known else {
            let all = Self::ALL.map(|version| version.to_string()).join(", ");
            bail!("Kubernetes {text} is not one of the versions that are claimed to work: {all}");
        };
        Ok(version)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn releases_agree_with_the_modules_that_are_built() {
        for version in KubernetesVersion::ALL {
            let modules = version.sources()[1].1;
            assert!(modules.contains(&format!("k8s.io/kubernetes v{}\n", version.release())), "{version}");
            let staging = format!("k8s.io/api => k8s.io/api v0.{}\n", &version.release()[2..]);
            assert!(modules.contains(&staging), "{version}: {staging}");
            assert_eq!(version.release().parse::<KubernetesVersion>().unwrap(), version);
        }
        assert_ne!(KubernetesVersion::OLDEST.fingerprint(), KubernetesVersion::NEWEST.fingerprint());
    }
}
