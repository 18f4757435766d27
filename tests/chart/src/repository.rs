//! Where things are.

use std::path::{Path, PathBuf};

/// A checkout of this repository.
#[derive(Debug, Clone)]
pub struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// The one that this crate was built from.
    pub fn this() -> Self {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = crate_folder.ancestors().nth(2).expect("the crate is two folders below the repository");
        Self { folder: folder.to_path_buf() }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The chart of the control plane.
    pub fn operator_chart(&self) -> PathBuf {
        self.folder.join("helm/osm-operator")
    }

    /// The chart of the CustomResourceDefinitions.
    pub fn crds_chart(&self) -> PathBuf {
        self.folder.join("helm/osm-operator-crds")
    }

    /// A folder below `config`.
    pub fn config(&self, part: &str) -> PathBuf {
        self.folder.join("config").join(part)
    }
}
