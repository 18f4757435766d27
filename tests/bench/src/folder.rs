//! A synthetic mesh as a folder of manifests, as a user would have it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use crate::mesh::Mesh;

/// A folder that the control plane watches, and the folder of its state beside it.
#[derive(Debug)]
pub struct Folder {
    manifests: PathBuf,
    state: PathBuf,
}

impl Folder {
    /// Makes an empty folder below `parent`.
    ///
    /// # Errors
    /// It cannot be made, or is there already.
    pub fn create(parent: &Path, name: &str) -> anyhow::Result<Self> {
        let folder = parent.join(name);
        let made = Self { manifests: folder.join("manifests"), state: folder.join("state") };
        std::fs::create_dir_all(parent)?;
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        std::fs::create_dir(&made.manifests)?;
        Ok(made)
    }

    /// Makes a folder of a mesh: a file of what all share, and for each service two, of which one holds its EndpointSlice.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn of_mesh(parent: &Path, name: &str, mesh: &Mesh) -> anyhow::Result<Self> {
        let folder = Self::create(parent, name)?;
        for (number, manifests) in mesh.manifests().enumerate() {
            let (slices, others): (Vec<Value>, Vec<Value>) =
                manifests.into_iter().partition(|manifest| manifest["kind"] == "EndpointSlice");
            match number.checked_sub(1) {
                None => folder.replace("shared.yaml", &others)?,
                Some(service) => {
                    folder.replace(&format!("service-{service}.yaml"), &others)?;
                    folder.replace(&endpoints_file(service), &slices)?;
                }
            }
        }
        Ok(folder)
    }

    /// Where the manifests are.
    #[must_use]
    pub fn manifests(&self) -> &Path {
        &self.manifests
    }

    /// Where the control plane keeps its authority.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Puts manifests into a file, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn replace(&self, file: &str, manifests: &[Value]) -> anyhow::Result<()> {
        self.prepare(file, manifests)?.put_in_place()
    }

    /// Writes the file beside its place.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn prepare(&self, file: &str, manifests: &[Value]) -> anyhow::Result<Prepared> {
        let documents: Vec<String> = manifests.iter().map(serde_saphyr::to_string).collect::<Result<_, _>>()?;
        let (from, to) = (self.manifests.join(format!(".{file}.new")), self.manifests.join(file));
        std::fs::write(&from, documents.join("---\n")).with_context(|| format!("write {}", from.display()))?;
        Ok(Prepared { from, to })
    }
}

/// Name of the file with the EndpointSlice of a service.
#[must_use]
pub fn endpoints_file(service: impl std::fmt::Display) -> String {
    format!("service-{service}-endpoints.yaml")
}

/// A file that is written and not yet in its place.
#[derive(Debug)]
#[must_use = "it is not in its place yet"]
pub struct Prepared {
    from: PathBuf,
    to: PathBuf,
}

impl Prepared {
    /// Renames it: one step, and nothing else.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn put_in_place(&self) -> anyhow::Result<()> {
        std::fs::rename(&self.from, &self.to).with_context(|| format!("replace {}", self.to.display()))
    }
}
