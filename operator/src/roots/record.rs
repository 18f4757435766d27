//! What is in force, written down: a process that starts goes on from here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use osm_api::MeshRootCertificateProvider;
use osm_issuer::TrustBundle;
use osm_issuer::rotation::{Record, RootName};
use serde::{Deserialize, Serialize};

/// Name of the file in the state folder.
const FILE: &str = "rotation.json";

/// The record with what is needed to take it up again: whose roots they are, and their certificates. No key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordDocument {
    /// The root that signs.
    pub(super) signing: Option<RecordedName>,
    /// All roots that are trusted.
    pub(super) trusted: Vec<RecordedRoot>,
    /// How many proxies were connected.
    pub(super) proxies: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct RecordedName {
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordedRoot {
    pub(super) root: RecordedName,
    /// Who issues; absent for the authority that the control plane was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<MeshRootCertificateProvider>,
    /// Its certificates, as PEM.
    pub(super) certificates: String,
    /// Since when it is trusted, in seconds since 1970.
    pub(super) trusted_since: i64,
}

impl From<&RootName> for RecordedName {
    fn from(name: &RootName) -> Self {
        Self { namespace: name.namespace().to_owned(), name: name.name().to_owned() }
    }
}

impl From<&RecordedName> for RootName {
    fn from(name: &RecordedName) -> Self {
        Self::new(name.namespace.as_str(), name.name.as_str())
    }
}

impl RecordDocument {
    pub(super) fn record(&self) -> Record {
        let trusted: BTreeSet<RootName> = self.trusted.iter().map(|root| RootName::from(&root.root)).collect();
        Record { signing: self.signing.as_ref().map(RootName::from), trusted }
    }

    /// The trusted roots by name, with their certificates where those can be read.
    pub(super) fn roots(&self) -> BTreeMap<RootName, (&RecordedRoot, Option<TrustBundle>)> {
        let roots = self.trusted.iter();
        roots.map(|root| (RootName::from(&root.root), (root, TrustBundle::from_pem(&root.certificates).ok()))).collect()
    }
}

/// The file of a control plane without a cluster.
#[derive(Debug, Clone)]
pub(crate) struct RecordFile {
    path: PathBuf,
}

impl RecordFile {
    /// The record of the control plane whose state is in `folder`.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join(FILE) }
    }

    /// The text of the file; `None` if there is none.
    pub(super) fn text(&self) -> anyhow::Result<Option<String>> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", self.path.display())),
        }
    }

    pub(super) fn parse(&self, text: &str) -> anyhow::Result<RecordDocument> {
        serde_json::from_str(text)
            .with_context(|| format!("read {}; restore it, or remove it if no proxy is connected", self.path.display()))
    }

    pub(super) fn read(&self) -> anyhow::Result<Option<RecordDocument>> {
        self.text()?.map(|text| self.parse(&text)).transpose()
    }

    /// Replaces the file in one step, and has it on disk when this returns.
    pub(super) fn write(&self, document: &RecordDocument) -> anyhow::Result<()> {
        let unfinished = self.path.with_extension("json.new");
        let attempt = || -> std::io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(&serde_json::to_vec_pretty(document)?)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &self.path)
        };
        attempt().with_context(|| format!("write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        assert!(file.read().unwrap().is_none());
        let name = RootName::new("osm-system", "new");
        let document = RecordDocument {
            signing: Some(RecordedName::from(&name)),
            trusted: vec![RecordedRoot {
                root: RecordedName::from(&name),
                provider: None,
                certificates: String::new(),
                trusted_since: 7,
            }],
            proxies: 3,
        };
        file.write(&document).unwrap();
        assert_eq!(file.read().unwrap(), Some(document.clone()));
        let expected = Record { signing: Some(name.clone()), trusted: BTreeSet::from([name]) };
        assert_eq!(document.record(), expected);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(file.read().unwrap_err().to_string().contains("rotation.json"));
    }
}
