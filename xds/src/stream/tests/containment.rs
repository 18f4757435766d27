//! Refusals.

use super::fixture::*;
use crate::policy::{Event, Variant};
use crate::settings::{Isolation, StreamSettings};
use crate::type_url::TypeUrl::{Cluster, ClusterLoadAssignment};
use crate::{Rejection, Service};

fn rejections(fixture: &mut Fixture) -> Vec<Rejection> {
    let events = fixture.events().into_iter();
    events
        .filter_map(|event| match event {
            Event::Rejected(rejection) => Some(rejection),
            _ => None,
        })
        .collect()
}

#[test]
fn a_refusal_is_answered_by_silence_until_something_changes() {
    for variant in [Variant::Delta, Variant::StateOfTheWorld] {
        let mut fixture = Fixture::new(variant);
        fixture.publish([cluster("a", 0), cluster("b", 0)]);
        fixture
            .request(match variant {
                Variant::Delta => delta_request(&Cluster, "", None, &[], &[]),
                Variant::StateOfTheWorld => sotw_request(&Cluster, "", None, &[]),
            })
            .unwrap();
        fixture.drain();
        fixture.publish([cluster("a", 1), cluster("b", 1)]);
        let bad = fixture.expect();
        fixture.nack(&bad, "cluster b: no");
        for _ in 0..10 {
            fixture.nack(&bad, "cluster b: no");
            fixture.expect_silence();
        }
        let rejections = rejections(&mut fixture);
        assert_eq!(rejections.len(), 1);
        assert_eq!(rejections[0].mentioned, [std::sync::Arc::from("b")]);
        assert_eq!(rejections[0].resources[&*"a".to_owned()], cluster("a", 1).version());
        // What is cured goes out with what was refused along with it.
        fixture.publish([cluster("b", 2)]);
        let cured = fixture.expect();
        assert_eq!(cured.names(), ["a", "b"]);
        fixture.ack(&cured);
        fixture.expect_silence();
    }
}

#[test]
fn the_refusal_of_a_first_answer_is_answered_by_silence_too() {
    for variant in [Variant::Delta, Variant::StateOfTheWorld] {
        for type_url in [Cluster, ClusterLoadAssignment] {
            for names in [&["a"][..], &["*"]] {
                let mut fixture = Fixture::new(variant);
                fixture.publish([resource(&type_url, "a", 0)]);
                let subscribe = match variant {
                    Variant::Delta => delta_request(&type_url, "", None, names, &[]),
                    Variant::StateOfTheWorld => sotw_request(&type_url, "", None, names),
                };
                fixture.request(subscribe).unwrap();
                let first = fixture.expect();
                for _ in 0..3 {
                    let error = Some(crate::RequestError { code: 13, message: "no".to_owned() });
                    let refusal = match variant {
                        Variant::Delta => delta_request(&type_url, &first.nonce, error, &[], &[]),
                        Variant::StateOfTheWorld => sotw_request(&type_url, &first.nonce, error, names),
                    };
                    fixture.request(refusal).unwrap();
                    fixture.expect_silence();
                }
                fixture.publish([resource(&type_url, "a", 1)]);
                let second = fixture.expect();
                assert_eq!(second.resources, [("a".to_owned(), resource(&type_url, "a", 1).version())]);
            }
        }
    }
}

#[test]
fn what_has_nothing_to_do_with_a_refusal_still_goes_out() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([endpoints("a", 0), endpoints("b", 0), endpoints("c", 0)]);
    fixture.delta(&ClusterLoadAssignment, &["a", "b"], &[]);
    let bad = fixture.expect();
    fixture.nack(&bad, "no");
    fixture.delta(&ClusterLoadAssignment, &["c"], &[]);
    let good = fixture.expect();
    assert_eq!(good.names(), ["c"]);
    fixture.ack(&good);
    fixture.expect_silence();
}

#[test]
fn a_refusal_may_change_the_subscription() {
    for variant in [Variant::Delta, Variant::StateOfTheWorld] {
        let mut fixture = Fixture::new(variant);
        fixture.publish([endpoints("a", 0), endpoints("b", 0)]);
        fixture
            .request(match variant {
                Variant::Delta => delta_request(&ClusterLoadAssignment, "", None, &["a"], &[]),
                Variant::StateOfTheWorld => sotw_request(&ClusterLoadAssignment, "", None, &["a"]),
            })
            .unwrap();
        let bad = fixture.expect();
        let error = Some(crate::RequestError { code: 3, message: "no".to_owned() });
        fixture
            .request(match variant {
                Variant::Delta => delta_request(&ClusterLoadAssignment, &bad.nonce, error, &["b"], &[]),
                Variant::StateOfTheWorld => sotw_request(&ClusterLoadAssignment, &bad.nonce, error, &["a", "b"]),
            })
            .unwrap();
        assert_eq!(fixture.expect().names(), ["b"]);
    }
}

