//! MeshRootCertificates: OSM's rules, most of which concern all of them together.

use std::collections::BTreeMap;

use osm_api::{MeshRootCertificate, MeshRootCertificateSpec, Role};
use serde_json::Value;

use super::{RoleChange, RoleRules, Verdict};
use crate::world::World;

pub(super) fn verdict(
    object: &MeshRootCertificate,
    old: Option<&MeshRootCertificate>,
    world: &World,
    rules: RoleRules<'_>,
) -> Verdict {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let deny =
        |problem: String| Verdict::Deny { message: format!("meshrootcertificate/{namespace}/{name}: {problem}") };
    if let Err(problem) = alone(&object.spec) {
        return deny(problem);
    }
    if namespace != world.control_plane_namespace() {
        let warning = format!(
            "metadata.namespace: the mesh reads MeshRootCertificates of Namespace {} alone, so this one has no effect",
            world.control_plane_namespace()
        );
        return Verdict::Allow { warnings: vec![warning] };
    }
    if let Some(changed) = old.and_then(|old| immutable(&object.spec, &old.spec)) {
        return deny(format!("spec.{changed} cannot be changed; create another MeshRootCertificate and rotate to it"));
    }
    let role = object.spec.role();
    let mut roles: BTreeMap<&str, Role> =
        world.root_certificates().map(|(name, object)| (name, object.spec.role())).collect();
    let change = match old {
        Some(old) => {
            // What the API server has is newer than what was watched.
            roles.insert(name, old.spec.role());
            RoleChange::Update(name, role)
        }
        None => {
            roles.remove(name);
            RoleChange::Create(name, role)
        }
    };
    match rules(&roles, change) {
        Ok(()) => Verdict::silent(),
        Err(problem) => deny(problem),
    }
}

/// What is wrong with an object on its own.
fn alone(spec: &MeshRootCertificateSpec) -> Result<(), String> {
    if spec.trust_domain.as_deref() == Some("") {
        return Err(
            "spec.trustDomain is empty; write a domain such as cluster.local, or leave the field out".to_owned()
        );
    }
    spec.provider.provider().map_err(|error| error.to_string())?;
    let provider = serde_json::to_value(&spec.provider).map_err(|error| format!("spec.provider: {error}"))?;
    empty_text("spec.provider", &provider)
        .map_or(Ok(()), |field| Err(format!("{field} is empty; name what the provider is to use")))
}

/// Path of the first text in `value` that is empty: a reference to nothing.
fn empty_text(path: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.is_empty().then(|| path.to_owned()),
        Value::Object(fields) => fields.iter().find_map(|(field, value)| empty_text(&format!("{path}.{field}"), value)),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The field that changed although it cannot.
fn immutable(new: &MeshRootCertificateSpec, old: &MeshRootCertificateSpec) -> Option<&'static str> {
    let changed = [
        ("trustDomain", new.trust_domain() != old.trust_domain()),
        ("spiffeEnabled", new.spiffe_enabled() != old.spiffe_enabled()),
        ("provider", new.provider != old.provider),
    ];
    changed.into_iter().find(|(_, changed)| *changed).map(|(field, _)| field)
}
