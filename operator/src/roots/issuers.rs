//! The roots that take part, and the issuers that are made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use osm_api::MeshRootCertificateReason as Reason;
use osm_issuer::rotation::{Record, RootName};
use osm_issuer::{Blame, IssuerConfig, Issuers, NamedIssuer, TrustBundle, tresor};
use time::OffsetDateTime;

use super::mark::Marking;
use super::provider::{Built, Factory, Material, RootProblem};
use super::record::{RecordDocument, RecordedRoot};
use super::secrets::{self, Missing, Secrets};

/// What names the folder of the authority that the control plane was started with.
const FOLDER_FLAG: &str = "--state-dir";
/// What names its Secret.
const SECRET_FLAG: &str = "--ca-bundle-secret-name";

/// The authority that the control plane was started with.
#[derive(Debug, Clone)]
pub(crate) struct BuiltIn {
    pub(super) name: RootName,
    place: Place,
}

/// Where it is kept.
#[derive(Debug, Clone)]
enum Place {
    /// Without a cluster: the state folder.
    Folder(PathBuf),
    /// In a cluster: a Secret of the control plane's namespace.
    Secret { secrets: Secrets, name: String },
}

impl BuiltIn {
    /// The authority in the state folder of a control plane in `namespace`. No object can have its name.
    pub(crate) fn in_folder(namespace: &str, folder: &Path) -> Self {
        let name = RootName::new(namespace, "(authority of the state folder)");
        Self { name, place: Place::Folder(folder.to_owned()) }
    }

    /// The authority in the Secret `name` of a control plane in `namespace`. No object can have its name.
    pub(crate) fn in_secret(namespace: &str, name: String, secrets: Secrets) -> Self {
        let root = RootName::new(namespace, format!("(Secret {name})"));
        Self { name: root, place: Place::Secret { secrets, name } }
    }

    /// Whether it was made already.
    ///
    /// # Errors
    /// The API server does not say.
    pub(super) async fn exists(&self) -> Result<bool, RootProblem> {
        match &self.place {
            Place::Folder(folder) => Ok(folder.join("ca.crt").exists()),
            Place::Secret { secrets, name } => secrets.exists(SECRET_FLAG, self.name.namespace(), name).await,
        }
    }

    /// Opens it: `current` if it is as it was. `missing` says what is done if it is not there.
    pub(super) async fn renew(
        &self,
        current: Option<&Built>,
        missing: Missing,
        now: OffsetDateTime,
    ) -> Result<Built, RootProblem> {
        let (field, material, origin) = match &self.place {
            Place::Folder(folder) => {
                let material = secrets::authority_in_folder(FOLDER_FLAG, folder.clone(), missing, now).await?;
                (FOLDER_FLAG, material, Blame::Folder { path: folder.clone() })
            }
            Place::Secret { secrets, name } => {
                let namespace = self.name.namespace();
                let material = secrets.authority(SECRET_FLAG, namespace, name, missing, now).await?;
                (SECRET_FLAG, material, secrets.blame(namespace, name))
            }
        };
        let mut marking = Marking::new();
        marking.add_authority(&material);
        let config = IssuerConfig::Tresor(tresor::TresorConfig { material, origin });
        Built::renewed(Material { field, config, mark: marking.finish(), trial: None }, current, now).await
    }
}

/// A root of which only the certificates are known.
pub(super) fn validating(name: &RootName, bundle: TrustBundle) -> Option<Built> {
    let origin = Blame::Remote { address: format!("the former root {name}") };
    Built::validating(NamedIssuer::validating(origin, bundle.clone()), bundle)
}

/// The issuer of a root that is in force, from what was written down. One that cannot be had, or that holds other certificates
/// than those in force, only stays trusted by those, until it is as it was; unless it is at hand (`current`) as it was.
pub(super) async fn recorded(
    name: &RootName,
    (root, bundle): (&RecordedRoot, Option<TrustBundle>),
    current: Option<&Built>,
    built_in: &BuiltIn,
    factory: &Factory,
    now: OffsetDateTime,
) -> Result<Built, RootProblem> {
    let built = match &root.provider {
        None => built_in.renew(current, Missing::Report, now).await,
        Some(provider) => factory.renew(provider, current, Missing::Report, now).await,
    };
    let at_hand = current.filter(|current| current.signs() && Some(&current.bundle) == bundle.as_ref());
    match (built.and_then(|built| unchanged(built, bundle.as_ref())), bundle) {
        (Ok(built), _) => Ok(built),
        (Err(problem), _) if at_hand.is_some() => {
            tracing::warn!(root = %name, %problem, "the root signs as before");
            at_hand.cloned().ok_or(problem)
        }
        (Err(problem), Some(bundle)) => {
            tracing::error!(
                root = %name, field = problem.field, message = problem.message, remedy = problem.remedy,
                "the root cannot sign; it stays trusted"
            );
            validating(name, bundle).ok_or(problem)
        }
        (Err(problem), None) => Err(problem),
    }
}

/// A root in force never changes its certificates: whoever holds them would be cut off.
pub(super) fn unchanged(built: Built, in_force: Option<&TrustBundle>) -> Result<Built, RootProblem> {
    match in_force {
        Some(bundle) if *bundle != built.bundle => Err(RootProblem::new(
            Reason::InvalidSecret,
            "spec.provider",
            "the provider has another certificate than the one that is in force",
            "restore it, or create another MeshRootCertificate and rotate to it",
        )),
        _ => Ok(built),
    }
}

/// What the store signs with and trusts. All roots are trusted by the certificates that are known, so that nobody has to be
/// reached for it, and no provider changes on its own what is trusted.
pub(super) fn issuers(record: &Record, built: &BTreeMap<RootName, Built>) -> Option<Issuers> {
    let signing = built.get(record.signing.as_ref()?)?;
    let signing = signing.issuer.pinned(signing.bundle.clone());
    let others = record.trusted.iter().filter(|name| record.signing.as_ref() != Some(name));
    let validating = others.filter_map(|name| {
        let built = built.get(name)?;
        Some(NamedIssuer::validating(built.issuer.origin.clone(), built.bundle.clone()))
    });
    Some(Issuers { signing, validating: validating.collect() })
}

/// The issuers of a record that was written down; those of `current` that are as they were.
///
/// # Errors
/// Neither the issuer nor the certificates of one of its roots can be had.
pub(super) async fn of_record(
    document: &RecordDocument,
    current: &BTreeMap<RootName, Built>,
    built_in: &BuiltIn,
    factory: &Factory,
    now: OffsetDateTime,
) -> anyhow::Result<BTreeMap<RootName, Built>> {
    let mut built = BTreeMap::new();
    for (name, (root, bundle)) in document.roots() {
        let one = recorded(&name, (root, bundle), current.get(&name), built_in, factory, now).await;
        let one = one.map_err(|problem| anyhow::anyhow!("{problem}")).with_context(|| format!("use root {name}"))?;
        built.insert(name, one);
    }
    Ok(built)
}
