//! Stage 4: whether what policies name exists. Nothing else depends on it: a name that nobody has grants nothing.

use osm_api::{Kind, ObjectRef, TrafficSplitReason, TrafficTargetReason};
use osm_mesh::Report;
use osm_model::Identity;

use crate::program::{MeshReader, mesh_service, report};
use crate::services::is_meshed;
use crate::value::Value;
use crate::{Item, Key};

/// Reports identities of a TrafficTarget that no workload has.
pub(crate) fn grant_references(target: &ObjectRef, reader: &mut MeshReader<'_>) -> Option<Value> {
    let Value::Target(facts) = reader.get(&Key::Facts(target.clone()))? else { return None };
    if !is_meshed(&facts.destination.namespace, reader) {
        return None;
    }
    let mut findings = Report::new(facts.origin.object.clone(), facts.origin.generation);
    let named = [("spec.destination", &facts.destination)].into_iter();
    for (field, identity) in named.chain(facts.sources.iter().map(|source| ("spec.sources", source))) {
        if !exists(identity, reader) {
            findings.dangling(
                field,
                TrafficTargetReason::ServiceAccountNotFound,
                format!("there is no ServiceAccount {identity} in the mesh"),
                "create it in a namespace of the mesh, or correct the name",
            );
        }
    }
    report(findings.into_findings(), reader);
    Some(Value::Present)
}

fn exists(identity: &Identity, reader: &mut MeshReader<'_>) -> bool {
    reader.get_item(&Key::Workloads, &Item::Identity(identity.clone())).is_some()
}

/// Reports a TrafficSplit whose apex Service is not in the mesh.
pub(crate) fn split_references(split: &ObjectRef, reader: &mut MeshReader<'_>) -> Option<Value> {
    let Value::Split(facts) = reader.get(&Key::Facts(split.clone()))? else { return None };
    let mut findings = Report::new(facts.origin.object.clone(), facts.origin.generation);
    if !is_meshed(&facts.apex.namespace, reader) {
        let message = format!("the namespace {} is not in the mesh, the object has no effect", facts.apex.namespace);
        let remedy = "label the namespace openservicemesh.io/monitored-by with the name of the mesh";
        findings.warn("metadata.namespace", TrafficSplitReason::NamespaceNotInMesh, message, remedy);
    } else if mesh_service(&facts.apex, reader).is_none() {
        findings.dangling(
            "spec.service",
            TrafficSplitReason::ServiceNotFound,
            format!("there is no usable {} {}, the split has no effect", Kind::Service.as_str(), facts.apex),
            "create the Service, or correct the name",
        );
    }
    report(findings.into_findings(), reader);
    Some(Value::Present)
}
