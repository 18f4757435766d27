//! An issuer that takes the place of another of the same root: with another credential, or signing by another authority below it.

use std::sync::Arc;

use osm_issuer::{CertificateStore, IssueError, NamedIssuer, Renewed, StoreConfig};

use crate::store::{Gate, Gated, new_tresor, unreachable, until};
use crate::support::{ManualClock, control_plane, gateway, issuers, origin, workload};

/// A store, and two issuers of one root; the first signs.
fn two(permits: usize) -> (Arc<CertificateStore>, [Arc<Gate>; 2], [NamedIssuer; 2]) {
    let clock = ManualClock::new();
    let root = new_tresor(clock.now());
    let gates = [0, 1].map(|_| Gate::new(root.clone(), permits));
    let named =
        gates.each_ref().map(|gate| NamedIssuer { origin: origin(), issuer: Arc::new(Gated(Arc::clone(gate))) });
    let store = CertificateStore::new(issuers(&named[0]), StoreConfig::default(), clock.clock());
    (Arc::new(store), gates, named)
}

#[tokio::test]
async fn it_takes_over_without_replacing_a_leaf_and_what_failed_is_tried_at_once() {
    let (store, [first, second], [_, successor]) = two(1000);
    let (held, failed) = (workload("bookstore", "bookstore"), workload("bookstore", "late"));
    let leaf = store.certificate(&held).await.unwrap();
    first.fail_with(Some(unreachable()));
    store.certificate(&failed).await.unwrap_err();
    let (identity, failure) = store.first_failure().unwrap();
    assert_eq!((identity, failure.error, store.failing()), (failed.clone(), unreachable(), 1));

    store.set_issuers(issuers(&successor)).await.unwrap();
    assert_eq!((store.first_failure(), store.failing()), (None, 0), "it is the former issuer's");
    assert_eq!(store.renew_due().await, Renewed { renewed: 1, failed: 0 });
    assert_eq!((first.requests(), second.requests()), (2, 1));
    assert!(Arc::ptr_eq(&store.certificate(&held).await.unwrap(), &leaf));
    store.rotate_now(&held).await.unwrap();
    assert_eq!((first.requests(), second.requests()), (2, 2));
}

#[tokio::test]
async fn names_of_a_gateway_that_are_refused_are_no_failure_of_the_root() {
    let (store, [first, _], _) = two(1000);
    first.fail_with(Some(unreachable()));
    let identity = gateway(&["shop.example"]);
    store.certificate(&identity).await.unwrap_err();
    assert_eq!((store.first_failure(), store.failing()), (None, 1));
    let status = store.status_of(&identity).unwrap();
    assert_eq!(status.failure.map(|failure| failure.error), Some(unreachable()));
    assert_eq!(store.status_of(&workload("bookstore", "bookstore")), None);
}

#[tokio::test]
async fn a_request_that_the_former_answers_too_late_is_made_again() {
    let (store, [first, second], [_, successor]) = two(0);
    second.open.add_permits(10);
    let identity = workload("bookstore", "bookstore");
    store.trust_bundle().await.unwrap();
    let waiting = tokio::spawn({
        let (store, identity) = (store.clone(), identity.clone());
        async move { store.certificate(&identity).await }
    });
    until(|| first.requests() == 1).await;
    store.set_issuers(issuers(&successor)).await.unwrap();
    first.fail_with(Some(unreachable()));
    first.open.add_permits(10);
    waiting.await.unwrap().unwrap();
    assert_eq!((first.requests(), second.requests()), (1, 1));
    assert_eq!(store.first_failure(), None);
}

#[tokio::test]
async fn a_provider_that_changes_its_root_changes_nothing_that_is_trusted() {
    let clock = ManualClock::new();
    let (before, after) = (new_tresor(clock.now()), new_tresor(clock.now()));
    let bundle = before.issuer.trust_bundle().await.unwrap();
    // It signs by another root than it did.
    let changed = after.pinned(bundle.clone());
    assert_eq!(changed.issuer.trust_bundle().await.unwrap(), bundle);
    assert_eq!(changed.issuer.probe(clock.now()).await, after.issuer.probe(clock.now()).await);
    let store = CertificateStore::new(issuers(&changed), StoreConfig::default(), clock.clock());
    let error = store.certificate(&workload("bookstore", "bookstore")).await.unwrap_err();
    assert!(matches!(error, IssueError::BadCertificate { .. }), "{error}");
    assert_eq!(*store.refresh_trust_bundle().await.unwrap(), bundle);
    // On trial an issuer shows whether it keeps to its own roots.
    after.try_out(control_plane(), clock.now()).await.unwrap();
    assert_eq!(changed.try_out(control_plane(), clock.now()).await.unwrap_err(), error);
}
