//! Decoding takes any JSON: values of any shape, and valid objects with any value in any place.

use osm_api::{Object, Strictness, decode};
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

fn samples() -> Vec<Value> {
    let files = [
        include_str!("samples/bookstore-manual.yaml"),
        include_str!("samples/bookstore-script.yaml"),
        include_str!("samples/osm-accepted.yaml"),
        include_str!("samples/refused.yaml"),
        include_str!("samples/kubernetes.yaml"),
    ];
    files
        .into_iter()
        .flat_map(|yaml| serde_saphyr::from_multiple::<Value>(yaml).expect("the samples are YAML"))
        .collect()
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|float| Number::from_f64(float).map_or(Value::Null, Value::Number)),
        any::<String>().prop_map(Value::from),
        prop_oneof![Just("True"), Just("off"), Just("2023-01-01T00:00:00Z"), Just(""), Just("*")].prop_map(Value::from),
    ];
    let key = prop_oneof![
        any::<String>(),
        prop_oneof![Just("name"), Just("spec"), Just("kind"), Just("matches"), Just("conditions"), Just("ä.b")]
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// All places in the value, as JSON pointers.
fn places(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, child)| (name.replace('~', "~0").replace('/', "~1"), child)).collect()
        }
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(index, child)| (index.to_string(), child)).collect()
        }
        _ => Vec::new(),
    };
    for (name, child) in children {
        found.extend(places(child).into_iter().map(|place| format!("/{name}{place}")));
    }
    found
}

/// A sample with one place replaced by another value, or with a field added there.
fn grafted() -> impl Strategy<Value = Value> {
    let samples = samples();
    (prop::sample::select(samples), any::<prop::sample::Index>(), any_json(), any::<bool>(), any::<String>()).prop_map(
        |(mut sample, index, graft, add, name)| {
            let places = places(&sample);
            let place = sample.pointer_mut(index.get(&places[..]).as_str()).expect("the place is one of the value");
            match place {
                Value::Object(fields) if add => {
                    fields.insert(name, graft);
                }
                place => *place = graft,
            }
            sample
        },
    )
}

/// An error names what it is about, and a decoded object can be written and read again.
fn check(value: Value, strictness: Strictness) -> Result<(), TestCaseError> {
    match decode(value, strictness) {
        Ok(object) => {
            let written = object.to_value().expect("objects can be written");
            let again = decode(written, Strictness::Lenient);
            prop_assert_eq!(again.as_ref().map(Object::reference), Ok(object.reference()));
        }
        Err(error) => prop_assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_json_at_all(value in any_json()) {
        check(value.clone(), Strictness::Strict)?;
        check(value, Strictness::Lenient)?;
    }

    #[test]
    fn any_json_grafted_into_a_valid_object(value in grafted()) {
        check(value.clone(), Strictness::Strict)?;
        check(value, Strictness::Lenient)?;
    }
}
