//! Making one leaf: key, request, issuer, verification; and the trust bundle of those who sign.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::clock::Clock;
use super::config::{Issuers, LeafPolicy, StoreConfig};
use crate::bundle::TrustBundle;
use crate::error::{Blame, IssueError};
use crate::identity::PeerIdentity;
use crate::issuer::{CertificateRequest, NamedIssuer};
use crate::key::{LeafKey, LeafKeyAlgorithm};
use crate::leaf::LeafCertificate;
use crate::renewal::{JitterFraction, renew_at};
use crate::secret::SecretMaterial;
use crate::validity::LeafValidity;
use crate::verify::{Expectation, verify_leaf};

/// How long an issuer may take. One that hangs must not hold a place for ever.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(30);
/// When an issuer that did not answer in time is asked again.
const TIMEOUT_RETRY: Duration = Duration::from_secs(5);

/// A leaf, and which generation of roots it is of.
#[derive(Debug, Clone)]
pub(super) struct Issued {
    pub(super) leaf: Arc<LeafCertificate>,
    pub(super) generation: u64,
}

#[derive(Debug)]
pub(super) struct Signing {
    clock: Clock,
    roster: Mutex<Roster>,
    policy: Mutex<LeafPolicy>,
    issuing: Semaphore,
    rsa_generating: Semaphore,
    renewal_concurrency: usize,
}

/// Who signs, with what is known of their roots.
#[derive(Debug, Clone)]
struct Roster {
    issuers: Issuers,
    /// Counts changes of the roots that leaves are signed by.
    generation: u64,
    /// Counts changes of any issuer.
    revision: u64,
    bundles: Option<Bundles>,
}

#[derive(Debug, Clone)]
struct Bundles {
    /// What the signing issuer's leaves must verify against.
    signing: Arc<TrustBundle>,
    /// What peers are given.
    all: Arc<TrustBundle>,
}

