//! Issuers are made beside the keeper: a provider that hangs holds up no step that does not need it.

use std::collections::BTreeMap;

use osm_api::MeshRootCertificateProvider;
use osm_issuer::TrustBundle;
use osm_issuer::rotation::RootName;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::Keeper;
use super::known::Known;
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
        let Order { name, source, current, in_force, missing, factory, built_in, now } = order;
        self.sources.insert(name.clone(), source.clone());
        self.tasks.spawn(async move {
            let built = match source {
                Source::BuiltIn => built_in.renew(current.as_ref(), missing, now).await,
                Source::Provider(provider) => factory.renew(&provider, current.as_ref(), missing, now).await,
            };
            (name, built.and_then(|built| unchanged(built, in_force.as_ref())))
        });
    }
}

/// An issuer to be made.
struct Order {
    name: RootName,
    source: Source,
    /// The issuer at hand.
    current: Option<Built>,
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

    /// Takes over the issuers that were looked at, and has those looked at that are due. The last good one of a root stays
    /// whatever becomes of its object, or of its provider.
    pub(super) fn make_issuers(&mut self) {
        let now = self.inputs.clock.now();
        for (name, source, looked) in std::mem::take(&mut self.making.made) {
            // Of an object that was changed meanwhile another is made.
            let is_current = self.source_of(&name) == Some(source);
            let in_force = self.certificates_in_force(&name);
            let Some(known) = self.roots.get_mut(&name).filter(|_| is_current) else { continue };
            let was_wrong = known.problem.is_some();
            known.take(&name, looked.and_then(|built| unchanged(built, in_force.as_ref())), now);
            // What failed for the same reason need not wait longer.
            if was_wrong && known.problem.is_none() && self.record.signing.as_ref() == Some(&name) {
                self.store.retry_failures();
            }
        }
        let fails = self.store.first_failure().is_some();
        let due = self.roots.iter().filter(|(name, known)| {
            let (is_in_force, signs) =
                (self.record.trusted.contains(*name), self.record.signing.as_ref() == Some(*name));
            !self.making.is_making(name)
                && known.is_due(is_in_force, signs && fails, self.inputs.timing.look_every, now)
        });
        let due: Vec<RootName> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some(source) = self.source_of(&name) else { continue };
            let current = self.roots.get(&name).and_then(|known| known.built.clone());
            let missing = if current.is_some() { Missing::Report } else { Missing::Make };
            let in_force = self.certificates_in_force(&name);
            let (factory, built_in) = (self.inputs.factory.clone(), self.inputs.built_in.clone());
            self.making.begin(Order { name, source, current, in_force, missing, factory, built_in, now });
        }
        self.share_bundles();
    }

    /// The certificates that a root must keep: somebody may verify others by them.
    fn certificates_in_force(&self, name: &RootName) -> Option<TrustBundle> {
        let is_in_force =
            self.record.trusted.contains(name) || self.record.trusted.contains(&self.representative(name));
        self.roots.get(name).filter(|_| is_in_force).and_then(Known::bundle).cloned()
    }
}