#[test]
fn a_version_held_back_is_not_sent_and_the_acknowledged_one_stays() {
    for variant in [Variant::Delta, Variant::StateOfTheWorld] {
        let mut fixture = Fixture::new(variant);
        fixture.publish([cluster("a", 0), cluster("b", 0)]);
        fixture
            .request(match variant {
                Variant::Delta => delta_request(&Cluster, "", None, &[], &[]),
                Variant::StateOfTheWorld => sotw_request(&Cluster, "", None, &[]),
            })
            .unwrap();
        fixture.drain();
        fixture.publish([cluster("a", 1), cluster("b", 1), cluster("c", 1)]);
        let bad = fixture.expect();
        fixture.nack(&bad, "b and c");
        fixture.hold_back(&cluster("b", 1));
        fixture.hold_back(&cluster("c", 1));
        let rest = fixture.expect();
        let mut expected = vec![("a".to_owned(), cluster("a", 1).version())];
        if variant == Variant::StateOfTheWorld {
            expected.push(("b".to_owned(), cluster("b", 0).version()));
        }
        assert_eq!(rest.resources, expected);
        fixture.ack(&rest);
        fixture.expect_silence();
        assert!(fixture.stream.synced().is_some());
        assert_eq!(fixture.stream.acknowledged(&Cluster, "b"), Some(cluster("b", 0).version()));
        assert_eq!(fixture.stream.acknowledged(&Cluster, "c"), None);
        // It lapses with the version.
        fixture.publish([cluster("b", 2)]);
        assert_eq!(fixture.stream.lapsed_hold_backs().len(), 1);
        let cured = fixture.expect();
        assert!(cured.resources.contains(&("b".to_owned(), cluster("b", 2).version())));
        assert!(!cured.names().contains(&"c"));
    }
}

#[test]
fn the_culprit_is_found_by_sending_one_at_a_time_once() {
    let settings = StreamSettings { isolation: Isolation::OneAtATime, ..StreamSettings::default() };
    let mut fixture = Fixture::with(Variant::Delta, Service::Aggregated, settings);
    fixture.publish(["a", "b", "c"].map(|name| endpoints(name, 0)));
    fixture.delta(&ClusterLoadAssignment, &["a", "b", "c"], &[]);
    let all = fixture.expect();
    fixture.nack(&all, "something is wrong");
    let mut tried = Vec::new();
    while let Some(one) = fixture.next() {
        assert_eq!(one.names().len(), 1);
        tried.push(one.names()[0].to_owned());
        if one.names() == ["b"] {
            fixture.nack(&one, "something is wrong");
        } else {
            fixture.ack(&one);
        }
    }
    assert_eq!(tried, ["a", "b", "c"]);
    let rejections = rejections(&mut fixture);
    assert_eq!(rejections.len(), 2);
    assert_eq!(rejections[1].resources.len(), 1);
    assert!(rejections[1].resources.contains_key("b"));
    fixture.publish([endpoints("b", 1)]);
    assert_eq!(fixture.expect().names(), ["b"]);
}

#[test]
fn a_refused_text_that_names_the_culprit_is_believed() {
    let settings = StreamSettings { isolation: Isolation::OneAtATime, ..StreamSettings::default() };
    let mut fixture = Fixture::with(Variant::Delta, Service::Aggregated, settings);
    fixture.publish(["a", "b"].map(|name| cluster(name, 0)));
    fixture.delta(&Cluster, &[], &[]);
    let all = fixture.expect();
    fixture.nack(&all, "Error adding/updating cluster(s) b: bad.");
    fixture.expect_silence();
}

#[test]
fn names_are_mentioned_only_as_words_of_their_own() {
    use super::super::mention::is_mentioned;
    for (name, text, expected) in [
        ("a", "cluster a: bad", true),
        ("a", "cluster a.", true),
        ("a", "cluster 'a'", true),
        ("a", "bad cluster", false),
        ("a", "a.b", false),
        ("ns/a", "ns/a|80", false),
        ("ns/a|80", "cluster(s) ns/a|80: no", true),
        ("é", "l'été", false),
    ] {
        assert_eq!(is_mentioned(name, text), expected, "{name} in {text}");
    }
}
