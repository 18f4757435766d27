//! Make-before-break.

use super::fixture::*;
use crate::policy::{Event, UnknownName, Variant};
use crate::settings::StreamSettings;
use crate::type_url::TypeUrl::{
    Cluster, ClusterLoadAssignment, Listener, RouteConfiguration, ScopedRouteConfiguration, Secret,
};
use crate::{Delivery, Service};

/// A stream that holds a bit of everything.
fn everything() -> Fixture {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([
        cluster("a", 0),
        endpoints("a", 0),
        secret("s", 0),
        listener("l", 0),
        scope("o", 0),
        routes("r", 0),
    ]);
    fixture.delta(&Cluster, &[], &[]);
    fixture.delta(&ClusterLoadAssignment, &["a"], &[]);
    fixture.delta(&Secret, &["s"], &[]);
    fixture.delta(&Listener, &[], &[]);
    fixture.delta(&ScopedRouteConfiguration, &[], &[]);
    fixture.delta(&RouteConfiguration, &["r"], &[]);
    fixture.drain();
    fixture.expect_silence();
    fixture.events();
    fixture
}

fn types(answers: &[Answer]) -> Vec<&str> {
    let names = answers.iter().map(|answer| answer.type_url.short_name());
    names.collect()
}

#[test]
fn one_change_goes_from_what_is_referred_to_to_what_refers_and_removals_come_last() {
    let mut fixture = everything();
    fixture.layer.remove(&Cluster, "a");
    fixture.layer.remove(&ClusterLoadAssignment, "a");
    fixture.publish([cluster("b", 0), secret("s", 1), listener("l", 1), scope("o", 1), routes("r", 1)]);
    let answers = fixture.drain();
    assert_eq!(
        types(&answers),
        [
            "Cluster",
            "Secret",
            "Listener",
            "ScopedRouteConfiguration",
            "RouteConfiguration",
            "Cluster",
            "ClusterLoadAssignment",
        ]
    );
    assert_eq!(answers[0].removed.len(), 0);
    assert_eq!(answers[5].removed, ["a"]);
    assert_eq!(answers[6].removed, ["a"]);
}

#[test]
fn a_changed_cluster_is_followed_by_its_endpoints_and_only_by_them() {
    let mut fixture = everything();
    fixture.publish([cluster("b", 0), endpoints("b", 0)]);
    fixture.drain();
    fixture.delta(&ClusterLoadAssignment, &["b"], &[]);
    fixture.drain();
    fixture.publish([cluster("a", 1)]);
    let answers = fixture.drain();
    assert_eq!(types(&answers), ["Cluster", "ClusterLoadAssignment"]);
    assert_eq!(answers[1].names(), ["a"]);
    // Endpoints alone bring nothing else.
    fixture.publish([endpoints("a", 1)]);
    assert_eq!(types(&fixture.drain()), ["ClusterLoadAssignment"]);
}

#[test]
fn endpoints_on_their_way_are_sent_again_after_their_cluster() {
    let mut fixture = everything();
    fixture.publish([endpoints("a", 1)]);
    let before = fixture.expect();
    fixture.publish([cluster("a", 1)]);
    let clusters = fixture.expect();
    assert_eq!(clusters.type_url, Cluster);
    fixture.expect_silence();
    fixture.ack(&before);
    assert_eq!(fixture.expect().type_url, ClusterLoadAssignment);
}

#[test]
fn routes_wait_for_the_clusters_of_their_snapshot_to_be_acknowledged() {
    let mut fixture = everything();
    fixture.publish([cluster("b", 0), routes("r", 1)]);
    let clusters = fixture.expect();
    assert_eq!(clusters.type_url, Cluster);
    fixture.expect_silence();
    // Endpoints and secrets of what is held do not wait for anything.
    fixture.publish([secret("s", 1), endpoints("a", 1)]);
    let answers = fixture.drain();
    assert_eq!(types(&answers), ["ClusterLoadAssignment", "Secret"]);
    fixture.ack(&clusters);
    assert_eq!(types(&fixture.drain()), ["RouteConfiguration"]);
}

