//! What was published of trust bundles and certificates, and with which publication: from it follows what each proxy holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osm_issuer::rotation::{History, Holding, RootName};
use osm_issuer::{LeafCertificate, TrustBundle};
use osm_model::Identity;
use osm_xds::Epoch;

/// See the module. Shared by the loop that publishes and the [`Keeper`](super::Keeper).
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    published: Mutex<Published>,
}

#[derive(Debug, Default)]
struct Published {
    bundles: History<Arc<TrustBundle>>,
    /// By workload, the roots of the certificates that its proxies were given.
    certificates: BTreeMap<Identity, History<Arc<TrustBundle>>>,
    server: Option<Server>,
    /// Counts changes of the histories.
    revision: u64,
}

/// What the control plane serves with.
#[derive(Debug, Clone)]
struct Server {
    /// Roots of its own certificate.
    own: Arc<TrustBundle>,
    /// What it verifies proxies against.
    trusted: Arc<TrustBundle>,
}

/// The bundles of all roots that are known.
pub(super) type Bundles = BTreeMap<RootName, TrustBundle>;

impl Deliveries {
    fn published(&self) -> MutexGuard<'_, Published> {
        // Every update below leaves the histories whole, whatever a panic elsewhere did.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a trust bundle. Who asks what proxies hold waits for the end of it.
    pub(crate) fn publish_bundle(&self, bundle: &Arc<TrustBundle>, publish: impl FnOnce() -> Epoch) {
        let mut published = self.published();
        let epoch = publish();
        published.bundles.publish(epoch.0, Arc::clone(bundle));
        published.revision += 1;
    }

    /// Publishes a certificate, likewise.
    pub(crate) fn publish_certificate(
        &self,
        leaf: &LeafCertificate,
        publish: impl FnOnce() -> Option<(Identity, Epoch)>,
    ) {
        let mut published = self.published();
        if let Some((workload, epoch)) = publish() {
            published.certificates.entry(workload).or_default().publish(epoch.0, Arc::clone(leaf.roots()));
            published.revision += 1;
        }
    }

    /// The control plane serves with this certificate and verifies proxies against this bundle from now on.
    pub(crate) fn serve(&self, leaf: &LeafCertificate, trusted: &Arc<TrustBundle>) {
        let server = Server { own: Arc::clone(leaf.roots()), trusted: Arc::clone(trusted) };
        self.published().server = Some(server);
    }

    /// Forgets workloads that are not `known`, and what nobody may hold any more who has acknowledged up to `epoch`.
    pub(super) fn forget(&self, known: impl Fn(&Identity) -> bool, epoch: Epoch) {
        let mut published = self.published();
        published.bundles.forget_before(epoch.0);
        let before = published.certificates.len();
        published.certificates.retain(|workload, history| {
            history.forget_before(epoch.0);
            known(workload)
        });
        published.revision += u64::from(published.certificates.len() != before);
    }

    /// As long as it is the same, so is every [`Deliveries::holding`].
    pub(super) fn revision(&self) -> u64 {
        self.published().revision
    }

    /// Whether the bundle of these roots is the one that was published last.
    pub(super) fn is_published(&self, trusted: &BTreeSet<RootName>, bundles: &Bundles) -> bool {
        let published = self.published();
        published.bundles.current().is_some_and(|bundle| names_in(bundle, bundles) == *trusted)
    }

    /// What a proxy of `workload` holds that has acknowledged all secrets up to `acknowledged`.
    pub(super) fn holding(&self, workload: &Identity, acknowledged: Option<Epoch>, bundles: &Bundles) -> Holding {
        let published = self.published();
        let held = acknowledged.and_then(|Epoch(epoch)| {
            let trusted = published.bundles.held_since(epoch)?;
            let shown = published.certificates.get(workload)?.held_since(epoch)?;
            Some((trusted, shown))
        });
        let Some((trusted, shown)) = held else { return Holding::Unknown };
        let trusted: Vec<BTreeSet<RootName>> = trusted.map(|bundle| names_in(bundle, bundles)).collect();
        let may_trust: BTreeSet<RootName> = trusted.iter().flatten().cloned().collect();
        let everywhere = |root: &&RootName| trusted.iter().all(|names| names.contains(*root));
        Holding::Known {
            trusts: may_trust.iter().filter(everywhere).cloned().collect(),
            may_show: shown.flat_map(|own| names_of(own, bundles)).collect(),
            connected_with: BTreeSet::new(),
            may_trust,
        }
    }

    /// What the control plane serves with.
    pub(super) fn server(&self, bundles: &Bundles) -> Holding {
        match &self.published().server {
            Some(Server { own, trusted }) => Holding::settled(names_in(trusted, bundles), names_of(own, bundles)),
            None => Holding::Unknown,
        }
    }
}

/// The roots that a bundle holds.
pub(super) fn names_in(bundle: &TrustBundle, bundles: &Bundles) -> BTreeSet<RootName> {
    bundles.iter().filter(|(_, own)| bundle.contains(own)).map(|(name, _)| name.clone()).collect()
}

/// The roots whose own bundle this is.
pub(super) fn names_of(own: &TrustBundle, bundles: &Bundles) -> BTreeSet<RootName> {
    bundles.iter().filter(|(_, bundle)| *bundle == own).map(|(name, _)| name.clone()).collect()
}
