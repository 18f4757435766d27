//! Status documents as files, one per object: what a status subresource is in a cluster.

use std::path::PathBuf;

use anyhow::Context;
use osm_api::ObjectRef;
use serde_json::Value;

/// A folder that holds one file per object, `<kind>.<namespace>.<name>.yaml`, replaced atomically.
#[derive(Debug)]
pub(crate) struct StatusFolder {
    folder: PathBuf,
}

impl StatusFolder {
    /// Writes into `folder`, which is made when the first document is written.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes a document, or removes it.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(crate) async fn write(&self, name: &ObjectRef, document: Option<&Value>) -> anyhow::Result<()> {
        let file = self.folder.join(format!("{}.yaml", name.to_string().replace('/', ".")));
        let Some(document) = document else {
            return match tokio::fs::remove_file(&file).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        };
        tokio::fs::create_dir_all(&self.folder).await.with_context(|| format!("make {}", self.folder.display()))?;
        let text = serde_saphyr::to_string(document).context("write YAML")?;
        // A reader sees the former document or this one, never half of it.
        let unfinished = self.folder.join(format!(".{}.new", name.to_string().replace('/', ".")));
        tokio::fs::write(&unfinished, text).await.with_context(|| format!("write {}", unfinished.display()))?;
        tokio::fs::rename(&unfinished, &file).await.with_context(|| format!("replace {}", file.display()))
    }
}
