//! The roots that take part, and the issuers that are made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use osm_api::MeshRootCertificateReason as Reason;
use osm_issuer::rotation::{Record, RootName};
use osm_issuer::{Blame, IssueError, IssuerConfig, Issuers, NamedIssuer, TrustBundle, tresor};
use time::OffsetDateTime;

use super::provider::{Built, Factory, RootProblem};
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

    /// Opens it; `missing` says what is done if it is not there.
    pub(super) async fn build(&self, missing: Missing, now: OffsetDateTime) -> Result<Built, RootProblem> {
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
        let config = IssuerConfig::Tresor(tresor::TresorConfig { material, origin });
        let problem = |error: &IssueError| RootProblem::of_issuer(field, error);
        let issuer = config.build(now).map_err(|error| problem(&error))?;
        let bundle = issuer.issuer.trust_bundle().await.map_err(|error| problem(&error))?;
        Built::new(issuer, bundle, true)
            .ok_or_else(|| RootProblem::local(field, "the authority's certificate cannot be read"))
    }
}

/// A root of which only the certificates are known.
pub(super) fn validating(name: &RootName, bundle: TrustBundle) -> Option<Built> {
    let origin = Blame::Remote { address: format!("the former root {name}") };
    Built::new(NamedIssuer::validating(origin, bundle.clone()), bundle, false)
}

/// The issuer of a root that is in force, from what was written down. One that cannot be had, or that holds other certificates
/// than those in force, only stays trusted by those, until it is as it was.
pub(super) async fn recorded(
    name: &RootName,
    root: &RecordedRoot,
    bundle: Option<TrustBundle>,
    built_in: &BuiltIn,
    factory: &Factory,
    now: OffsetDateTime,
) -> Result<Built, RootProblem> {
    let built = match &root.provider {
        None => built_in.build(Missing::Report, now).await,
        Some(provider) => factory.build(provider, Missing::Report, now).await,
    };
    match (built.and_then(|built| unchanged(built, bundle.as_ref())), bundle) {
        (Ok(built), _) => Ok(built),
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
///
/// # Errors
/// Neither the issuer nor the certificates of one of its roots can be had.
pub(super) async fn of_record(
    document: &RecordDocument,
    built_in: &BuiltIn,
    factory: &Factory,
    now: OffsetDateTime,
) -> anyhow::Result<BTreeMap<RootName, Built>> {
    let mut built = BTreeMap::new();
    for (name, (root, bundle)) in document.roots() {
        let one = recorded(&name, root, bundle, built_in, factory, now).await;
        let one = one.map_err(|problem| anyhow::anyhow!("{problem}")).with_context(|| format!("use root {name}"))?;
        built.insert(name, one);
    }
    Ok(built)
}
