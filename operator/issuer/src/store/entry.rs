//! One identity in the store: its leaf, its last failure, and the one issuance that may be under way.

use std::sync::Arc;

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::signing::Issued;
use crate::bundle::TrustBundle;
use crate::error::IssueError;
use crate::identity::PeerIdentity;
use crate::leaf::LeafCertificate;
use crate::renewal::{JitterFraction, retry_at};

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Any leaf that has not ended.
    Valid,
    /// A leaf that is not due for renewal.
    Due,
    /// A leaf issued from now on.
    New,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    state: Mutex<State>,
    /// Held while an issuance is under way.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    leaf: Option<Issued>,
    failure: Option<FailureStatus>,
    /// Issuances that ended, well or not. Who waited for one sees it by this.
    outcomes: u64,
}

/// State of one identity. Contains no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Whom the certificate names.
    pub identity: PeerIdentity,
    /// The leaf at hand; `None` before the first one.
    pub leaf: Option<LeafStatus>,
    /// The last attempt's failure; `None` when it succeeded or there was none.
    pub failure: Option<FailureStatus>,
}

/// A leaf, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafStatus {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// When it was issued.
    pub issued_at: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// When it is due for renewal.
    pub renew_at: OffsetDateTime,
    /// The roots of the issuer that signed it.
    pub roots: Arc<TrustBundle>,
}

/// A failure, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureStatus {
    /// What went wrong.
    pub error: IssueError,
    /// When.
    pub at: OffsetDateTime,
    /// How many failures in a row, from 1.
    pub failures: u32,
    /// When it is tried again; `None` for never.
    pub retry_at: Option<OffsetDateTime>,
}

impl Entry {
    pub(super) fn valid_leaf(&self, now: OffsetDateTime) -> Option<Arc<LeafCertificate>> {
        self.state.lock().valid_leaf(now)
    }

    pub(super) fn forget_failure(&self) {
        let mut state = self.state.lock();
        // Due at once if there was one: somebody still waits for the certificate.
        if let Some(failure) = &mut state.failure {
            failure.retry_at = Some(failure.at);
        }
    }

    /// The last failure, if it is not forgotten.
    pub(super) fn failure(&self) -> Option<FailureStatus> {
        let state = self.state.lock();
        state.failure.clone().filter(|failure| failure.retry_at != Some(failure.at))
    }

    /// The roots of the issuer of the leaf at hand, and its end of validity.
    pub(super) fn roots_and_end(&self) -> Option<(Arc<TrustBundle>, OffsetDateTime)> {
        let state = self.state.lock();
        let leaf = &state.leaf.as_ref()?.leaf;
        Some((Arc::clone(leaf.roots()), leaf.not_after()))
    }

    pub(super) fn due_at(&self, generation: u64) -> Option<OffsetDateTime> {
        self.state.lock().due_at(generation)
    }

    /// The answer that can be given without an issuance.
    pub(super) fn answer(
        &self,
        need: Need,
        now: OffsetDateTime,
        generation: u64,
    ) -> Option<Result<Arc<LeafCertificate>, IssueError>> {
        self.state.lock().answer(need, now, generation)
    }

    /// Waits until no issuance is under way. The guard is the right to start one.
    pub(super) async fn join_flight(&self) -> Flight<'_> {
        let outcomes_before = self.state.lock().outcomes;
        Flight { _guard: self.flight.lock().await, entry: self, outcomes_before }
    }

    pub(super) fn status(&self, identity: &PeerIdentity) -> CertificateStatus {
        let state = self.state.lock();
        CertificateStatus {
            identity: identity.clone(),
            leaf: state.leaf.as_ref().map(|Issued { leaf, .. }| LeafStatus {
                serial: leaf.serial().to_owned(),
                issued_at: leaf.issued_at(),
                not_after: leaf.not_after(),
                renew_at: leaf.renew_at(),
                roots: Arc::clone(leaf.roots()),
            }),
            failure: state.failure.clone(),
        }
    }
}

impl State {
    fn valid_leaf(&self, now: OffsetDateTime) -> Option<Arc<LeafCertificate>> {
        let issued = self.leaf.as_ref()?;
        (issued.leaf.not_after() > now).then(|| issued.leaf.clone())
    }

    /// When an issuance should start: after a failure when that says so, else when the leaf is old or of a root that no longer
    /// signs. Nothing is due before the first issuance, because that is under way.
    fn due_at(&self, generation: u64) -> Option<OffsetDateTime> {
        if let Some(failure) = &self.failure {
            return failure.retry_at;
        }
        self.leaf.as_ref().map(|issued| {
            if issued.generation == generation { issued.leaf.renew_at() } else { issued.leaf.issued_at() }
        })
    }

    fn answer(
        &self,
        need: Need,
        now: OffsetDateTime,
        generation: u64,
    ) -> Option<Result<Arc<LeafCertificate>, IssueError>> {
        let due = self.due_at(generation).is_some_and(|at| at <= now);
        let leaf = match need {
            Need::New => return None,
            Need::Due if due => return None,
            Need::Valid | Need::Due => self.valid_leaf(now),
        };
        match (leaf, &self.failure) {
            (Some(leaf), _) => Some(Ok(leaf)),
            // The wait after a failure is not over.
            (None, Some(failure)) if !due => Some(Err(failure.error.clone())),
            (None, _) => None,
        }
    }
}

/// The right to start the one issuance of an entry.
pub(super) struct Flight<'a> {
    _guard: tokio::sync::MutexGuard<'a, ()>,
    entry: &'a Entry,
    outcomes_before: u64,
}

impl Flight<'_> {
    /// The outcome of the issuance that was waited for; or what can be answered without one.
    pub(super) fn answer(
        &self,
        need: Need,
        now: OffsetDateTime,
        generation: u64,
    ) -> Option<Result<Arc<LeafCertificate>, IssueError>> {
        let state = self.entry.state.lock();
        if state.outcomes == self.outcomes_before {
            return state.answer(need, now, generation);
        }
        match &state.failure {
            Some(failure) => Some(Err(failure.error.clone())),
            None => state.answer(Need::Valid, now, generation),
        }
    }

    /// Keeps the outcome of an issuance. A failure leaves the leaf at hand in use.
    pub(super) fn record(
        &self,
        outcome: Result<Issued, IssueError>,
        now: OffsetDateTime,
        jitter: JitterFraction,
    ) -> Result<Arc<LeafCertificate>, IssueError> {
        let mut state = self.entry.state.lock();
        state.outcomes += 1;
        match outcome {
            Ok(issued) => {
                let leaf = issued.leaf.clone();
                state.leaf = Some(issued);
                state.failure = None;
                Ok(leaf)
            }
            Err(error) => {
                let failures = state.failure.as_ref().map_or(1, |last| last.failures + 1);
                state.failure = Some(FailureStatus {
                    error: error.clone(),
                    at: now,
                    failures,
                    retry_at: retry_at(now, error.advice(), failures, jitter),
                });
                Err(error)
            }
        }
    }
}
