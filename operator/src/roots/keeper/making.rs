//! Issuers are made beside the keeper: a provider that hangs holds up no step that does not need it.

use std::collections::BTreeMap;

use osm_api::MeshRootCertificateProvider;
use osm_issuer::TrustBundle;
use osm_issuer::rotation::RootName;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::Keeper;
use crate::roots::issuers::{BuiltIn, unchanged};
use crate::roots::provider::{Built, Factory, RootProblem};
use crate::roots::secrets::Missing;

/// Who issues for a root.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// The authority that the control plane was started with.
    BuiltIn,
    /// A provider.
    Provider(Box<MeshRootCertificateProvider>),
}

impl Source {
    pub(super) fn into_provider(self) -> Option<MeshRootCertificateProvider> {
        match self {
            Self::BuiltIn => None,
            Self::Provider(provider) => Some(*provider),
        }
    }
}

/// Issuers that are being made.
#[derive(Debug, Default)]
pub(super) struct Making {
    tasks: JoinSet<(RootName, Result<Built, RootProblem>)>,
    sources: BTreeMap<RootName, Source>,
    made: Vec<(RootName, Source, Result<Built, RootProblem>)>,
}

impl Making {
    pub(super) fn is_making(&self, name: &RootName) -> bool {
        self.sources.contains_key(name)
    }

    /// Waits until one more is done.
    pub(super) async fn done(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok((name, built))) => {
                if let Some(source) = self.sources.remove(&name) {
                    self.made.push((name, source, built));
                }
            }
            // A panic: whose is not told, so all are begun anew.
            Some(Err(error)) => {
                tracing::error!(%error, "an issuer could not be made");
                self.sources.clear();
            }
            None => std::future::pending().await,
        }
    }

    fn begin(&mut self, order: Order) {
        let Order { name, source, in_force, missing, factory, built_in, now } = order;
        self.sources.insert(name.clone(), source.clone());
        self.tasks.spawn(async move {
            let built = match source {
                Source::BuiltIn => built_in.build(missing, now).await,
                Source::Provider(provider) => factory.build(&provider, missing, now).await,
            };
            (name, built.and_then(|built| unchanged(built, in_force.as_ref())))
        });
    }
}

/// An issuer to be made.
struct Order {
    name: RootName,
    source: Source,
    /// The certificates that it must have.
    in_force: Option<TrustBundle>,
    missing: Missing,
    factory: Factory,
    built_in: BuiltIn,
    now: OffsetDateTime,
}

impl Keeper {
    /// Who issues for a root, as its object says, or as was written down before that was deleted.
    pub(super) fn source_of(&self, name: &RootName) -> Option<Source> {
        if *name == self.inputs.built_in.name {
            return Some(Source::BuiltIn);
        }
        let object = self.roots.get(name).and_then(|known| known.object.as_ref());
        let provider = match object {
            Some(object) => Some(object.object.spec.provider.clone()),
            None => {
                let recorded = self.written.0.trusted.iter().find(|root| RootName::from(&root.root) == *name);
                recorded.and_then(|root| root.provider.clone())
            }
        };
        provider.map(|provider| Source::Provider(Box::new(provider)))
    }

    /// Takes over the issuers that were made, and has those made that are missing. The last good one of a root stays whatever
    /// becomes of its object.
    pub(super) fn make_issuers(&mut self) {
        let now = self.inputs.clock.now();
        for (name, source, built) in std::mem::take(&mut self.making.made) {
            // Of an object that was changed meanwhile another is made.
            let is_current = self.source_of(&name) == Some(source);
            let Some(known) = self.roots.get_mut(&name).filter(|_| is_current) else { continue };
            match built.and_then(|built| unchanged(built, known.bundle())) {
                Ok(built) => {
                    tracing::info!(root = %name, not_after = %built.not_after, "the root can be used");
                    (known.built, known.problem) = (Some(built), None);
                }
                Err(problem) => known.fail(&name, problem, now),
            }
        }
        let wanting = self.roots.iter().filter(|(name, known)| {
            let takes_part = known.object.is_some() || self.record.trusted.contains(*name);
            takes_part && known.wants_issuer(now) && !self.making.is_making(name)
        });
        let wanting: Vec<RootName> = wanting.map(|(name, _)| name.clone()).collect();
        for name in wanting {
            let Some(source) = self.source_of(&name) else { continue };
            let in_force = self.roots.get(&name).and_then(|known| known.bundle().cloned());
            let missing = if in_force.is_some() { Missing::Report } else { Missing::Make };
            let (factory, built_in) = (self.inputs.factory.clone(), self.inputs.built_in.clone());
            self.making.begin(Order { name, source, in_force, missing, factory, built_in, now });
        }
        self.share_bundles();
    }
}
