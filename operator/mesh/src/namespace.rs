//! Namespaces: which are in the mesh, and which are permissive whatever the mesh is.

use k8s_openapi::api::core::v1::Namespace;
use osm_api::NamespaceReason;
use osm_model::ObjectId;

use crate::parsed::{Parsed, Report};

/// Namespace label that puts a namespace into the mesh named by its value.
pub const MONITORED_BY_LABEL: &str = "openservicemesh.io/monitored-by";
/// Namespace label that keeps a namespace out of the mesh, whatever its value.
pub const IGNORE_LABEL: &str = "openservicemesh.io/ignore";
/// Namespace annotation that overrides the mesh-wide permissive mode for the services of the namespace.
pub const PERMISSIVE_ANNOTATION: &str = "openservicemesh.io/permissive";

/// Who may call the services of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessMode {
    /// As MeshConfig `spec.traffic.enablePermissiveTrafficPolicyMode` says.
    MeshDefault,
    /// Every workload of the mesh.
    Permissive,
    /// Only whom a TrafficTarget names.
    ByPolicy,
}

/// What the mesh needs to know of a Namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceFacts {
    /// Who may call its services.
    pub access: AccessMode,
}

/// Reads a Namespace; no value when it is not in the mesh called `mesh_name`.
pub fn namespace(object: &Namespace, mesh_name: &str) -> Parsed<NamespaceFacts> {
    let metadata = &object.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut report = Report::new(ObjectId::cluster_scoped("namespace", name), metadata.generation.unwrap_or_default());
    let label = |key| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    if label(MONITORED_BY_LABEL).is_none_or(|mesh| mesh != mesh_name) || label(IGNORE_LABEL).is_some() {
        return report.finish(None);
    }
    let annotation = metadata.annotations.as_ref().and_then(|annotations| annotations.get(PERMISSIVE_ANNOTATION));
    let access = match annotation.map(|value| (value, switch(value))) {
        None => AccessMode::MeshDefault,
        Some((_, Some(true))) => AccessMode::Permissive,
        Some((_, Some(false))) => AccessMode::ByPolicy,
        Some((value, None)) => {
            report.refuse(
                format!("metadata.annotations[{PERMISSIVE_ANNOTATION}]"),
                NamespaceReason::InvalidField,
                format!("{value:?} is neither on nor off, the mesh-wide mode applies"),
                "use enabled, yes or true, or disabled, no or false",
            );
            AccessMode::MeshDefault
        }
    };
    report.finish(Some(NamespaceFacts { access }))
}

/// OSM's spellings of on and off, in any case.
fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "enabled" | "yes" | "true" => Some(true),
        "disabled" | "no" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml_labels: &[(&str, &str)], annotation: Option<&str>) -> Parsed<NamespaceFacts> {
        let mut object = Namespace::default();
        object.metadata.name = Some("shop".into());
        object.metadata.labels =
            Some(yaml_labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        object.metadata.annotations =
            annotation.map(|value| [(PERMISSIVE_ANNOTATION.to_owned(), value.to_owned())].into());
        namespace(&object, "osm")
    }

    #[test]
    fn only_namespaces_labelled_for_this_mesh_are_in_it() {
        assert!(read(&[(MONITORED_BY_LABEL, "osm")], None).value.is_some());
        assert!(read(&[(MONITORED_BY_LABEL, "other")], None).value.is_none());
        assert!(read(&[], None).value.is_none());
        assert!(read(&[(MONITORED_BY_LABEL, "osm"), (IGNORE_LABEL, "false")], None).value.is_none());
    }

    #[test]
    fn the_permissive_annotation_overrides_and_a_wrong_one_is_reported() {
        let access = |value| read(&[(MONITORED_BY_LABEL, "osm")], value).value.unwrap().access;
        assert_eq!(access(None), AccessMode::MeshDefault);
        assert_eq!(access(Some("Enabled")), AccessMode::Permissive);
        assert_eq!(access(Some("no")), AccessMode::ByPolicy);
        let wrong = read(&[(MONITORED_BY_LABEL, "osm")], Some("maybe"));
        assert_eq!(wrong.value.unwrap().access, AccessMode::MeshDefault);
        assert!(wrong.findings[0].message.contains("\"maybe\""));
    }
}
