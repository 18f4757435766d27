//! The store: one issuance per identity, bounded concurrency, renewal, failure, rotation, events.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial};
use osm_issuer::{
    CertificateRequest, CertificateStore, Change, Changes, IssueError, IssuedCertificate, Issuer, IssuerHealth,
    Issuers, LeafKeyAlgorithm, LeafPolicy, LeafValidity, NamedIssuer, PeerIdentity, Renewed, RsaKeySize, StoreConfig,
    TrustBundle,
};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::support;
use crate::support::{ManualClock, issuers, origin, tresor, workload};

/// Longest wait for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Tresor behind a gate: counts what passes, and fails when told to.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: NamedIssuer,
    requests: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    /// One permit lets one request through.
    pub(crate) open: Semaphore,
    failure: Mutex<Option<IssueError>>,
    bundle_requests: AtomicUsize,
}

impl Gate {
    /// `permits` requests pass without being let through.
    pub(crate) fn new(inner: NamedIssuer, permits: usize) -> Arc<Self> {
        Arc::new(Self {
            inner,
            requests: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            open: Semaphore::new(permits),
            failure: Mutex::new(None),
            bundle_requests: AtomicUsize::new(0),
        })
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn fail_with(&self, failure: Option<IssueError>) {
        *self.failure.lock().unwrap() = failure;
    }
}

/// A local type, because the trait and `Arc` are both foreign.
#[derive(Debug)]
pub(crate) struct Gated(pub(crate) Arc<Gate>);

#[async_trait::async_trait]
impl Issuer for Gated {
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        let gate = &self.0;
        gate.requests.fetch_add(1, Ordering::SeqCst);
        let at_once = gate.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        gate.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        gate.open.acquire().await.unwrap().forget();
        gate.at_once.fetch_sub(1, Ordering::SeqCst);
        let failure = gate.failure.lock().unwrap().clone();
        match failure {
            Some(failure) => Err(failure),
            None => gate.inner.issuer.issue(request).await,
        }
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        self.0.bundle_requests.fetch_add(1, Ordering::SeqCst);
        self.0.inner.issuer.trust_bundle().await
    }

    async fn probe(&self, now: OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        self.0.inner.issuer.probe(now).await
    }
}

pub(crate) fn new_tresor(now: OffsetDateTime) -> NamedIssuer {
    tresor(&AuthorityMaterial::generate(AuthorityKey::EcdsaP256, now).unwrap(), now)
}

fn gated(permits: usize, config: StoreConfig) -> (Arc<CertificateStore>, Arc<Gate>, ManualClock) {
    let clock = ManualClock::new();
    let gate = Gate::new(new_tresor(clock.now()), permits);
    let issuer = NamedIssuer { origin: origin(), issuer: Arc::new(Gated(gate.clone())) };
    let store = CertificateStore::new(issuers(&issuer), config, clock.clock());
    (Arc::new(store), gate, clock)
}

pub(crate) fn unreachable() -> IssueError {
    IssueError::Unreachable {
        remote: origin(),
        message: "connection refused".to_owned(),
        retry_after: Duration::from_secs(30),
    }
}

async fn next(changes: &mut Changes) -> Change {
    tokio::time::timeout(DEADLINE, changes.next()).await.expect("a change is published")
}

/// Lets other tasks run until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the condition comes true");
}

#[tokio::test]
async fn concurrent_callers_share_one_issuance() {
    let (store, gate, _) = gated(0, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (store, identity) = (store.clone(), identity.clone());
            tokio::spawn(async move { store.certificate(&identity).await.unwrap() })
        })
        .collect();
    until(|| gate.requests() == 1).await;
    gate.open.add_permits(50);
    let mut leaves = Vec::new();
    for call in calls {
        leaves.push(call.await.unwrap());
    }
    assert_eq!(gate.requests(), 1);
    assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
    // And those who come later get the same.
    assert!(Arc::ptr_eq(&store.certificate(&identity).await.unwrap(), &leaves[0]));
    assert_eq!(gate.requests(), 1);
}

