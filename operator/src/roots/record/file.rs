//! The record of a control plane without a cluster.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::RecordDocument;

/// Name of the file in the state folder.
const FILE: &str = "rotation.json";

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
    pub(in crate::roots) fn text(&self) -> anyhow::Result<Option<String>> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", self.path.display())),
        }
    }

    pub(in crate::roots) fn parse(&self, text: &str) -> anyhow::Result<RecordDocument> {
        serde_json::from_str(text)
            .with_context(|| format!("read {}; restore it, or remove it if no proxy is connected", self.path.display()))
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
    use std::collections::BTreeSet;

    use osm_issuer::rotation::{Record, RootName};

    use super::super::{RecordedName, RecordedRoot};
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        assert_eq!(file.text().unwrap(), None);
        let name = RootName::new("osm-system", "new");
        let document = RecordDocument {
            signing: Some(RecordedName::from(&name)),
            trusted: vec![RecordedRoot {
                root: RecordedName::from(&name),
                provider: None,
                certificates: String::new(),
                trusted_since: 7,
            }],
            revision: 4,
            proxies: 3,
        };
        file.write(&document).unwrap();
        let text = file.text().unwrap().unwrap();
        assert_eq!(file.parse(&text).unwrap(), document);
        let expected = Record { signing: Some(name.clone()), trusted: BTreeSet::from([name]) };
        assert_eq!(document.record(), expected);
        assert!(file.parse("{").unwrap_err().to_string().contains("rotation.json"));
    }
}
