//! What is in force, written down: a process that starts goes on from here, and in a cluster every replica follows it.

mod config_map;
mod file;

use std::collections::{BTreeMap, BTreeSet};

use osm_api::MeshRootCertificateProvider;
use osm_issuer::TrustBundle;
use osm_issuer::rotation::{Record, RootName};
use serde::{Deserialize, Serialize};

pub(crate) use self::config_map::RecordConfigMap;
pub(super) use self::config_map::Seen;
pub(crate) use self::file::RecordFile;

/// The record with what is needed to take it up again: whose roots they are, and their certificates. No key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordDocument {
    /// Counts changes of who signs and who is trusted. Of two records the one with more is the newer.
    #[serde(default)]
    pub(super) revision: u64,
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

/// What was found where the record is kept.
#[derive(Debug)]
pub(super) enum Stored {
    /// No record: nothing was ever in force, as far as is known.
    Nothing,
    /// The record.
    Document(RecordDocument),
    /// Something else; the error says where, and what to do about it.
    Unreadable(anyhow::Error),
}

/// Where the record is kept.
#[derive(Debug)]
pub(crate) enum RecordStore {
    /// Without a cluster: in the state folder.
    File(RecordFile),
    /// In a cluster: where all replicas see it.
    ConfigMap(RecordConfigMap),
}

impl RecordStore {
    /// What is written there.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(super) async fn read(&mut self) -> anyhow::Result<Stored> {
        match self {
            Self::File(file) => Ok(match file.text()? {
                Some(text) => file.parse(&text).map_or_else(Stored::Unreadable, Stored::Document),
                None => Stored::Nothing,
            }),
            Self::ConfigMap(config_map) => config_map.read().await,
        }
    }

    /// Replaces what is written there by `document`, and has it there when this returns.
    ///
    /// # Errors
    /// It is not written, or it is not known whether it is. In a cluster another may have written meanwhile.
    pub(super) async fn write(&mut self, document: &RecordDocument) -> anyhow::Result<()> {
        match self {
            Self::File(file) => file.write(document),
            Self::ConfigMap(config_map) => config_map.write(document).await,
        }
    }
}