#[tokio::test]
async fn concurrent_callers_share_one_failure_and_wait_it_out() {
    let (store, gate, clock) = gated(0, StoreConfig::default());
    gate.fail_with(Some(unreachable()));
    let identity = workload("bookstore", "bookstore");
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (store, identity) = (store.clone(), identity.clone());
            tokio::spawn(async move { store.certificate(&identity).await })
        })
        .collect();
    until(|| gate.requests() == 1).await;
    gate.open.add_permits(100);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err(), unreachable());
    }
    assert_eq!(gate.requests(), 1);
    // Within the wait nobody asks the issuer, even though it would answer again.
    gate.fail_with(None);
    assert_eq!(store.certificate(&identity).await.unwrap_err(), unreachable());
    assert_eq!(gate.requests(), 1);
    let failure = store.status()[0].failure.clone().unwrap();
    assert_eq!((failure.failures, &failure.error), (1, &unreachable()));
    assert!(failure.retry_at.unwrap() >= clock.now() + Duration::from_secs(30));
    // After it, the next caller does.
    clock.set(failure.retry_at.unwrap());
    assert!(store.certificate(&identity).await.is_ok());
    assert_eq!(store.status()[0].failure, None);
}

#[tokio::test]
async fn an_abandoned_issuance_is_taken_over_by_the_next_caller() {
    let (store, gate, _) = gated(0, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    let first = tokio::spawn({
        let (store, identity) = (store.clone(), identity.clone());
        async move { store.certificate(&identity).await }
    });
    until(|| gate.requests() == 1).await;
    let second = tokio::spawn({
        let (store, identity) = (store.clone(), identity.clone());
        async move { store.certificate(&identity).await }
    });
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.open.add_permits(10);
    assert!(second.await.unwrap().is_ok());
    assert_eq!(gate.requests(), 2);
}

#[tokio::test]
async fn no_more_requests_than_allowed_are_with_the_issuer_and_renewals_take_half() {
    let config = StoreConfig { max_issuing: NonZeroUsize::new(4).unwrap(), ..StoreConfig::default() };
    let (store, gate, clock) = gated(0, config);
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let store = store.clone();
            let identity = workload("bookstore", &format!("account-{number}"));
            tokio::spawn(async move { store.certificate(&identity).await })
        })
        .collect();
    until(|| gate.at_once.load(Ordering::SeqCst) == 4).await;
    gate.open.add_permits(20);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(gate.most_at_once.swap(0, Ordering::SeqCst), 4);
    assert_eq!(gate.requests(), 20);

    clock.advance(time::Duration::hours(17));
    let renewal = tokio::spawn({
        let store = store.clone();
        async move { store.renew_due().await }
    });
    until(|| gate.at_once.load(Ordering::SeqCst) == 2).await;
    // A newcomer is not kept waiting by renewals that are stuck.
    let newcomer = tokio::spawn({
        let store = store.clone();
        async move { store.certificate(&workload("bookbuyer", "bookbuyer")).await }
    });
    until(|| gate.at_once.load(Ordering::SeqCst) == 3).await;
    gate.open.add_permits(100);
    newcomer.await.unwrap().unwrap();
    assert_eq!(renewal.await.unwrap(), Renewed { renewed: 20, failed: 0 });
    assert_eq!(gate.most_at_once.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn leaves_are_renewed_when_due_and_only_then() {
    let (store, gate, clock) = gated(100, StoreConfig::default());
    let mut changes = store.subscribe();
    let identity = workload("bookstore", "bookstore");
    let first = store.certificate(&identity).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::TrustBundle, "before the leaf that it verifies");
    assert_eq!(next(&mut changes).await, Change::Leaf(identity.clone()));
    assert_eq!(store.next_renewal(), Some(first.renew_at()));
    assert_eq!(first.not_after() - first.issued_at(), time::Duration::hours(24));
    assert_eq!(first.issued_at() - first.not_before(), time::Duration::minutes(5));

    clock.set(first.renew_at() - time::Duration::seconds(2));
    assert_eq!(store.renew_due().await, Renewed::default());
    clock.set(first.renew_at());
    assert_eq!(store.renew_due().await, Renewed { renewed: 1, failed: 0 });
    assert_eq!(next(&mut changes).await, Change::Leaf(identity.clone()));
    let second = store.certificate(&identity).await.unwrap();
    assert_ne!(second.serial(), first.serial());
    assert_ne!(second.material().expose_private_key_pem(), first.material().expose_private_key_pem());
    assert!(second.not_after() > first.not_after());
    assert_eq!(store.renew_due().await, Renewed::default());
    assert_eq!(gate.requests(), 2);
    assert!(changes.drain().is_empty());
}