#[test]
fn routes_wait_for_the_endpoints_a_new_cluster_asked_for() {
    let mut fixture = everything();
    fixture.publish([cluster("b", 0), endpoints("b", 0), routes("r", 1)]);
    let clusters = fixture.expect();
    fixture.delta(&ClusterLoadAssignment, &["b"], &[]);
    fixture.ack(&clusters);
    let endpoints = fixture.expect();
    assert_eq!(endpoints.names(), ["b"]);
    fixture.expect_silence();
    fixture.ack(&endpoints);
    assert_eq!(fixture.expect().type_url, RouteConfiguration);
}

#[test]
fn inputs_that_never_rest_do_not_starve_routes() {
    let mut fixture = everything();
    let mut sent = 0;
    for round in 1..20 {
        // A newer snapshot is there before the older one's clusters are acknowledged, each time.
        fixture.publish([cluster("a", round), routes("r", round)]);
        let mut on_their_way = Vec::new();
        while let Some(answer) = fixture.next() {
            sent += usize::from(answer.type_url == RouteConfiguration);
            on_their_way.push(answer);
        }
        fixture.publish([cluster("a", 100 + round), routes("r", 100 + round)]);
        for answer in on_their_way {
            fixture.ack(&answer);
        }
    }
    assert!(sent >= 5, "{sent}");
}

#[test]
fn a_cluster_is_removed_only_when_no_route_needs_it() {
    let mut fixture = everything();
    fixture.layer.remove(&Cluster, "a");
    fixture.publish([routes("r", 1)]);
    let answer = fixture.expect();
    assert_eq!(answer.type_url, RouteConfiguration);
    fixture.expect_silence();
    fixture.nack(&answer, "no");
    fixture.expect_silence();
    fixture.publish([routes("r", 2)]);
    let answers = fixture.drain();
    assert_eq!(types(&answers), ["RouteConfiguration", "Cluster"]);
    assert_eq!(answers[1].removed, ["a"]);
}

#[test]
fn what_stands_in_for_a_cluster_comes_only_when_no_route_needs_the_cluster() {
    let stand_in = cluster("a", 9);
    let answer = {
        let stand_in = stand_in.clone();
        Box::new(move |_: &crate::TypeUrl, _: &str| UnknownName::Resource(stand_in.clone()))
    };
    let mut fixture = Fixture::with_unknown(Variant::Delta, Service::Aggregated, StreamSettings::default(), answer);
    fixture.layer.insert(cluster("a", 0), Delivery::Named);
    fixture.publish([routes("r", 0)]);
    // Asked for by name, as a client does that finds the name in a request.
    fixture.delta(&Cluster, &["a"], &[]);
    fixture.delta(&RouteConfiguration, &["r"], &[]);
    assert_eq!(types(&fixture.drain()), ["Cluster", "RouteConfiguration"]);
    fixture.layer.remove(&Cluster, "a");
    fixture.publish([routes("r", 1)]);
    let answer = fixture.expect();
    assert_eq!(answer.type_url, RouteConfiguration);
    fixture.expect_silence();
    fixture.ack(&answer);
    let answer = fixture.expect();
    assert_eq!(answer.resources, [("a".to_owned(), stand_in.version())]);
    fixture.ack(&answer);
    // The real one comes before the routes that need it.
    fixture.layer.insert(cluster("a", 1), Delivery::Named);
    fixture.publish([routes("r", 2)]);
    assert_eq!(types(&fixture.drain()), ["Cluster", "RouteConfiguration"]);
}

#[test]
fn a_listener_and_the_one_that_takes_its_address_go_together() {
    let mut fixture = everything();
    fixture.layer.remove(&Listener, "l");
    fixture.publish([listener("m", 0)]);
    let answer = fixture.expect();
    assert_eq!((answer.names(), answer.removed.as_slice()), (vec!["m"], &["l".to_owned()][..]));
}

