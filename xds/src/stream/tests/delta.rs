//! Subscriptions and answers in the delta form.

use super::fixture::*;
use crate::policy::{UnknownName, Variant};
use crate::settings::StreamSettings;
use crate::stream::RequestNames;
use crate::type_url::TypeUrl::{Cluster, ClusterLoadAssignment, Listener, RouteConfiguration};
use crate::{Delivery, Event, Service};
use std::collections::HashMap;

#[test]
fn the_first_wildcard_answer_is_everything_and_then_only_changes_are_sent() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([cluster("a", 0), cluster("b", 0)]);
    fixture.delta(&Cluster, &[], &[]);
    let first = fixture.expect();
    assert_eq!(first.names(), ["a", "b"]);
    fixture.expect_silence();
    fixture.ack(&first);
    fixture.expect_silence();
    fixture.publish([cluster("b", 1)]);
    let second = fixture.expect();
    assert_eq!(second.names(), ["b"]);
    fixture.ack(&second);
    fixture.remove(&[(Cluster, "a")]);
    let third = fixture.expect();
    assert_eq!((third.names(), third.removed.as_slice()), (vec![], &["a".to_owned()][..]));
    assert_ne!(first.nonce, second.nonce);
}

#[test]
fn the_first_wildcard_answer_is_sent_even_when_there_is_nothing() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([]);
    fixture.delta(&Cluster, &[], &[]);
    fixture.delta(&ClusterLoadAssignment, &[], &[]);
    let answer = fixture.expect();
    assert_eq!((&answer.type_url, answer.names().len()), (&Cluster, 0));
    fixture.ack(&answer);
    fixture.expect_silence();
}

#[test]
fn a_missing_name_is_reported_and_arrives_when_it_appears() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([]);
    fixture.delta(&ClusterLoadAssignment, &["a"], &[]);
    let answer = fixture.expect();
    assert_eq!(answer.removed, ["a"]);
    fixture.ack(&answer);
    fixture.publish([endpoints("a", 0), endpoints("b", 0)]);
    assert_eq!(fixture.expect().names(), ["a"]);
}

#[test]
fn a_name_that_is_subscribed_again_is_sent_again_also_under_a_stale_nonce() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([endpoints("a", 0)]);
    fixture.delta(&ClusterLoadAssignment, &["a"], &[]);
    let first = fixture.expect();
    fixture.ack(&first);
    fixture.delta(&ClusterLoadAssignment, &["a"], &[]);
    let second = fixture.expect();
    assert_eq!(second.names(), ["a"]);
    // While a response is on its way: its acknowledgement does not count for the newer subscription.
    fixture.request(delta_request(&ClusterLoadAssignment, "stale", None, &["a"], &[])).unwrap();
    fixture.expect_silence();
    fixture.ack(&second);
    assert_eq!(fixture.expect().names(), ["a"]);
}

#[test]
fn the_four_steps_of_the_protocol_description() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([cluster("a", 0), cluster("b", 0)]);
    fixture.delta(&Cluster, &[], &[]);
    assert_eq!(fixture.drain()[0].names(), ["a", "b"]);
    fixture.delta(&Cluster, &["a"], &[]);
    assert_eq!(fixture.drain()[0].names(), ["a"]);
    fixture.delta(&Cluster, &[], &["*"]);
    fixture.publish([cluster("a", 1), cluster("b", 1)]);
    let answers = fixture.drain();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].names(), ["a"]);
    fixture.delta(&Cluster, &[], &["a"]);
    fixture.publish([cluster("a", 2), cluster("b", 2)]);
    fixture.expect_silence();
}

#[test]
fn a_name_dropped_under_a_wildcard_is_answered() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.layer.insert(cluster("named", 0), Delivery::Named);
    fixture.publish([cluster("a", 0)]);
    fixture.delta(&Cluster, &["*", "a", "named"], &[]);
    assert_eq!(fixture.drain()[0].names(), ["a", "named"]);
    fixture.delta(&Cluster, &[], &["a", "named", "never held"]);
    let answer = fixture.expect();
    assert_eq!(answer.names(), ["a"]);
    assert_eq!(answer.removed, ["named"]);
    fixture.ack(&answer);
    fixture.expect_silence();
}

#[test]
fn entries_that_are_delivered_by_name_are_not_sent_to_a_wildcard() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.layer.insert(cluster("on demand", 0), Delivery::Named);
    fixture.publish([cluster("a", 0)]);
    fixture.delta(&Cluster, &[], &[]);
    assert_eq!(fixture.drain()[0].names(), ["a"]);
    fixture.delta(&Cluster, &["on demand"], &[]);
    assert_eq!(fixture.drain()[0].names(), ["on demand"]);
    // From then on it is kept up to date, and the wildcard lives on.
    fixture.layer.insert(cluster("on demand", 1), Delivery::Named);
    fixture.publish([cluster("a", 1)]);
    assert_eq!(fixture.drain()[0].names(), ["a", "on demand"]);
}

#[test]
fn a_reconnecting_client_gets_what_it_lacks() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([cluster("current", 0), cluster("outdated", 1), cluster("new", 0)]);
    let mut request = delta_request(&Cluster, "", None, &[], &[]);
    if let RequestNames::Delta { initial_versions, .. } = &mut request.names {
        *initial_versions = HashMap::from([
            ("current".to_owned(), cluster("current", 0).version().to_string()),
            ("outdated".to_owned(), cluster("outdated", 0).version().to_string()),
            ("gone".to_owned(), "another server's".to_owned()),
        ]);
    }
    fixture.request(request).unwrap();
    fixture.delta(&Listener, &[], &[]);
    let answers = fixture.drain();
    assert_eq!(answers[0].names(), ["new", "outdated"]);
    let last = answers.last().unwrap();
    assert_eq!((&last.type_url, last.removed.as_slice()), (&Cluster, &["gone".to_owned()][..]));
    fixture.expect_silence();
}

