//! The certificate store: one leaf per identity, issued once, renewed in time.

mod adopting;
mod changes;
mod clock;
mod config;
mod entry;
mod signing;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use changes::{Change, Changes};
pub use clock::Clock;
pub use config::{Issuers, LeafPolicy, StoreConfig};
pub use entry::{CertificateStatus, FailureStatus, LeafStatus};

use crate::bundle::TrustBundle;
use crate::error::IssueError;
use crate::identity::PeerIdentity;
use crate::leaf::LeafCertificate;
use changes::Subscribers;
use entry::{Entry, Need};
use signing::Signing;

/// How often the trust bundle is asked for again: an issuer may change its roots without telling.
const TRUST_BUNDLE_REFRESH: Duration = Duration::from_secs(5 * 60);
/// Longest sleep of the renewal loop, so that a clock that was set is noticed, and new leaves need not wake it.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Keeps leaf certificates: at most one issuance per identity at a time, a bounded number overall, renewal before expiry.
///
/// An issuer that is down delays renewals and nothing else: leaves that have not ended are still handed out.
pub struct CertificateStore {
    signing: Signing,
    entries: Mutex<BTreeMap<PeerIdentity, Arc<Entry>>>,
    subscribers: Subscribers,
    /// Held while the trust bundle is asked for the first time, so that many callers do not ask together.
    first_trust_bundle: tokio::sync::Mutex<()>,
    /// Wakes the renewal loop when something is due earlier than it knew.
    schedule_changed: Notify,
}

/// What one round of renewals did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renewed {
    /// Identities with a new leaf.
    pub renewed: usize,
    /// Identities whose issuance failed; [`CertificateStore::status`] says why.
    pub failed: usize,
}

impl CertificateStore {
    /// A store without certificates. Asks the issuers for nothing yet, so one that is down does not stop a start.
    pub fn new(issuers: Issuers, config: StoreConfig, clock: Clock) -> Self {
        Self {
            signing: Signing::new(issuers, &config, clock),
            entries: Mutex::new(BTreeMap::new()),
            subscribers: Subscribers::default(),
            first_trust_bundle: tokio::sync::Mutex::new(()),
            schedule_changed: Notify::new(),
        }
    }

    /// The certificate of `identity`: the one at hand, or a new one. From now on the store keeps it fresh, until
    /// [`Self::retain`] says that it is not wanted.
    ///
    /// While an issuer refuses, callers get the last error at once; the issuer is asked again when the wait is over.
    ///
    /// # Errors
    /// [`IssueError`] when there is no valid leaf at hand and none can be issued.
    pub async fn certificate(&self, identity: &PeerIdentity) -> Result<Arc<LeafCertificate>, IssueError> {
        let entry = self.entry(identity);
        self.obtain(identity, &entry, Need::Valid).await
    }

    /// The certificate of `identity` if one is at hand and has not ended. Never waits.
    pub fn cached(&self, identity: &PeerIdentity) -> Option<Arc<LeafCertificate>> {
        let entry = self.entries.lock().get(identity).cloned()?;
        entry.valid_leaf(self.signing.now())
    }

    /// Issues a new certificate for `identity` whatever its age, also while a failure is being waited out. An issuance
    /// under way at the time of the call counts.
    ///
    /// # Errors
    /// [`IssueError`]; the leaf at hand stays in use.
    pub async fn rotate_now(&self, identity: &PeerIdentity) -> Result<Arc<LeafCertificate>, IssueError> {
        let entry = self.entry(identity);
        self.obtain(identity, &entry, Need::New).await
    }

    /// Drops every identity that is not `wanted`, with its key.
    pub fn retain(&self, mut wanted: impl FnMut(&PeerIdentity) -> bool) {
        self.entries.lock().retain(|identity, _| wanted(identity));
    }

    /// State per identity, in order; without keys.
    pub fn status(&self) -> Vec<CertificateStatus> {
        let entries = self.entries.lock();
        entries.iter().map(|(identity, entry)| entry.status(identity)).collect()
    }

