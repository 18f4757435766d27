//! The JSON merge patch (RFC 7386) that leads from one value to another.

use serde_json::{Map, Value};

/// The patch that makes `wanted` of `present`, or `None` if they are equal. Members that `wanted` does not have become null, which
/// removes them; lists are replaced as a whole.
pub(crate) fn merge_patch(present: &Value, wanted: &Value) -> Option<Value> {
    if present == wanted {
        return None;
    }
    let (Value::Object(present), Value::Object(wanted)) = (present, wanted) else { return Some(whole(wanted)) };
    let mut patch = Map::new();
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in wanted {
        let change = match present.get(name) {
            Some(old) => merge_patch(old, value),
            None => Some(whole(value)),
        };
        patch.extend(change.map(|change| (name.clone(), change)));
    }
    Some(Value::Object(patch))
}

/// The value as a patch where there was nothing: members that are null would be dropped, and are left out.
fn whole(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let present = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(present.map(|(name, value)| (name.clone(), whole(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// RFC 7386, section 2.
    fn apply(target: &Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut result = target.as_object().cloned().unwrap_or_default();
        for (name, value) in patch {
            if value.is_null() {
                result.remove(name);
            } else {
                let changed = apply(result.get(name).unwrap_or(&Value::Null), value);
                result.insert(name.clone(), changed);
            }
        }
        Value::Object(result)
    }

    #[test]
    fn members_that_go_become_null_and_equal_ones_are_not_sent() {
        let present = json!({ "a": 1, "b": { "c": 1, "d": 2 }, "list": [1, 2] });
        let wanted = json!({ "a": 1, "b": { "c": 3 }, "list": [2] });
        assert_eq!(merge_patch(&present, &wanted), Some(json!({ "b": { "c": 3, "d": null }, "list": [2] })));
        assert_eq!(merge_patch(&wanted, &wanted), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i8>().prop_map(|number| json!(number)), Just(json!("text")), Just(json!([1, {}]))];
        leaf.prop_recursive(3, 20, 4, |inner| {
            proptest::collection::btree_map("[a-d]", inner, 0..4).prop_map(|fields| json!(fields))
        })
    }

    proptest! {
        #[test]
        fn applying_the_patch_gives_what_was_wanted(present in values(), wanted in values()) {
            match merge_patch(&present, &wanted) {
                None => prop_assert_eq!(present, wanted),
                Some(patch) => prop_assert_eq!(apply(&present, &patch), wanted),
            }
        }
    }
}
