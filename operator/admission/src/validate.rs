//! Which objects are refused. The API server has checked them against their schema and its rules; what is left are rules
//! that need more than the object, and mistakes that only the mesh understands.
//!
//! Only what OSM refused is refused, so that a cluster can move to this mesh without editing objects. Everything else that
//! status would report is told as a warning at once, in the same words.

mod root_certificate;

use std::collections::BTreeMap;

use osm_api::{DecodeError, Object, Role, Strictness, TrafficTargetReason, decode};
use osm_model::Finding;
use serde_json::{Value, json};

use crate::config::interception;
use crate::world::{MESH_CONFIG_NAME, World};

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Kubernetes' and say it all")]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// An object that is about to be created, changed or deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectAdmission {
    /// What happens.
    pub operation: Operation,
    /// Namespace of the request.
    pub namespace: String,
    /// The object as it is to become.
    pub object: Option<Value>,
    /// The object as it was.
    pub old_object: Option<Value>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored.
    Allow {
        /// What its author should know; one line each.
        warnings: Vec<String>,
    },
    /// It is not stored.
    Deny {
        /// What is wrong, naming object, field, value and remedy.
        message: String,
    },
}

impl Verdict {
    fn silent() -> Self {
        Self::Allow { warnings: Vec::new() }
    }
}

/// How the roles of MeshRootCertificates may change, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleChange<'a> {
    /// An object of this name and role is created.
    Create(&'a str, Role),
    /// The role of the object of this name becomes this one.
    Update(&'a str, Role),
}

/// Says whether roles may change so, given those of all MeshRootCertificates by name; the error is in words. The rules are
/// those by which roots are rotated, which admission does not know.
pub type RoleRules<'a> = &'a dyn Fn(&BTreeMap<&str, Role>, RoleChange<'_>) -> Result<(), String>;

/// Decides about an object of a kind of ours.
#[must_use]
pub fn validate(review: &ObjectAdmission, world: &World, rules: RoleRules<'_>) -> Verdict {
    match review.operation {
        Operation::Create | Operation::Update => {}
        // What is wrong may always go.
        Operation::Delete | Operation::Connect => return Verdict::silent(),
    }
    let Some(object) = &review.object else { return Verdict::silent() };
    let old = review.old_object.as_ref().filter(|_| review.operation == Operation::Update);
    if old.is_some_and(|old| old.get("spec") == object.get("spec")) {
        // Labels, finalizers and the like of an object that an older version let pass.
        return Verdict::silent();
    }
    match decode(identified(object.clone(), &review.namespace), Strictness::Lenient) {
        Ok(object) => {
            let old = old.and_then(|old| decode(identified(old.clone(), &review.namespace), Strictness::Lenient).ok());
            decoded(&object, old.as_ref(), world, rules)
        }
        Err(error @ DecodeError::UnknownKind { .. }) => Verdict::Allow { warnings: vec![error.to_string()] },
        Err(error) => Verdict::Deny { message: error.to_string() },
    }
}

/// The Namespace and name that the object has once it is stored: its name may still have to be generated.
fn identified(mut object: Value, namespace: &str) -> Value {
    let Some(fields) = object.as_object_mut() else { return object };
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else { return object };
    metadata.insert("namespace".to_owned(), namespace.into());
    if metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        let prefix = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default();
        let name = format!("{prefix}*");
        metadata.insert("name".to_owned(), name.into());
    }
    object
}

fn decoded(object: &Object, old: Option<&Object>, world: &World, rules: RoleRules<'_>) -> Verdict {
    match object {
        Object::TrafficTarget(object) => {
            let denied = [TrafficTargetReason::NamespaceMismatch, TrafficTargetReason::UnsupportedRuleKind];
            verdict(&osm_mesh::traffic_target(object).findings, &denied.map(TrafficTargetReason::as_str))
        }
        Object::HttpRouteGroup(object) => verdict(&osm_mesh::http_route_group(object).findings, &[]),
        Object::TcpRoute(object) => verdict(&osm_mesh::tcp_route(object).findings, &[]),
        Object::TrafficSplit(object) => verdict(&osm_mesh::traffic_split(object).findings, &[]),
        Object::MeshConfig(object) => mesh_config(object, world),
        Object::MeshRootCertificate(object) => {
            let old = match old {
                Some(Object::MeshRootCertificate(old)) => Some(old.as_ref()),
                _ => None,
            };
            root_certificate::verdict(object, old, world, rules)
        }
        Object::ProxySnapshot(_)
        | Object::Namespace(_)
        | Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Pod(_)
        | Object::ServiceAccount(_) => Verdict::silent(),
    }
}

/// Denies for the first finding of a reason in `denied`; the others are warnings.
fn verdict(findings: &[Finding], denied: &[&str]) -> Verdict {
    match findings.iter().find(|finding| denied.contains(&finding.reason)) {
        Some(finding) => Verdict::Deny { message: format!("{}: {}", finding.object, sentence(finding)) },
        None => Verdict::Allow { warnings: findings.iter().map(sentence).collect() },
    }
}

/// A finding as `render` shows it, in one line.
fn sentence(finding: &Finding) -> String {
    format!("{}: {}; {}", finding.field, finding.message, finding.remedy)
}

fn mesh_config(object: &osm_api::MeshConfig, world: &World) -> Verdict {
    let metadata = &object.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut warnings = Vec::new();
    if !world.is_mesh_config(metadata.namespace.as_deref().unwrap_or_default(), name) {
        warnings.push(format!(
            "metadata.name: {name:?} is not the MeshConfig that the mesh reads, so it has no effect; change {MESH_CONFIG_NAME} \
             in Namespace {}",
            world.control_plane_namespace()
        ));
    }
    warnings.extend(osm_mesh::mesh_config(object).findings.iter().map(sentence));
    interception(&object.spec.traffic, &mut warnings);
    Verdict::Allow { warnings }
}