    /// The roots of the issuers of all leaves at hand, with the latest end of validity of a leaf of each.
    pub fn roots_in_use(&self) -> Vec<(Arc<TrustBundle>, time::OffsetDateTime)> {
        let mut in_use: Vec<(Arc<TrustBundle>, time::OffsetDateTime)> = Vec::new();
        for entry in self.entries.lock().values() {
            let Some((roots, until)) = entry.roots_and_end() else { continue };
            match in_use.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &roots) || *known == roots) {
                Some((_, latest)) => *latest = (*latest).max(until),
                None => in_use.push((roots, until)),
            }
        }
        in_use
    }

    /// The first identity, in order, whose last attempt failed by the issuers in place, with the failure. Those of ingress gateways
    /// do not count: a provider may well refuse the names that people choose.
    pub fn first_failure(&self) -> Option<(PeerIdentity, FailureStatus)> {
        let entries = self.entries.lock();
        entries.iter().find_map(|(identity, entry)| {
            let counts = !matches!(identity, PeerIdentity::IngressGateway(_));
            Some((identity.clone(), entry.failure().filter(|_| counts)?))
        })
    }

    /// How many identities' last attempt failed.
    pub fn failing(&self) -> usize {
        self.entries.lock().values().filter(|entry| entry.failure().is_some()).count()
    }

    /// State of one identity; `None` if the store does not keep it.
    pub fn status_of(&self, identity: &PeerIdentity) -> Option<CertificateStatus> {
        let entry = self.entries.lock().get(identity).cloned()?;
        Some(entry.status(identity))
    }

    /// Reports every change from now on. What changed more often than it is read is reported once.
    pub fn subscribe(&self) -> Changes {
        self.subscribers.subscribe()
    }

    /// What peers are verified against: the roots of the signing issuer and of all validating ones.
    ///
    /// # Errors
    /// [`IssueError`] when it was never obtained and an issuer does not give it.
    pub async fn trust_bundle(&self) -> Result<Arc<TrustBundle>, IssueError> {
        if let Some(bundle) = self.signing.trust_bundle() {
            return Ok(bundle);
        }
        let _first = self.first_trust_bundle.lock().await;
        match self.signing.trust_bundle() {
            Some(bundle) => Ok(bundle),
            None => self.refresh_trust_bundle().await,
        }
    }

    /// Asks the issuers for their roots again, and reports [`Change::TrustBundle`] if they differ.
    ///
    /// # Errors
    /// [`IssueError`] of the first issuer that does not answer; the bundle at hand stays in use.
    pub async fn refresh_trust_bundle(&self) -> Result<Arc<TrustBundle>, IssueError> {
        let (bundle, changed) = self.signing.refresh().await?;
        if changed {
            self.subscribers.publish(&Change::TrustBundle);
        }
        Ok(bundle)
    }

    /// Puts other issuers in place. Their roots are asked for first; when that fails, nothing changes. If leaves are of other
    /// roots from now on, every leaf is due for renewal; one that signs with the same roots, with another credential for
    /// instance, takes over without that. Failures are forgotten: what failed is tried again at once.
    ///
    /// # Errors
    /// [`IssueError`] of the first issuer that does not give its roots.
    pub async fn set_issuers(&self, issuers: Issuers) -> Result<(), IssueError> {
        if self.signing.set_issuers(issuers).await? {
            self.subscribers.publish(&Change::TrustBundle);
        }
        self.retry_failures();
        Ok(())
    }

    /// Forgets failures: what failed is tried again at once.
    pub fn retry_failures(&self) {
        for entry in self.entries.lock().values() {
            entry.forget_failure();
        }
        self.schedule_changed.notify_one();
    }

    /// Key and validity of leaves issued from now on. Leaves at hand keep theirs until they are renewed.
    pub fn set_policy(&self, policy: LeafPolicy) {
        self.signing.set_policy(policy);
    }

    /// When the next leaf is due for renewal or for another attempt; `None` when nothing is.
    pub fn next_renewal(&self) -> Option<time::OffsetDateTime> {
        let generation = self.signing.generation();
        let entries = self.entries.lock();
        entries.values().filter_map(|entry| entry.due_at(generation)).min()
    }

    /// Renews everything that is due. Uses at most half of the issuing capacity, so that a proxy that has just come is
    /// not kept waiting by renewals.
    pub async fn renew_due(&self) -> Renewed {
        let (now, generation) = (self.signing.now(), self.signing.generation());
        let due: Vec<_> = {
            let entries = self.entries.lock();
            entries
                .iter()
                .filter(|(_, entry)| entry.due_at(generation).is_some_and(|at| at <= now))
                .map(|(identity, entry)| (identity.clone(), entry.clone()))
                .collect()
        };
        futures::stream::iter(due)
            .map(|(identity, entry)| async move {
                let outcome = self.obtain(&identity, &entry, Need::Due).await;
                // Nobody else hears of it here; other callers get the error themselves.
                if let Err(error) = &outcome {
                    tracing::warn!(%identity, %error, reason = error.reason(), "cannot renew a certificate");
                }
                outcome.is_ok()
            })
            .buffer_unordered(self.signing.renewal_concurrency())
            .fold(Renewed::default(), |sum, ok| async move {
                Renewed { renewed: sum.renewed + usize::from(ok), failed: sum.failed + usize::from(!ok) }
            })
            .await
    }

    /// Renews leaves as they fall due and refreshes the trust bundle, for ever. Run it as a task whose owner notices when
    /// it ends; dropping it is a clean stop.
    pub async fn run(&self) -> Infallible {
        let mut refresh = tokio::time::interval(TRUST_BUNDLE_REFRESH);
        loop {
            let sleep = self.next_renewal().map_or(LONGEST_SLEEP, |at| {
                Duration::try_from(at - self.signing.now()).unwrap_or_default().min(LONGEST_SLEEP)
            });
            tokio::select! {
                () = tokio::time::sleep(sleep) => {
                    self.renew_due().await;
                }
                () = self.schedule_changed.notified() => {}
                _ = refresh.tick() => {
                    if let Err(error) = self.refresh_trust_bundle().await {
                        tracing::warn!(%error, reason = error.reason(), "cannot refresh the trust bundle");
                    }
                }
            }
        }
    }

    fn entry(&self, identity: &PeerIdentity) -> Arc<Entry> {
        let mut entries = self.entries.lock();
        entries.entry(identity.clone()).or_default().clone()
    }

    async fn obtain(
        &self,
        identity: &PeerIdentity,
        entry: &Arc<Entry>,
        need: Need,
    ) -> Result<Arc<LeafCertificate>, IssueError> {
        if let Some(answer) = entry.answer(need, self.signing.now(), self.signing.generation()) {
            return answer;
        }
        let flight = entry.join_flight().await;
        if let Some(answer) = flight.answer(need, self.signing.now(), self.signing.generation()) {
            return answer;
        }
        let outcome = self.issue(identity).await;
        let outcome = flight.record(outcome, self.signing.now(), signing::jitter());
        match &outcome {
            Ok(leaf) => {
                tracing::debug!(%identity, serial = leaf.serial(), not_after = %leaf.not_after(), "issued a certificate");
                // Not reported when it was dropped meanwhile: nobody wants it.
                if self.holds(identity, entry) {
                    self.subscribers.publish(&Change::Leaf(identity.clone()));
                }
            }
            // The next attempt may be due before the renewal loop would wake.
            Err(_) => self.schedule_changed.notify_one(),
        }
        outcome
    }

    /// An issuer that was replaced while it signed may be trusted no longer by the time its certificate is used, and its failure
    /// is no news, so the one in its place is asked instead.
    async fn issue(&self, identity: &PeerIdentity) -> Result<signing::Issued, IssueError> {
        self.trust_bundle().await?;
        loop {
            let revision = self.signing.revision();
            let issued = self.signing.issue(identity).await;
            let is_current = match &issued {
                Ok(issued) => issued.generation == self.signing.generation(),
                Err(_) => revision == self.signing.revision(),
            };
            if is_current {
                return issued;
            }
        }
    }

    fn holds(&self, identity: &PeerIdentity, entry: &Arc<Entry>) -> bool {
        let entries = self.entries.lock();
        entries.get(identity).is_some_and(|held| Arc::ptr_eq(held, entry))
    }
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateStore").field("identities", &self.entries.lock().len()).finish_non_exhaustive()
    }
}
