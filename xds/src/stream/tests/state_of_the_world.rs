//! Subscriptions and answers in the state-of-the-world form.

use super::fixture::*;
use crate::policy::Variant;
use crate::stream::RequestNames;
use crate::type_url::TypeUrl::{Cluster, ClusterLoadAssignment, Listener};

fn fixture() -> Fixture {
    Fixture::new(Variant::StateOfTheWorld)
}

#[test]
fn clusters_are_always_complete_and_an_empty_answer_removes_all() {
    let mut fixture = fixture();
    fixture.publish([cluster("a", 0), cluster("b", 0)]);
    fixture.sotw(&Cluster, "", &[]);
    let first = fixture.expect();
    assert_eq!(first.names(), ["a", "b"]);
    fixture.ack(&first);
    fixture.expect_silence();
    fixture.publish([cluster("a", 1)]);
    let second = fixture.expect();
    assert_eq!(second.names(), ["a", "b"]);
    assert_ne!(first.version, second.version);
    fixture.ack(&second);
    fixture.remove(&[(Cluster, "a"), (Cluster, "b")]);
    assert_eq!(fixture.expect().names().len(), 0);
}

#[test]
fn endpoints_may_be_partial_and_nothing_is_answered_for_nothing() {
    let mut fixture = fixture();
    fixture.publish([endpoints("a", 0), endpoints("b", 0)]);
    fixture.sotw(&ClusterLoadAssignment, "", &[]);
    fixture.expect_silence();
    fixture.sotw(&ClusterLoadAssignment, "", &["missing"]);
    fixture.expect_silence();
    fixture.sotw(&ClusterLoadAssignment, "", &["a", "b", "missing"]);
    let first = fixture.expect();
    assert_eq!(first.names(), ["a", "b"]);
    fixture.ack(&first);
    fixture.publish([endpoints("b", 1)]);
    let second = fixture.expect();
    assert_eq!(second.names(), ["b"]);
    fixture.ack(&second);
    fixture.publish([endpoints("missing", 0)]);
    assert_eq!(fixture.expect().names(), ["missing"]);
}

#[test]
fn a_list_replaces_the_one_before() {
    let mut fixture = fixture();
    fixture.publish([endpoints("a", 0), endpoints("b", 0)]);
    fixture.sotw(&ClusterLoadAssignment, "", &["a", "b"]);
    let first = fixture.expect();
    fixture.sotw(&ClusterLoadAssignment, &first.nonce, &["a"]);
    fixture.publish([endpoints("b", 1)]);
    fixture.expect_silence();
    // Listed again: sent again, whatever its version.
    fixture.sotw(&ClusterLoadAssignment, &first.nonce, &["a", "b"]);
    let second = fixture.expect();
    assert_eq!(second.names(), ["b"]);
    fixture.sotw(&ClusterLoadAssignment, &second.nonce, &[]);
    fixture.sotw(&ClusterLoadAssignment, &second.nonce, &["b"]);
    assert_eq!(fixture.expect().names(), ["b"]);
}

#[test]
fn the_four_steps_of_the_protocol_description() {
    let mut fixture = fixture();
    fixture.publish([cluster("a", 0), cluster("b", 0)]);
    fixture.sotw(&Cluster, "", &[]);
    let first = fixture.expect();
    fixture.sotw(&Cluster, &first.nonce, &["*", "a"]);
    let second = fixture.expect();
    assert_eq!(second.names(), ["a", "b"]);
    fixture.sotw(&Cluster, &second.nonce, &["a"]);
    fixture.publish([cluster("b", 1)]);
    fixture.expect_silence();
    fixture.sotw(&Cluster, &second.nonce, &[]);
    fixture.publish([cluster("a", 1), cluster("b", 2)]);
    fixture.expect_silence();
}