#[tokio::test]
async fn the_renewal_loop_renews_by_itself() {
    let (store, _, clock) = gated(100, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    let first = store.certificate(&identity).await.unwrap();
    clock.advance(time::Duration::hours(17));
    let mut changes = store.subscribe();
    let running = tokio::spawn({
        let store = store.clone();
        async move { store.run().await }
    });
    assert_eq!(next(&mut changes).await, Change::Leaf(identity.clone()));
    assert_ne!(store.cached(&identity).unwrap().serial(), first.serial());
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled(), "it runs until it is stopped");
}

#[tokio::test]
async fn an_issuer_that_is_down_delays_renewals_and_nothing_else() {
    let (store, gate, clock) = gated(1000, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    let first = store.certificate(&identity).await.unwrap();
    let mut changes = store.subscribe();
    gate.fail_with(Some(unreachable()));
    clock.set(first.renew_at());
    assert_eq!(store.renew_due().await, Renewed { renewed: 0, failed: 1 });
    // The leaf at hand stays in use; the status says what is wrong; nobody is told of a change.
    assert!(Arc::ptr_eq(&store.certificate(&identity).await.unwrap(), &first));
    let status = &store.status()[0];
    assert_eq!(status.leaf.as_ref().unwrap().not_after, first.not_after());
    assert_eq!(status.failure.as_ref().unwrap().error, unreachable());
    assert!(changes.drain().is_empty());

    // It is asked again at growing intervals, and not in between.
    let mut waits = Vec::new();
    for failures in 2..=8 {
        let retry_at = store.next_renewal().unwrap();
        waits.push(retry_at - clock.now());
        assert_eq!(store.renew_due().await, Renewed::default());
        clock.set(retry_at);
        assert_eq!(store.renew_due().await, Renewed { renewed: 0, failed: 1 });
        assert_eq!(store.status()[0].failure.as_ref().unwrap().failures, failures);
    }
    assert!(waits[0] >= Duration::from_secs(30) && waits[6] > waits[0] * 4, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(750)), "{waits:?}");

    // When the leaf has ended it is not handed out any more.
    clock.set(first.not_after());
    assert!(store.cached(&identity).is_none());
    // And when the issuer is back, everything is as before.
    gate.fail_with(None);
    clock.set(store.next_renewal().unwrap().max(clock.now()));
    assert_eq!(store.renew_due().await, Renewed { renewed: 1, failed: 0 });
    assert_eq!(next(&mut changes).await, Change::Leaf(identity.clone()));
    assert_eq!(store.status()[0].failure, None);
}