#[test]
fn types_are_answered_without_waiting_for_types_not_asked_for() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([cluster("a", 0), endpoints("a", 0), listener("l", 0), routes("r", 0)]);
    fixture.delta(&ClusterLoadAssignment, &["a"], &[]);
    assert_eq!(types(&fixture.drain()), ["ClusterLoadAssignment"]);
    fixture.delta(&Listener, &[], &[]);
    fixture.delta(&RouteConfiguration, &["r"], &[]);
    assert_eq!(types(&fixture.drain()), ["Listener", "RouteConfiguration"]);
    // Clusters asked for very late: their endpoints follow once more.
    fixture.delta(&Cluster, &[], &[]);
    assert_eq!(types(&fixture.drain()), ["Cluster", "ClusterLoadAssignment"]);
}

#[test]
fn a_step_that_waits_too_long_is_reported_once() {
    let mut fixture = everything();
    fixture.publish([cluster("b", 0), routes("r", 1)]);
    let clusters = fixture.expect();
    fixture.expect_silence();
    let limit = StreamSettings::default().stall_limit;
    assert_eq!(fixture.stream.next_deadline(fixture.now), Some(fixture.now + limit));
    fixture.events();
    for _ in 0..2 {
        fixture.advance(limit);
        fixture.stream.on_timer(fixture.now).unwrap();
        fixture.expect_silence();
    }
    let stalls: Vec<Event> = fixture.events();
    assert_eq!(stalls, [Event::Stalled { waiting: Listener, waits_for: Cluster, waited: limit }]);
    fixture.ack(&clusters);
    assert_eq!(types(&fixture.drain()), ["RouteConfiguration"]);
}

#[test]
fn synced_is_announced_once_everything_is_acknowledged() {
    let mut fixture = everything();
    let epoch = fixture.stream.synced().unwrap();
    fixture.layer.remove(&Cluster, "a");
    fixture.publish([routes("r", 1)]);
    let answer = fixture.expect();
    fixture.expect_silence();
    assert_eq!(fixture.stream.synced(), Some(epoch), "what was acknowledged stays acknowledged");
    fixture.ack(&answer);
    let removal = fixture.expect();
    assert!(!fixture.events().iter().any(|event| matches!(event, Event::Synced { .. })));
    fixture.ack(&removal);
    fixture.expect_silence();
    let next = crate::Epoch(epoch.0 + 1);
    assert_eq!(fixture.stream.synced(), Some(next));
    assert!(fixture.events().contains(&Event::Synced { epoch: next }));
}

#[test]
fn a_name_asked_for_later_takes_nothing_away_from_what_was_acknowledged() {
    let mut fixture = everything();
    let epoch = fixture.stream.synced();
    assert!(epoch.is_some());
    fixture.delta(&RouteConfiguration, &["another"], &[]);
    let answer = fixture.expect();
    assert_eq!(fixture.stream.synced(), epoch);
    fixture.ack(&answer);
    fixture.expect_silence();
    assert_eq!(fixture.stream.synced(), epoch);
    assert!(!fixture.events().iter().any(|event| matches!(event, Event::Synced { .. })), "nothing new is synced");
}

#[test]
fn a_service_of_one_type_waits_for_nobody() {
    for (type_url, content) in [(Listener, listener("l", 0)), (Cluster, cluster("c", 0))] {
        let mut fixture = Fixture::with(Variant::Delta, Service::Single(type_url.clone()), StreamSettings::default());
        fixture.publish([content]);
        fixture.delta(&type_url, &[], &[]);
        assert_eq!(fixture.drain().len(), 1);
        let name = if type_url == Listener { "l" } else { "c" };
        fixture.remove(&[(type_url, name)]);
        assert_eq!(fixture.expect().removed, [name]);
    }
}

#[test]
fn an_entry_that_becomes_named_is_taken_from_wildcards() {
    let mut fixture = everything();
    fixture.layer.insert(cluster("a", 0), Delivery::Named);
    fixture.publish_layer();
    let answers = fixture.drain();
    assert_eq!(types(&answers), ["Cluster"]);
    assert_eq!(answers[0].removed, ["a"]);
}
