//! The roots that take part, and the issuers that are made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use osm_issuer::rotation::{Record, RootName};
use osm_issuer::{Blame, IssuerConfig, Issuers, NamedIssuer, TrustBundle, tresor};
use time::OffsetDateTime;

use super::provider::{Built, Factory};
use super::record::{RecordDocument, RecordedRoot};

/// The authority that the control plane was started with.
#[derive(Debug, Clone)]
pub(crate) struct BuiltIn {
    pub(super) name: RootName,
    folder: PathBuf,
}

impl BuiltIn {
    /// The authority in the state folder of a control plane in `namespace`. No object can have its name.
    pub(crate) fn in_folder(namespace: &str, folder: &Path) -> Self {
        Self { name: RootName::new(namespace, "(authority of the state folder)"), folder: folder.to_owned() }
    }

    /// Whether it was made already.
    pub(super) fn exists(&self) -> bool {
        self.folder.join("ca.crt").exists()
    }

    /// Opens it, making it if it is not there.
    pub(super) async fn build(&self, now: OffsetDateTime) -> anyhow::Result<Built> {
        let folder = self.folder.clone();
        let opened = tokio::task::spawn_blocking(move || tresor::load_or_create(&folder, now)).await?;
        let in_folder = || format!("the certificate authority in {}", self.folder.display());
        let material = opened.with_context(|| format!("open {}", in_folder()))?;
        let origin = Blame::Folder { path: self.folder.clone() };
        let config = IssuerConfig::Tresor(tresor::TresorConfig { material, origin });
        let issuer = config.build(now).with_context(|| format!("use {}", in_folder()))?;
        let bundle = issuer.issuer.trust_bundle().await?;
        Built::new(issuer, bundle, true).with_context(|| format!("read {}", in_folder()))
    }
}

/// A root of which only the certificates are known.
pub(super) fn validating(name: &RootName, bundle: TrustBundle) -> Option<Built> {
    let origin = Blame::Remote { address: format!("the former root {name}") };
    Built::new(NamedIssuer::validating(origin, bundle.clone()), bundle, false)
}

/// The issuer of a root that is in force, from what was written down. One that holds other certificates than those in
/// force is another root, and only the former certificates are used.
pub(super) async fn recorded(
    name: &RootName,
    root: &RecordedRoot,
    bundle: Option<TrustBundle>,
    built_in: &BuiltIn,
    factory: &Factory,
    now: OffsetDateTime,
) -> anyhow::Result<Built> {
    let built = match &root.provider {
        None => built_in.build(now).await,
        Some(provider) => factory.build(provider, now).await.map_err(|problem| {
            anyhow::anyhow!("root {name}: {}: {}; {}", problem.field, problem.message, problem.remedy)
        }),
    };
    match (built, bundle) {
        (Ok(built), Some(bundle)) if built.bundle == bundle => Ok(built),
        (Ok(built), None) => Ok(built),
        (Ok(_), Some(bundle)) => {
            tracing::error!(root = %name, "the provider has another certificate than the one in force, which only stays trusted");
            validating(name, bundle).with_context(|| format!("read the certificates of root {name}"))
        }
        (Err(error), Some(bundle)) => {
            tracing::error!(root = %name, error = format!("{error:#}"), "the root cannot sign; it stays trusted");
            validating(name, bundle).with_context(|| format!("read the certificates of root {name}"))
        }
        (Err(error), None) => Err(error),
    }
}

/// What the store signs with and trusts. Others than the signing root are trusted by the certificates that are known, so
/// that nobody has to be reached for it.
pub(super) fn issuers(record: &Record, built: &BTreeMap<RootName, Built>) -> Option<Issuers> {
    let signing = built.get(record.signing.as_ref()?)?.issuer.clone();
    let others = record.trusted.iter().filter(|name| record.signing.as_ref() != Some(name));
    let validating = others.filter_map(|name| {
        let built = built.get(name)?;
        Some(NamedIssuer::validating(built.issuer.origin.clone(), built.bundle.clone()))
    });
    Some(Issuers { signing, validating: validating.collect() })
}

/// The issuers of a record that was written down.
pub(super) async fn of_record(
    document: &RecordDocument,
    built_in: &BuiltIn,
    factory: &Factory,
    now: OffsetDateTime,
) -> anyhow::Result<BTreeMap<RootName, Built>> {
    let mut built = BTreeMap::new();
    for (name, (root, bundle)) in document.roots() {
        let one = recorded(&name, root, bundle, built_in, factory, now).await?;
        built.insert(name, one);
    }
    Ok(built)
}
