use serde_json::json;

use super::*;

fn event(verb: &str, resource: &str, name: &str, code: u16) -> Value {
    json!({
        "verb": verb, "responseStatus": { "code": code },
        "objectRef": { "resource": resource, "namespace": "a", "name": name, "apiVersion": "v1" },
    })
}

fn granted(rule: &Value, namespace: Option<&str>) -> BTreeSet<Right> {
    rights(rule, namespace).unwrap().into_iter().collect()
}

fn asked(events: &[Value]) -> Asked {
    Asked { allowed: events.iter().flat_map(requests).collect(), refused: BTreeSet::new() }
}

#[test]
fn every_name_and_verb_of_a_rule_is_a_right_of_its_own() {
    let rule =
        json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x", "y"], "verbs": ["get", "patch"] });
    let granted = granted(&rule, Some("a"));
    assert_eq!(granted.len(), 4);
    let difference = asked(&[event("get", "secrets", "x", 200)]).difference(&granted);
    let unused: Vec<_> = difference.unused.iter().map(ToString::to_string).collect();
    assert_eq!(unused, ["patch secrets x in a", "get secrets y in a", "patch secrets y in a"]);
    let error = difference.expect_none_but(&[("patch secrets", "later")]).unwrap_err().to_string();
    assert!(error.contains("never used") && error.contains("get secrets y") && !error.contains("patch"), "{error}");
    let exceptions = [("patch secrets", "later"), ("get secrets y", "later")];
    difference.expect_none_but(&exceptions).and_then(|()| difference.expect_all_of(&exceptions)).unwrap();
    let error = difference.expect_all_of(&[("get secrets x", "never")]).unwrap_err().to_string();
    assert!(error.contains("get secrets x"), "{error}");
}

#[test]
fn to_post_is_not_limited_by_names_and_to_patch_into_being_is() {
    let named =
        json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"], "verbs": ["create", "patch"] });
    let posted = asked(&[event("create", "secrets", "x", 201)]).difference(&granted(&named, None));
    assert_eq!((posted.beyond.len(), posted.unused.len()), (1, 2), "{posted:?}");
    let applied = asked(&[event("patch", "secrets", "x", 201)]).difference(&granted(&named, None));
    assert_eq!(applied, Difference::default());
    let changed = asked(&[event("patch", "secrets", "x", 200)]).difference(&granted(&named, None));
    assert_eq!(changed.unused.iter().map(ToString::to_string).collect::<Vec<_>>(), ["create secrets x"]);
}

#[test]
fn a_namespace_is_a_limit_and_a_wildcard_is_refused() {
    let rule = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] });
    let asked = asked(&[event("get", "pods", "x", 200)]);
    assert_eq!(asked.difference(&granted(&rule, Some("a"))), Difference::default());
    assert_eq!(asked.difference(&granted(&rule, Some("b"))).beyond.len(), 1);
    assert!(rights(&json!({ "apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"] }), None).is_err());
}
