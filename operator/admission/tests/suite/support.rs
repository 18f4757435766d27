//! What the tests of injection share.

use std::path::Path;

use osm_admission::{
    InjectorConfig, InjectorDefaults, Membership, NamespaceSettings, PodAdmission, PullPolicy, Switch,
};
use osm_api::k8s_openapi::api::core::v1::Namespace;
use osm_api::{MeshConfig, Object, ResourceRequirements, Strictness, decode};
use serde_json::{Value, json};

/// The uid of every request.
pub(crate) const UID: &str = "0b32dc8f-5b3d-4c1e-9d39-6f3c1c1f0a11";

/// One example.
pub(crate) struct Case {
    pub(crate) review: PodAdmission,
    pub(crate) namespace: NamespaceSettings,
    pub(crate) config: InjectorConfig,
}

impl Case {
    /// Reads documents of kinds Namespace, MeshConfig (optional) and Pod.
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let documents: Vec<Value> = text
            .split("\n---\n")
            .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
            .collect();
        let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).cloned();
        let namespace: Namespace = serde_json::from_value(of_kind("Namespace").expect("a Namespace")).unwrap();
        let mesh_config = of_kind("MeshConfig").map(|value| match decode(value, Strictness::Strict).unwrap() {
            Object::MeshConfig(config) => config,
            other => panic!("{other:?}"),
        });
        let name = namespace.metadata.name.clone().unwrap();
        Self {
            review: PodAdmission { uid: UID.to_owned(), namespace: name, pod: of_kind("Pod").expect("a Pod") },
            namespace: NamespaceSettings::read(&namespace.metadata, "osm"),
            config: config(mesh_config.as_deref()),
        }
    }
}

/// The configuration that a MeshConfig gives with images and resources of an installation.
pub(crate) fn config(mesh_config: Option<&MeshConfig>) -> InjectorConfig {
    let quantities = |value: Value| serde_json::from_value::<ResourceRequirements>(value).unwrap();
    let defaults = InjectorDefaults {
        control_plane_namespace: "osm-system".into(),
        trust_domain: osm_model::TrustDomain::new("cluster.local").unwrap(),
        cluster_domain: "cluster.local".into(),
        envoy_image: "mesh.example/envoy:1.40.0".to_owned(),
        init_image: "mesh.example/osm-operator:test".to_owned(),
        health_check_image: "mesh.example/osm-operator:test".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        init_resources: quantities(json!({ "requests": { "cpu": "10m", "memory": "32Mi" } })),
        health_check_resources: quantities(json!({ "requests": { "cpu": "5m", "memory": "16Mi" } })),
    };
    InjectorConfig::new(defaults, mesh_config)
}

/// The Pod after the patch, as the API server makes it.
pub(crate) fn apply(pod: &Value, patch: &json_patch::Patch) -> Value {
    let mut result = pod.clone();
    json_patch::patch(&mut result, patch).expect("the patch fits the Pod");
    result
}

/// A Namespace of the mesh in which Pods are injected.
pub(crate) fn enabled_namespace() -> NamespaceSettings {
    NamespaceSettings { membership: Membership::Member, injection: Switch::On, metrics: Switch::Unset }
}
