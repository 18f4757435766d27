use osm_api::Kind;
use serde_json::json;

use super::*;

fn target(name: &str, version: u64, generation: i64, status: &str) -> Value {
    json!({
        "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": { "name": name, "namespace": "shop", "uid": name, "resourceVersion": version.to_string(), "generation": generation },
        "spec": {
            "destination": { "kind": "ServiceAccount", "name": format!("g{generation}") }, "rules": [], "sources": [],
        },
        "status": { "is": status },
    })
}

fn reference(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::TrafficTarget, "shop", name)
}

fn changed(news: &News) -> Vec<(&str, bool)> {
    news.changes.iter().map(|(object, state)| (object.name.as_str(), state.is_some())).collect()
}

#[test]
fn a_change_of_status_alone_is_no_change() {
    let mut known = Known::new(Kind::TrafficTarget);
    assert_eq!(changed(&known.apply(target("a", 1, 1, "x"))), [("a", true)]);
    let news = known.apply(target("a", 2, 1, "y"));
    assert_eq!(changed(&news), []);
    let [(object, Some(stored))] = news.stored.as_slice() else { panic!("{news:?}") };
    assert_eq!(
        (object, stored.resource_version.as_str(), &stored.status),
        (&reference("a"), "2", &Some(json!({ "is": "y" })))
    );
    let news = known.apply(target("a", 3, 2, "y"));
    let [(_, Some(object))] = news.changes.as_slice() else { panic!("{news:?}") };
    let value = object.to_value().unwrap();
    assert_eq!((&value["status"], &value["metadata"]["resourceVersion"]), (&Value::Null, &Value::Null));
    assert_eq!(object.metadata().generation, Some(2));
}

#[test]
fn an_object_that_is_made_anew_is_a_change_even_if_it_looks_the_same() {
    let mut known = Known::new(Kind::TrafficTarget);
    known.apply(target("a", 1, 1, "x"));
    let mut again = target("a", 5, 1, "x");
    again["metadata"]["uid"] = "another".into();
    assert_eq!(changed(&known.apply(again)), [("a", true)]);
}

#[test]
fn what_a_list_does_not_show_is_gone_when_it_ends_and_not_before() {
    let mut known = Known::new(Kind::TrafficTarget);
    known.begin_list();
    for name in ["a", "b", "c"] {
        known.apply(target(name, 1, 1, "x"));
    }
    assert_eq!(known.end_list(), News::default());
    known.begin_list();
    assert_eq!(changed(&known.apply(target("a", 1, 1, "x"))), []);
    // That list was cut short; what it showed does not count.
    known.begin_list();
    assert_eq!(changed(&known.apply(target("b", 7, 2, "x"))), [("b", true)]);
    let mut gone = known.end_list();
    gone.changes.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(changed(&gone), [("a", false), ("c", false)]);
    assert_eq!(gone.stored.len(), 2);
    assert_eq!(known.end_list(), News::default(), "a list ends once");
    assert_eq!(changed(&known.delete(&target("b", 8, 2, "x"))), [("b", false)]);
    assert_eq!(known.delete(&target("b", 8, 2, "x")), News::default());
}

#[test]
fn an_object_that_cannot_be_decoded_is_a_problem_and_its_last_good_state_stays() {
    let mut known = Known::new(Kind::TrafficTarget);
    known.apply(target("a", 1, 1, "x"));
    let mut bad = target("a", 2, 2, "x");
    bad["spec"]["destination"] = json!(1);
    let news = known.apply(bad.clone());
    assert_eq!(changed(&news), []);
    let [(object, Some(problem))] = news.problems.as_slice() else { panic!("{news:?}") };
    assert_eq!((object, problem.field.as_deref()), (&reference("a"), Some("spec.destination")));
    assert!(problem.remedy.contains("last good state stays"), "{problem}");
    bad["metadata"]["name"] = "new".into();
    let news = known.apply(bad.clone());
    let [(_, Some(problem))] = news.problems.as_slice() else { panic!("{news:?}") };
    assert!(problem.remedy.contains("no effect"), "{problem}");
    assert_eq!(known.apply(target("a", 3, 3, "x")).problems, [(reference("a"), None)], "it is mended");
    assert_eq!(known.delete(&bad).problems, [(reference("new"), None)], "it is gone");
    assert_eq!(changed(&known.delete(&target("a", 3, 3, "x"))), [("a", false)]);
}

#[test]
fn no_json_makes_it_fail() {
    let mut known = Known::new(Kind::Pod);
    for value in
        [json!(null), json!(5), json!([]), json!({}), json!({ "metadata": 5 }), json!({ "metadata": { "name": 5 } })]
    {
        assert_eq!(known.apply(value.clone()), News::default());
        assert_eq!(known.delete(&value), News::default());
    }
    let odd = json!({ "metadata": { "name": "a", "namespace": "shop", "labels": 5 }, "spec": "x", "status": [] });
    assert_eq!(known.apply(odd).problems.len(), 1);
}

#[test]
fn proxy_snapshots_are_stored_and_not_told() {
    let mut known = Known::new(Kind::ProxySnapshot);
    let snapshot = json!({
        "metadata": { "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "1" }, "spec": {}, "status": { "version": "v" },
    });
    known.begin_list();
    let news = known.apply(snapshot);
    assert_eq!((news.changes.len(), news.stored.len()), (0, 1));
    known.end_list();
    known.begin_list();
    assert_eq!(known.end_list().stored, [(ObjectRef::new(Kind::ProxySnapshot, "shop", "a"), None)]);
}
