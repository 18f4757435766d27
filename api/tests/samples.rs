//! Manifests that OSM accepted are accepted here, unmodified, and survive being written and read again.

use osm_api::{HttpMethod, Kind, Object, Role, Strictness, decode};
use serde_json::Value;

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).expect("the samples are YAML")
}

fn decode_all(yaml: &str) -> Vec<Object> {
    documents(yaml).into_iter().map(|value| decode(value, Strictness::Strict).expect("OSM accepted it")).collect()
}

const MANUAL: &str = include_str!("samples/bookstore-manual.yaml");
const SCRIPT: &str = include_str!("samples/bookstore-script.yaml");
const ACCEPTED: &str = include_str!("samples/osm-accepted.yaml");
const REFUSED: &str = include_str!("samples/refused.yaml");

#[test]
fn the_bookstore_of_the_guide_is_accepted() {
    let objects = decode_all(MANUAL);
    let names: Vec<_> = objects.iter().map(|object| object.reference().to_string()).collect();
    assert_eq!(
        names,
        [
            "httproutegroup/bookstore/bookstore-service-routes",
            "traffictarget/bookstore/bookbuyer-access-bookstore",
            "httproutegroup/bookwarehouse/bookwarehouse-service-routes",
            "traffictarget/bookwarehouse/bookstore-access-bookwarehouse",
            "tcproute/bookwarehouse/mysql",
            "traffictarget/bookwarehouse/mysql",
            "trafficsplit/bookstore/bookstore-split",
        ]
    );
    let Object::HttpRouteGroup(routes) = &objects[0] else { panic!("{:?}", objects[0]) };
    let books_bought = &routes.spec.matches[0];
    assert_eq!(books_bought.path_regex(), "/books-bought");
    assert_eq!(books_bought.methods(), Some(&[HttpMethod::Get][..]));
    let headers: Vec<_> = books_bought.headers().into_iter().collect();
    assert_eq!(headers, [("client-app", "bookbuyer"), ("user-agent", ".*-http-client/*.*")]);
    let Object::TrafficSplit(split) = &objects[6] else { panic!("{:?}", objects[6]) };
    let weights: Vec<_> = split.spec.backends.iter().enumerate().map(|(index, b)| b.weight(index)).collect();
    assert_eq!(weights, [Ok(50), Ok(50)]);
}

#[test]
fn the_bookstore_of_the_demo_script_is_accepted() {
    let objects = decode_all(SCRIPT);
    let Object::TrafficSplit(ab_test) = &objects[3] else { panic!("{:?}", objects[3]) };
    assert_eq!(ab_test.spec.matches[0].name, "firefox-users");
    let value = objects[3].to_value().expect("objects can be written");
    assert_eq!(value["apiVersion"], "split.smi-spec.io/v1alpha2", "the version that is stored");
}

#[test]
fn all_that_osm_accepted_is_accepted() {
    let objects = decode_all(ACCEPTED);
    let Object::MeshConfig(config) = &objects[0] else { panic!("{:?}", objects[0]) };
    assert_eq!(config.spec.sidecar.log_level().as_str(), "off");
    assert_eq!(config.spec.observability.tracing.port().value.get(), 40_000);
    assert_eq!(config.spec.sidecar.resources.limits["cpu"].0, "0.5");
    assert_eq!(config.spec.sidecar.resources.limits["example.com/slots"].0, "2");
    let Object::MeshRootCertificate(root) = &objects[3] else { panic!("{:?}", objects[3]) };
    assert_eq!(root.spec.role(), Role::Active);
    assert_eq!(root.status.as_ref().and_then(|status| status.state.as_deref()), Some("active"));
}

#[test]
fn every_field_that_was_written_survives_reading_and_writing() {
    for value in [MANUAL, SCRIPT, ACCEPTED].into_iter().flat_map(documents) {
        let written = decode(value.clone(), Strictness::Strict).expect("accepted").to_value().expect("written");
        let mut expected = value;
        expected["apiVersion"] = written["apiVersion"].clone();
        let lost = differences("", &expected, &written);
        assert!(lost.is_empty(), "{lost:?}");
        let again = decode(written.clone(), Strictness::Strict).expect("accepted").to_value().expect("written");
        assert_eq!(again, written);
    }
}

/// Where `read` lacks something of `written`. Empty texts, lists and objects count as absent; quantities become texts.
fn differences(path: &str, written: &Value, read: &Value) -> Vec<String> {
    match (written, read) {
        (Value::Object(fields), _) => fields
            .iter()
            .filter(|(_, value)| !is_empty(value))
            .flat_map(|(name, value)| {
                differences(&format!("{path}.{name}"), value, read.get(name).unwrap_or(&Value::Null))
            })
            .collect(),
        (Value::Array(elements), Value::Array(others)) if elements.len() == others.len() => elements
            .iter()
            .zip(others)
            .enumerate()
            .flat_map(|(index, (element, other))| differences(&format!("{path}[{index}]"), element, other))
            .collect(),
        (Value::Number(number), Value::String(text)) if path.contains(".resources.") && number.to_string() == *text => {
            Vec::new()
        }
        _ if written == read => Vec::new(),
        _ => vec![format!("{path}: {written} became {read}")],
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Every kind of ours occurs among the samples, so that none is forgotten above.
#[test]
fn the_samples_cover_every_kind_of_ours() {
    let decoded: Vec<_> =
        [MANUAL, SCRIPT, ACCEPTED].into_iter().flat_map(decode_all).map(|object| object.kind()).collect();
    let missing: Vec<_> = Kind::own().filter(|kind| !decoded.contains(kind)).collect();
    assert_eq!(missing, []);
}

/// What an API server refuses by its schema or rules does not crash a reader of files, who sees it without an API server.
#[test]
fn objects_that_an_api_server_refuses_are_read_or_refused_by_field() {
    for value in documents(REFUSED) {
        if let Err(error) = decode(value.clone(), Strictness::Strict) {
            assert!(error.object().is_some() && error.field().is_some(), "{value}: {error}");
        }
    }
}