#[test]
fn the_removal_of_a_claimed_cluster_waits_for_listeners_only_a_while() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([]);
    let mut request = delta_request(&Cluster, "", None, &[], &[]);
    if let RequestNames::Delta { initial_versions, .. } = &mut request.names {
        initial_versions.insert("gone".to_owned(), "1".to_owned());
    }
    fixture.request(request).unwrap();
    let first = fixture.drain();
    assert!(first.iter().all(|answer| answer.removed.is_empty()));
    let deadline = fixture.stream.next_deadline(fixture.now).unwrap();
    let grace = StreamSettings::default().reconnect_grace;
    assert_eq!(deadline, fixture.now + grace);
    fixture.advance(grace);
    assert_eq!(fixture.expect().removed, ["gone"]);
}

#[test]
fn what_a_client_claims_by_name_is_trusted_except_for_endpoints_and_secrets() {
    for (type_url, sent) in [(RouteConfiguration, false), (ClusterLoadAssignment, true)] {
        let mut fixture = Fixture::new(Variant::Delta);
        let held = resource(&type_url, "a", 0);
        fixture.publish([held.clone()]);
        let mut request = delta_request(&type_url, "", None, &["a"], &[]);
        if let RequestNames::Delta { initial_versions, .. } = &mut request.names {
            initial_versions.insert("a".to_owned(), held.version().to_string());
        }
        fixture.request(request).unwrap();
        assert_eq!(!fixture.drain().is_empty(), sent, "{type_url}");
    }
}

#[test]
fn an_unknown_name_is_answered_as_the_embedder_says_until_it_appears() {
    let stand_in = cluster("a", 9);
    let answer = {
        let stand_in = stand_in.clone();
        Box::new(move |_: &crate::TypeUrl, name: &str| match name {
            "a" => UnknownName::Resource(stand_in.clone()),
            "held" => UnknownName::Hold,
            _ => UnknownName::Removed,
        })
    };
    let mut fixture = Fixture::with_unknown(Variant::Delta, Service::Aggregated, StreamSettings::default(), answer);
    fixture.publish([]);
    fixture.delta(&Cluster, &["*", "a", "b", "held"], &[]);
    let first = fixture.expect();
    assert_eq!(first.resources, [("a".to_owned(), stand_in.version())]);
    assert_eq!(first.removed, ["b"]);
    fixture.ack(&first);
    fixture.publish([listener("unrelated", 0)]);
    fixture.expect_silence();
    for name in ["a", "b", "held"] {
        fixture.layer.insert(cluster(name, 0), Delivery::Named);
    }
    fixture.publish_layer();
    let second = fixture.expect();
    assert_eq!(second.names(), ["a", "b", "held"]);
    fixture.ack(&second);
    // When the real one goes, the stand-in comes back.
    fixture.remove(&[(Cluster, "a")]);
    let third = fixture.expect();
    assert_eq!(third.resources, [("a".to_owned(), stand_in.version())]);
    fixture.ack(&third);
    fixture.expect_silence();
}

#[test]
fn a_large_answer_is_cut_in_parts_sent_without_waiting() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish((0..2000).map(|number| cluster(&format!("c{number:04}"), 0)));
    fixture.delta(&Cluster, &[], &[]);
    fixture.delta(&Listener, &[], &[]);
    let mut parts = Vec::new();
    while let Some(part) = fixture.next() {
        parts.push(part);
    }
    assert!(parts.len() > 2);
    let limit = StreamSettings::default().delta_part_bytes + 200;
    assert!(parts.iter().all(|part| part.type_url == Cluster && part.bytes < limit));
    let names: std::collections::BTreeSet<&str> = parts.iter().flat_map(|part| part.names()).collect();
    assert_eq!(names.len(), 2000);
    // Nothing of a newer snapshot until all are answered, in whatever order; then one merged update.
    fixture.publish([cluster("c0000", 1)]);
    fixture.publish([cluster("c0000", 2), cluster("c1999", 1)]);
    parts.reverse();
    let last = parts.pop().unwrap();
    for part in &parts {
        fixture.ack(part);
        fixture.expect_silence();
    }
    fixture.ack(&last);
    assert_eq!(fixture.expect().names(), ["c0000", "c1999"]);
    assert!(fixture.events().contains(&Event::Acknowledged { type_url: Cluster, epoch: crate::Epoch(1) }));
}

#[test]
fn names_in_both_lists_duplicates_and_empty_names_do_no_harm() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([endpoints("a", 0)]);
    fixture.delta(&ClusterLoadAssignment, &["a", "a", "", "b"], &["a", "", "phantom"]);
    let answer = fixture.expect();
    assert_eq!(answer.names(), ["a"]);
    assert_eq!(answer.removed, ["b"]);
    fixture.ack(&answer);
    fixture.expect_silence();
}

#[test]
fn an_unknown_type_is_held_and_harms_nobody() {
    let other = crate::TypeUrl::parse("type.googleapis.com/example.Unknown");
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([cluster("a", 0)]);
    fixture.delta(&other, &[], &[]);
    fixture.delta(&other, &["x"], &[]);
    fixture.delta(&Cluster, &[], &[]);
    let answers = fixture.drain();
    assert_eq!(answers[0].names(), ["a"]);
    assert_eq!((&answers[1].type_url, answers[1].removed.as_slice()), (&other, &["x".to_owned()][..]));
}