#[test]
fn an_older_nonce_is_not_answered_and_the_acknowledgement_s_list_counts() {
    let mut fixture = fixture();
    fixture.publish([endpoints("a", 0), endpoints("b", 0)]);
    fixture.sotw(&ClusterLoadAssignment, "", &["a"]);
    let first = fixture.expect();
    fixture.ack(&first);
    fixture.publish([endpoints("a", 1)]);
    let second = fixture.expect();
    fixture.sotw(&ClusterLoadAssignment, &first.nonce, &["a", "b"]);
    fixture.expect_silence();
    fixture.sotw(&ClusterLoadAssignment, &second.nonce, &["a", "b"]);
    assert_eq!(fixture.expect().names(), ["b"]);
}

#[test]
fn a_first_request_with_another_stream_s_nonce_is_a_first_request() {
    let mut fixture = fixture();
    fixture.publish([cluster("a", 0)]);
    fixture.sotw(&Cluster, "7", &[]);
    assert_eq!(fixture.expect().names(), ["a"]);
}

#[test]
fn a_claimed_version_is_skipped_for_wildcards_only() {
    let mut fixture = fixture();
    fixture.publish([cluster("a", 0), endpoints("a", 0)]);
    fixture.sotw(&Cluster, "", &[]);
    let version = fixture.expect().version;

    let mut again = Fixture::new(Variant::StateOfTheWorld);
    again.publish([cluster("a", 0), endpoints("a", 0)]);
    for (type_url, names) in [(Cluster, vec![]), (ClusterLoadAssignment, vec!["a"])] {
        let mut request = sotw_request(&type_url, "", None, &names);
        if let RequestNames::StateOfTheWorld { version: claimed, .. } = &mut request.names {
            *claimed = version.clone();
        }
        again.request(request).unwrap();
    }
    let answers = again.drain();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].type_url, ClusterLoadAssignment);
    again.publish([cluster("a", 1)]);
    assert_eq!(again.expect().names(), ["a"]);
}

#[test]
fn a_client_that_ignores_what_it_unsubscribed_from_is_answered_later() {
    let mut fixture = fixture();
    fixture.publish([endpoints("a", 0)]);
    fixture.sotw(&ClusterLoadAssignment, "", &["a"]);
    let first = fixture.expect();
    fixture.ack(&first);
    fixture.publish([endpoints("a", 1)]);
    let _ignored = fixture.expect();
    fixture.sotw(&ClusterLoadAssignment, &first.nonce, &[]);
    fixture.publish([endpoints("a", 2)]);
    fixture.expect_silence();
    fixture.sotw(&ClusterLoadAssignment, &first.nonce, &["a"]);
    let answer = fixture.expect();
    assert_eq!(answer.resources[0].1, endpoints("a", 2).version());
    fixture.ack(&answer);
    fixture.expect_silence();
}

#[test]
fn a_nonce_of_another_type_is_stale() {
    let mut fixture = fixture();
    fixture.publish([cluster("a", 0), listener("l", 0), endpoints("a", 0)]);
    fixture.sotw(&Cluster, "", &[]);
    let clusters = fixture.expect();
    fixture.ack(&clusters);
    fixture.sotw(&Listener, "", &[]);
    let listeners = fixture.expect();
    fixture.sotw(&Listener, &clusters.nonce, &["l"]);
    fixture.expect_silence();
    fixture.ack(&listeners);
    fixture.publish([listener("l", 1)]);
    assert_eq!(fixture.expect().names(), ["l"]);
}

#[test]
fn a_removed_cluster_stays_in_the_answers_until_listeners_let_go_of_it() {
    let mut fixture = fixture();
    fixture.publish([cluster("a", 0), cluster("b", 0), listener("l", 0)]);
    fixture.sotw(&Cluster, "", &[]);
    fixture.sotw(&Listener, "", &[]);
    fixture.drain();
    fixture.layer.remove(&Cluster, "a");
    fixture.publish([listener("l", 1), cluster("c", 0)]);
    let clusters = fixture.expect();
    assert_eq!(clusters.names(), ["a", "b", "c"]);
    fixture.expect_silence();
    fixture.ack(&clusters);
    let listeners = fixture.expect();
    assert_eq!(listeners.type_url, Listener);
    fixture.expect_silence();
    fixture.ack(&listeners);
    assert_eq!(fixture.expect().names(), ["b", "c"]);
}
