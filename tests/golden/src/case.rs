//! A case as it lies in its folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use osm_api::{Object, Strictness, decode};
use osm_engine::Options;
use osm_model::TrustDomain;
use serde::Deserialize;
use serde_json::Value;

/// What `case.yaml` may say.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CaseOptions {
    /// Ranges of ClusterIPs; empty means that they are learnt.
    pub service_ranges: Vec<IpNet>,
    /// Trust domain of certificates.
    pub trust_domain: String,
    /// DNS suffix of the cluster.
    pub cluster_domain: String,
}

impl Default for CaseOptions {
    fn default() -> Self {
        let ranges = ["10.96.0.0/16", "fd00:96::/112"];
        Self {
            service_ranges: ranges.iter().filter_map(|range| range.parse().ok()).collect(),
            trust_domain: "cluster.local".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

impl CaseOptions {
    /// The same for the engine.
    ///
    /// # Errors
    /// The trust domain is no domain.
    pub fn engine(&self) -> Result<Options> {
        Ok(Options {
            mesh_name: "osm".into(),
            control_plane_namespace: "osm-system".into(),
            trust_domain: TrustDomain::new(&self.trust_domain)?,
            cluster_domain: self.cluster_domain.as_str().into(),
            service_ranges: self.service_ranges.clone(),
        })
    }
}

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    /// The name of its folder.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its options.
    pub options: CaseOptions,
    /// The objects of `in.yaml`.
    pub objects: Vec<Object>,
}

impl Case {
    /// The folder of all cases.
    pub fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
    }

    /// Reads one case.
    ///
    /// # Errors
    /// A file is missing or is not what it should be. `in.yaml` is read strictly: an object that cannot be decoded has
    /// no place in a case.
    pub fn read(name: &str) -> Result<Self> {
        let folder = Self::root().join(name);
        let options = match fs::read_to_string(folder.join("case.yaml")) {
            Ok(text) => serde_saphyr::from_str(&text).with_context(|| format!("{name}/case.yaml"))?,
            Err(_) => CaseOptions::default(),
        };
        let text = fs::read_to_string(folder.join("in.yaml")).with_context(|| format!("{name}/in.yaml"))?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| format!("{name}/in.yaml is no YAML"))?;
        let mut objects = Vec::new();
        for (document, number) in documents.into_iter().zip(1..) {
            let object =
                decode(document, Strictness::Strict).with_context(|| format!("{name}/in.yaml, document {number}"))?;
            objects.push(object);
        }
        let mut references: Vec<_> = objects.iter().map(Object::reference).collect();
        references.sort();
        let count = references.len();
        references.dedup();
        ensure!(references.len() == count, "{name}/in.yaml has an object twice");
        Ok(Self { name: name.to_owned(), folder, options, objects })
    }

    /// Reads every case, ordered by name.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(Self::root())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }
}
