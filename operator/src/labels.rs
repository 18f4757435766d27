//! Labels of objects that the control plane makes, by which people find and remove them.

use std::collections::BTreeMap;

/// Labels of every object that is made for a mesh.
pub(crate) fn of_mesh(mesh_name: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "openservicemesh.io"),
        ("app.kubernetes.io/instance", mesh_name),
        ("app.kubernetes.io/managed-by", "osm-operator"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Selects the objects that were made for a mesh.
pub(crate) fn selector_of_mesh(mesh_name: &str) -> String {
    let labels: Vec<String> = of_mesh(mesh_name).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}