#[tokio::test]
async fn a_request_refused_for_good_is_not_repeated_until_told() {
    let (store, gate, clock) = gated(100, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    let refused = IssueError::Refused { remote: origin(), message: "name not allowed".to_owned() };
    gate.fail_with(Some(refused.clone()));
    assert_eq!(store.certificate(&identity).await.unwrap_err(), refused);
    clock.advance(time::Duration::days(30));
    assert_eq!(store.certificate(&identity).await.unwrap_err(), refused);
    assert_eq!(store.next_renewal(), None);
    assert_eq!(gate.requests(), 1);
    gate.fail_with(None);
    assert!(store.rotate_now(&identity).await.is_ok());
}

#[tokio::test]
async fn rotation_on_request_replaces_the_leaf() {
    let (store, gate, _) = gated(100, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    let first = store.certificate(&identity).await.unwrap();
    let second = store.rotate_now(&identity).await.unwrap();
    assert_ne!(first.serial(), second.serial());
    assert!(Arc::ptr_eq(&store.cached(&identity).unwrap(), &second));
    // A failed rotation leaves the leaf in use.
    gate.fail_with(Some(unreachable()));
    assert!(store.rotate_now(&identity).await.is_err());
    assert!(Arc::ptr_eq(&store.certificate(&identity).await.unwrap(), &second));
}

#[tokio::test]
async fn identities_that_are_not_wanted_are_dropped() {
    let (store, gate, clock) = gated(2, StoreConfig::default());
    let (kept, dropped) = (workload("bookstore", "kept"), workload("bookstore", "dropped"));
    for identity in [&kept, &dropped] {
        store.certificate(identity).await.unwrap();
    }
    store.retain(|identity| identity == &kept);
    let names = |store: &CertificateStore| -> Vec<PeerIdentity> {
        store.status().into_iter().map(|status| status.identity).collect()
    };
    assert_eq!(names(&store), std::slice::from_ref(&kept));
    assert!(store.cached(&dropped).is_none());
    // Nothing is renewed for it.
    clock.advance(time::Duration::hours(17));
    gate.open.add_permits(1);
    assert_eq!(store.renew_due().await, Renewed { renewed: 1, failed: 0 });
    assert_eq!(gate.requests(), 3);

    // Dropped while it is being issued: the caller gets it, the store does not keep it and tells nobody.
    let mut changes = store.subscribe();
    let call = tokio::spawn({
        let (store, dropped) = (store.clone(), dropped.clone());
        async move { store.certificate(&dropped).await }
    });
    until(|| gate.requests() == 4).await;
    store.retain(|identity| identity == &kept);
    gate.open.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap().identity(), &dropped);
    assert_eq!(names(&store), [kept]);
    assert!(changes.drain().is_empty());
}

#[tokio::test]
async fn slow_subscribers_lose_nothing_and_read_each_change_once() {
    let (store, _, _) = gated(1000, StoreConfig::default());
    store.trust_bundle().await.unwrap();
    let mut slow = store.subscribe();
    let identities: Vec<_> = (0..5).map(|number| workload("bookstore", &format!("account-{number}"))).collect();
    for _ in 0..20 {
        for identity in &identities {
            store.rotate_now(identity).await.unwrap();
        }
    }
    let read: Vec<Change> = slow.drain().into_iter().collect();
    assert_eq!(read, identities.iter().cloned().map(Change::Leaf).collect::<Vec<_>>());
    drop(slow);
    store.rotate_now(&identities[0]).await.unwrap();
}

#[tokio::test]
async fn a_root_is_replaced_step_by_step() {
    let (store, _, clock) = gated(1000, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    let old_bundle = store.trust_bundle().await.unwrap();
    let old_leaf = store.certificate(&identity).await.unwrap();
    let (old, new) = (new_tresor(clock.now()), new_tresor(clock.now()));
    let mut changes = store.subscribe();
    let both = |signing: &NamedIssuer, other: &NamedIssuer| Issuers {
        signing: signing.clone(),
        validating: vec![other.clone()],
    };
    // Another signer, and both roots.
    store.set_issuers(both(&old, &new)).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::TrustBundle);
    let two = store.trust_bundle().await.unwrap();
    assert_eq!(two.roots().len(), 2);
    assert_ne!(two, old_bundle);
    // The leaf at hand is handed out until its renewal, which is due at once.
    assert!(Arc::ptr_eq(&store.certificate(&identity).await.unwrap(), &old_leaf));
    assert_eq!(store.renew_due().await, Renewed { renewed: 1, failed: 0 });
    assert_eq!(next(&mut changes).await, Change::Leaf(identity.clone()));
    // The same roots in other roles: leaves change, the bundle does not.
    store.set_issuers(both(&new, &old)).await.unwrap();
    assert_eq!(store.renew_due().await, Renewed { renewed: 1, failed: 0 });
    assert_eq!(changes.drain().into_iter().collect::<Vec<_>>(), [Change::Leaf(identity.clone())]);
    assert_eq!(*store.trust_bundle().await.unwrap(), *two);
    // The old root is gone; leaves stay.
    store.set_issuers(issuers(&new)).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::TrustBundle);
    assert_eq!(store.renew_due().await, Renewed::default());
    let one = store.trust_bundle().await.unwrap();
    assert_eq!(*one, new.issuer.trust_bundle().await.unwrap());
}