impl Signing {
    pub(super) fn new(issuers: Issuers, config: &StoreConfig, clock: Clock) -> Self {
        Self {
            clock,
            roster: Mutex::new(Roster { issuers, generation: 0, revision: 0, bundles: None }),
            policy: Mutex::new(config.policy),
            issuing: Semaphore::new(config.max_issuing.get()),
            rsa_generating: Semaphore::new(config.max_rsa_generating.get()),
            renewal_concurrency: (config.max_issuing.get() / 2).max(1),
        }
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    pub(super) fn generation(&self) -> u64 {
        self.roster.lock().generation
    }

    pub(super) fn revision(&self) -> u64 {
        self.roster.lock().revision
    }

    pub(super) fn renewal_concurrency(&self) -> usize {
        self.renewal_concurrency
    }

    pub(super) fn set_policy(&self, policy: LeafPolicy) {
        *self.policy.lock() = policy;
    }

    pub(super) fn trust_bundle(&self) -> Option<Arc<TrustBundle>> {
        let roster = self.roster.lock();
        roster.bundles.as_ref().map(|bundles| bundles.all.clone())
    }

    /// Asks for all roots again; says whether the union differs from before.
    pub(super) async fn refresh(&self) -> Result<(Arc<TrustBundle>, bool), IssueError> {
        let (issuers, revision) = {
            let roster = self.roster.lock();
            (roster.issuers.clone(), roster.revision)
        };
        let fetched = fetch_bundles(&issuers).await?;
        let mut roster = self.roster.lock();
        // Other issuers were put in place meanwhile, with bundles newer than these.
        if let (true, Some(current)) = (roster.revision != revision, &roster.bundles) {
            return Ok((current.all.clone(), false));
        }
        let changed = roster.adopt(fetched.clone());
        Ok((fetched.all, changed))
    }

    /// Says whether the union of roots differs from before.
    pub(super) async fn set_issuers(&self, issuers: Issuers) -> Result<bool, IssueError> {
        let fetched = fetch_bundles(&issuers).await?;
        let mut roster = self.roster.lock();
        let same_roots = roster.bundles.as_ref().is_some_and(|bundles| bundles.signing == fetched.signing);
        roster.generation += u64::from(!same_roots);
        roster.revision += 1;
        roster.issuers = issuers;
        Ok(roster.adopt(fetched))
    }

    /// Makes and verifies one leaf. Waits for its turn. The trust bundle must have been obtained before.
    pub(super) async fn issue(&self, identity: &PeerIdentity) -> Result<Issued, IssueError> {
        let policy = *self.policy.lock();
        let key = Arc::new(self.generate_key(policy.key).await?);
        let _turn = self.issuing.acquire().await.map_err(|_| closed())?;
        let (signing, generation, bundle) = self.signer()?;
        let request = CertificateRequest::new(key.clone(), identity.clone(), policy.validity_for(identity), self.now());
        let issued = in_time(&signing, signing.issuer.issue(&request)).await?;
        let expected = Expectation::of(&request, &bundle);
        let verified = verify_leaf(&issued, &expected, self.now())
            .map_err(|problem| IssueError::BadCertificate { origin: signing.origin.clone(), problem })?;
        let leaf = LeafCertificate {
            identity: identity.clone(),
            material: SecretMaterial::new(key.private_key_pem()?, verified.chain),
            serial: verified.serial,
            issued_at: request.now(),
            not_before: verified.not_before,
            not_after: verified.not_after,
            renew_at: renew_at(request.now(), verified.not_after, jitter()),
            roots: bundle,
        };
        Ok(Issued { leaf: Arc::new(leaf), generation })
    }

    pub(super) fn validity_for(&self, identity: &PeerIdentity) -> LeafValidity {
        self.policy.lock().validity_for(identity)
    }

    /// The signing issuer with its own roots.
    pub(super) fn signer(&self) -> Result<(NamedIssuer, u64, Arc<TrustBundle>), IssueError> {
        let roster = self.roster.lock();
        let bundles = roster.bundles.as_ref().ok_or_else(|| IssueError::Local {
            attempt: "issue a certificate",
            message: "the trust bundle to verify it against is not known yet".to_owned(),
        })?;
        Ok((roster.issuers.signing.clone(), roster.generation, bundles.signing.clone()))
    }

    async fn generate_key(&self, algorithm: LeafKeyAlgorithm) -> Result<LeafKey, IssueError> {
        match algorithm {
            LeafKeyAlgorithm::EcdsaP256 => LeafKey::generate(algorithm),
            LeafKeyAlgorithm::Rsa(_) => {
                let _turn = self.rsa_generating.acquire().await.map_err(|_| closed())?;
                tokio::task::spawn_blocking(move || LeafKey::generate(algorithm)).await.map_err(|error| {
                    IssueError::Local { attempt: "generate a private key", message: error.to_string() }
                })?
            }
        }
    }
}

impl Roster {
    fn adopt(&mut self, fetched: Bundles) -> bool {
        let before = self.bundles.as_ref().map(|bundles| &bundles.all);
        let changed = before != Some(&fetched.all);
        self.bundles = Some(fetched);
        changed
    }
}

async fn fetch_bundles(issuers: &Issuers) -> Result<Bundles, IssueError> {
    let Issuers { signing, validating } = issuers;
    let own = in_time(signing, signing.issuer.trust_bundle()).await?;
    let mut all = own.clone();
    for other in validating {
        all = all.union(&in_time(other, other.issuer.trust_bundle()).await?);
    }
    Ok(Bundles { signing: Arc::new(own), all: Arc::new(all) })
}

async fn in_time<T>(issuer: &NamedIssuer, call: impl Future<Output = Result<T, IssueError>>) -> Result<T, IssueError> {
    match tokio::time::timeout(ISSUER_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(IssueError::Unreachable {
            remote: issuer.origin.clone(),
            message: format!("no answer within {} seconds", ISSUER_TIMEOUT.as_secs()),
            retry_after: TIMEOUT_RETRY,
        }),
    }
}

/// A semaphore of the store is never closed; said as an error all the same.
fn closed() -> IssueError {
    IssueError::Local { attempt: "wait for a turn", message: format!("{} is shutting down", Blame::Process) }
}

pub(super) fn jitter() -> JitterFraction {
    JitterFraction::from_bits(rand::random())
}
