//! Putting what injection wants over what is there. What others added to our parts since an earlier injection stays: the API
//! server's defaults, the limits of a LimitRange, the mount of the ServiceAccount's own token.

use serde_json::{Map, Value};

/// Lists of our parts that others may add to, with what tells their entries apart.
const OPEN_LISTS: [(&str, &str); 2] = [("env", "name"), ("volumeMounts", "mountPath")];
/// Lists of our parts that are ours alone, but whose entries get defaults.
const CLOSED_LISTS: [(&str, &str); 1] = [("ports", "containerPort")];

/// Makes `present` say all that `wanted` says.
pub(super) fn overlay(present: &mut Value, wanted: Value) {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => objects(present, wanted),
        (present, wanted) => *present = wanted,
    }
}

fn objects(present: &mut Map<String, Value>, wanted: Map<String, Value>) {
    for (key, value) in wanted {
        let Some(known) = present.get_mut(&key) else {
            present.insert(key, value);
            continue;
        };
        let named = |lists: &[(&str, &'static str)]| lists.iter().find(|(list, _)| *list == key).map(|(_, by)| *by);
        match (known, value) {
            (Value::Array(known), Value::Array(value)) => match (named(&OPEN_LISTS), named(&CLOSED_LISTS)) {
                (Some(by), _) => lists(known, value, by),
                (None, Some(by)) => {
                    known.retain(|entry| value.iter().any(|wanted| wanted.get(by) == entry.get(by)));
                    lists(known, value, by);
                }
                (None, None) => *known = value,
            },
            // What a LimitRange gave to resources that we leave open stays, what we name is ours.
            (known, value) => overlay(known, value),
        }
    }
}

fn lists(present: &mut Vec<Value>, wanted: Vec<Value>, by: &str) {
    for entry in wanted {
        match present.iter_mut().find(|known| known.get(by) == entry.get(by)) {
            Some(known) => overlay(known, entry),
            None => present.push(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_added_stays_and_what_is_ours_is_set() {
        let mut present = json!({
            "image": "old",
            "args": ["a", "b"],
            "terminationMessagePath": "/dev/termination-log",
            "resources": { "limits": { "cpu": "1" } },
            "volumeMounts": [{ "name": "ours", "mountPath": "/etc/envoy" }, { "name": "token", "mountPath": "/var/run" }],
            "ports": [{ "containerPort": 1, "protocol": "TCP" }, { "containerPort": 2 }],
        });
        let wanted = json!({
            "image": "new",
            "args": ["c"],
            "resources": {},
            "volumeMounts": [{ "name": "ours", "mountPath": "/etc/envoy", "readOnly": true }],
            "ports": [{ "containerPort": 1 }],
        });
        overlay(&mut present, wanted);
        let expected = json!({
            "image": "new",
            "args": ["c"],
            "terminationMessagePath": "/dev/termination-log",
            "resources": { "limits": { "cpu": "1" } },
            "volumeMounts": [
                { "name": "ours", "mountPath": "/etc/envoy", "readOnly": true },
                { "name": "token", "mountPath": "/var/run" },
            ],
            "ports": [{ "containerPort": 1, "protocol": "TCP" }],
        });
        assert_eq!(present, expected);
    }
}