#[tokio::test]
async fn the_trust_bundle_is_asked_for_once_and_published_when_it_differs() {
    let (store, gate, _) = gated(10, StoreConfig::default());
    let mut changes = store.subscribe();
    let calls: Vec<_> = (0..5)
        .map(|number| {
            let store = store.clone();
            let identity = workload("bookstore", &format!("account-{number}"));
            tokio::spawn(async move { store.certificate(&identity).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
        store.trust_bundle().await.unwrap();
    }
    assert_eq!(gate.bundle_requests.load(Ordering::SeqCst), 1);
    assert_eq!(next(&mut changes).await, Change::TrustBundle);
    changes.drain();
    store.refresh_trust_bundle().await.unwrap();
    assert!(changes.drain().is_empty());
}

#[tokio::test]
async fn policy_decides_key_and_validity() {
    let (store, _, _) = gated(100, StoreConfig::default());
    store.set_policy(LeafPolicy {
        key: LeafKeyAlgorithm::Rsa(RsaKeySize::at_least(2048).unwrap()),
        workload_validity: LeafValidity::MIN,
        internal_validity: LeafValidity::new(Duration::from_secs(3600)).unwrap(),
        ..LeafPolicy::default()
    });
    for (identity, validity) in [
        (workload("bookstore", "bookstore"), time::Duration::minutes(10)),
        (support::proxy("bookstore", "bookstore", "vm-1"), time::Duration::hours(1)),
        (support::control_plane(), time::Duration::hours(1)),
    ] {
        let leaf = store.certificate(&identity).await.unwrap();
        assert_eq!(leaf.not_after() - leaf.issued_at(), validity);
        let der = &leaf.material().certificate_chain()[0];
        let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
        assert_eq!(certificate.public_key().parsed().unwrap().key_size(), 2048);
    }
}

#[test]
fn validity_and_key_size_keep_to_the_bounds() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for out in [Duration::ZERO, minutes(10) - Duration::from_nanos(1), minutes(87_600 * 60 + 1), Duration::MAX] {
        assert_eq!(LeafValidity::new(out).unwrap_err().given, out);
    }
    for within in [minutes(10), minutes(24 * 60), minutes(87_600 * 60)] {
        assert_eq!(LeafValidity::new(within).unwrap().as_duration(), within);
    }
    assert_eq!(LeafValidity::default().as_duration(), minutes(24 * 60));
    for (bits, made) in [(2048, 2048), (2049, 3072), (3072, 3072), (3073, 4096), (4096, 4096)] {
        assert_eq!(RsaKeySize::at_least(bits).unwrap().bits(), made);
    }
    for bits in [0, 1024, 2047, 4097, u32::MAX] {
        assert_eq!(RsaKeySize::at_least(bits).unwrap_err().given, bits);
    }
}

#[tokio::test]
async fn concurrent_rotations_of_one_identity_share_one_issuance() {
    let (store, gate, _) = gated(1, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    let first = store.certificate(&identity).await.unwrap();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let (store, identity) = (store.clone(), identity.clone());
            tokio::spawn(async move { store.rotate_now(&identity).await.unwrap() })
        })
        .collect();
    // One is with the issuer; by then all others have been polled once, because the runtime has one thread.
    until(|| gate.requests() == 2).await;
    tokio::task::yield_now().await;
    gate.open.add_permits(100);
    let mut serials = std::collections::BTreeSet::new();
    for call in calls {
        serials.insert(call.await.unwrap().serial().to_owned());
    }
    assert_eq!(serials.len(), 1);
    assert!(!serials.contains(first.serial()));
    assert_eq!(gate.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_is_given_up_and_does_not_hold_its_place() {
    let config = StoreConfig { max_issuing: NonZeroUsize::MIN, ..StoreConfig::default() };
    let (store, gate, clock) = gated(0, config);
    let started = tokio::time::Instant::now();
    for account in ["first", "second"] {
        let error = store.certificate(&workload("bookstore", account)).await.unwrap_err();
        assert_eq!(error.reason(), "IssuerUnreachable");
        assert_eq!(error.blame(), &origin());
        assert!(error.to_string().contains("no answer within 30 seconds"), "{error}");
    }
    assert_eq!(started.elapsed().as_secs(), 60);
    gate.open.add_permits(10);
    clock.advance(time::Duration::minutes(1));
    assert!(store.certificate(&workload("bookstore", "first")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_renewal_loop_tries_again_after_a_failure_as_soon_as_advised() {
    let (store, gate, clock) = gated(100, StoreConfig::default());
    let identity = workload("bookstore", "bookstore");
    store.trust_bundle().await.unwrap();
    let running = tokio::spawn({
        let store = store.clone();
        async move { store.run().await }
    });
    // Its first refresh is behind it, and it sleeps with nothing to do.
    until(|| gate.bundle_requests.load(Ordering::SeqCst) == 2).await;
    let mut changes = store.subscribe();
    let soon =
        IssueError::Unreachable { remote: origin(), message: "busy".to_owned(), retry_after: Duration::from_secs(2) };
    gate.fail_with(Some(soon.clone()));
    assert_eq!(store.certificate(&identity).await.unwrap_err(), soon);
    gate.fail_with(None);
    // The store's clock has moved by the time the loop wakes.
    let started = tokio::time::Instant::now();
    clock.advance(time::Duration::seconds(3));
    assert_eq!(changes.next().await, Change::Leaf(identity.clone()));
    assert!(started.elapsed() <= Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(store.status()[0].failure, None);
    running.abort();
}
