//! Lists of objects, as `kubectl get --output yaml` writes them.

use serde_json::Value;

/// The objects in a value: the items of a list (`kind: List`, or the list of one kind, such as `TrafficTargetList`), with the
/// kind and version that a list of one kind states once for all its items; any other value is its own only item.
pub fn items(value: Value) -> Vec<Value> {
    let Some(item_kind) = value.get("kind").and_then(Value::as_str).and_then(|kind| kind.strip_suffix("List")) else {
        return vec![value];
    };
    if !value.get("items").is_some_and(Value::is_array) {
        return vec![value];
    }
    let item_kind = item_kind.to_owned();
    let api_version = value.get("apiVersion").cloned();
    let Value::Object(mut fields) = value else {
        return Vec::new();
    };
    let Some(Value::Array(mut items)) = fields.remove("items") else {
        return Vec::new();
    };
    if !item_kind.is_empty() {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.entry("kind").or_insert_with(|| item_kind.as_str().into());
            if let Some(api_version) = &api_version {
                item.entry("apiVersion").or_insert_with(|| api_version.clone());
            }
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_of_all_kinds_yields_its_items_as_they_are() {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Pod"}, 1]});
        assert_eq!(items(list), [json!({"kind": "Pod"}), json!(1)]);
    }

    #[test]
    fn items_of_a_list_of_one_kind_get_that_kind_and_version() {
        let list = json!({
            "apiVersion": "access.smi-spec.io/v1alpha3",
            "kind": "TrafficTargetList",
            "items": [{"spec": {}}, {"kind": "Other", "apiVersion": "v1"}],
        });
        assert_eq!(
            items(list),
            [
                json!({"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "spec": {}}),
                json!({"kind": "Other", "apiVersion": "v1"}),
            ]
        );
    }

    #[test]
    fn anything_else_is_its_own_only_item() {
        for value in [
            json!(null),
            json!([1]),
            json!({"kind": "Pod", "items": []}),
            json!({"kind": "List"}),
            json!({"kind": "PodList", "items": {}}),
        ] {
            assert_eq!(items(value.clone()), [value]);
        }
    }
}
