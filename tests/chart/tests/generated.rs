//! What is generated is up to date, and both ways of installing give the same objects.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use osm_chart_tests::{Helm, ObjectName, Repository, generate, objects};
use osm_cluster::{KubernetesVersion, Tool};
use serde_json::Value;

#[test]
fn generated_files_are_up_to_date() {
    let repository = Repository::this();
    generate::check(&generate::parts_of_charts(&repository).unwrap()).unwrap();
    generate::check(&generate::manifests(&repository, &Helm::prepare().unwrap()).unwrap()).unwrap();
}

#[test]
fn a_stale_a_missing_and_a_left_over_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let content = format!("{}a: 1\n", generate::HEADER);
    let files: generate::Files = [(path("one.yaml"), content.clone()), (path("two.yaml"), content.clone())].into();
    generate::write(&files).unwrap();
    generate::check(&files).unwrap();
    fs::write(path("one.yaml"), "a: 2\n").unwrap();
    fs::remove_file(path("two.yaml")).unwrap();
    fs::write(path("three.yaml"), &content).unwrap();
    fs::write(path("by-hand.yaml"), "a: 3\n").unwrap();
    let error = generate::check(&files).unwrap_err().to_string();
    for words in ["one.yaml differs", "two.yaml is missing", "three.yaml is not generated any more"] {
        assert!(error.contains(words), "{error}");
    }
    assert!(!error.contains("by-hand"), "{error}");
    generate::write(&files).unwrap();
    generate::check(&files).unwrap();
    assert!(path("by-hand.yaml").exists() && !path("three.yaml").exists());
}

/// Objects by name, without the label and the annotation that only an installation by helm has.
fn by_name(text: &str) -> BTreeMap<ObjectName, Value> {
    let mut found = BTreeMap::new();
    for mut object in objects(text).unwrap() {
        for path in ["/metadata/labels", "/spec/template/metadata/labels"] {
            if let Some(labels) = object.pointer_mut(path).and_then(Value::as_object_mut) {
                labels.remove("app.kubernetes.io/managed-by");
            }
        }
        assert!(found.insert(ObjectName::of(&object), object).is_none(), "an object is there twice");
    }
    found
}

#[test]
fn kustomize_and_helm_install_the_same_objects() {
    let repository = Repository::this();
    let kubernetes = Tool::Kubernetes(KubernetesVersion::NEWEST).prepare().unwrap();
    let kustomized = Command::new(kubernetes.folder().join("kubectl"))
        .args(["kustomize", repository.config("default").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(kustomized.status.success(), "{}", String::from_utf8_lossy(&kustomized.stderr));
    let mut kustomized = by_name(&String::from_utf8(kustomized.stdout).unwrap());

    let helm = Helm::prepare().unwrap();
    let operator = by_name(&helm.template(&repository.operator_chart(), &[]).unwrap());
    let crds = by_name(&helm.template(&repository.crds_chart(), &[]).unwrap());

    // Helm makes the namespace itself.
    let namespaces: Vec<_> = kustomized.keys().filter(|name| name.kind == "Namespace").cloned().collect();
    assert_eq!(namespaces.iter().map(|name| name.name.as_str()).collect::<Vec<_>>(), ["osm-system"]);
    let namespace = kustomized.remove(&namespaces[0]).unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");

    let specs = |objects: &BTreeMap<ObjectName, Value>| -> BTreeMap<ObjectName, Value> {
        objects.iter().map(|(name, object)| (name.clone(), object["spec"].clone())).collect()
    };
    let crds_of_kustomize: BTreeMap<_, _> =
        kustomized.extract_if(.., |name, _| name.kind == "CustomResourceDefinition").collect();
    assert_eq!(specs(&crds_of_kustomize), specs(&crds));
    assert_eq!(kustomized, operator);
}
