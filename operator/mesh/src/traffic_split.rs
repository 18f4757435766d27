//! TrafficSplits: how an apex Service's traffic is shared out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use osm_api::{TrafficSplit, TrafficSplitReason};
use osm_model::{Backend, Finding, HttpMatch, MeshService, Origin, ServiceId, SplitRule, TrafficRouting};

use crate::http_route_group::RouteGroupFacts;
use crate::parsed::{Parsed, Report};

/// A TrafficSplit read on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFacts {
    /// The object and its generation.
    pub origin: Origin,
    /// Seconds since the epoch at which it was created; 0 if unknown. The oldest split of an apex counts.
    pub created: i64,
    /// The Service whose traffic is split.
    pub apex: ServiceId,
    /// `spec.backends`, with their index. Weights sum to more than 0.
    pub backends: Vec<(usize, ServiceId, u32)>,
    /// HTTPRouteGroups that narrow it (v1alpha4), with their index; none means all traffic.
    pub matches: Vec<(usize, Arc<str>)>,
}

/// Reads a TrafficSplit. A bad backend costs only itself; the object has no effect if no weight is left.
pub fn traffic_split(object: &TrafficSplit) -> Parsed<SplitFacts> {
    let mut report = Report::of(object);
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let apex = service("spec.service", namespace, &object.spec.service, &mut report);
    let mut backends: Vec<(usize, ServiceId, u32)> = Vec::new();
    for (index, backend) in object.spec.backends.iter().enumerate() {
        let field = format!("spec.backends[{index}]");
        let Some(id) = service(&format!("{field}.service"), namespace, &backend.service, &mut report) else { continue };
        if backends.iter().any(|(_, known, _)| *known == id) {
            let message = format!("{id} is named by an earlier backend, this entry is left out");
            report.refuse(
                format!("{field}.service"),
                TrafficSplitReason::DuplicateBackend,
                message,
                "name each backend once",
            );
            continue;
        }
        match backend.weight(index) {
            Ok(weight) => backends.push((index, id, weight)),
            Err(complaint) => report.complain(TrafficSplitReason::InvalidWeight, complaint),
        }
    }
    if backends.iter().all(|(_, _, weight)| *weight == 0) {
        report.refuse(
            "spec.backends",
            TrafficSplitReason::NoWeight,
            "the weights of the usable backends sum to 0, the split has no effect",
            "give at least one backend a weight above 0",
        );
        return report.finish(None);
    }
    let matches = object.spec.matches.iter().map(|reference| reference.name.as_str().into()).enumerate().collect();
    let created = object.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    let value = apex.map(|apex| SplitFacts { origin: report.origin("spec"), created, apex, backends, matches });
    report.finish(value)
}

/// A Service named as `svc`, `svc.ns` or longer; the namespace must be the object's.
fn service(field: &str, namespace: &str, text: &str, report: &mut Report) -> Option<ServiceId> {
    let mut labels = text.trim_end_matches('.').split('.');
    let name = labels.next().unwrap_or_default();
    let named = labels.next().unwrap_or(namespace);
    if named != namespace || labels.next().is_some_and(|label| label != "svc") {
        report.refuse(
            field,
            TrafficSplitReason::NamespaceMismatch,
            format!("{text:?} is not a Service of the object's namespace, {namespace:?}"),
            "name a Service of the same namespace, as svc, svc.ns or its full name",
        );
        return None;
    }
    match ServiceId::new(namespace, name) {
        Ok(id) => Some(id),
        Err(error) => {
            report.refuse(field, TrafficSplitReason::InvalidField, error.to_string(), "name an existing Service");
            None
        }
    }
}

/// What a split refers to, as far as it exists.
#[derive(Debug, Default)]
pub struct SplitReferences<'a> {
    /// Backend Services.
    pub services: BTreeMap<ServiceId, &'a MeshService>,
    /// HTTPRouteGroups by name.
    pub route_groups: BTreeMap<Arc<str>, &'a RouteGroupFacts>,
    /// The splits of backends that are themselves split, and of their backends, and so on.
    pub other_splits: BTreeMap<ServiceId, &'a SplitFacts>,
}

/// The routing of each port of the split's apex, by port number; ports not listed serve the apex's own endpoints.
///
/// A backend that is missing, or lacks the port, is left out and reported: its share goes to the others. Splits of backends
/// are not followed, and reported.
pub fn routing(
    facts: &SplitFacts,
    apex: &MeshService,
    references: &SplitReferences<'_>,
) -> (BTreeMap<u16, TrafficRouting>, Vec<Finding>) {
    let mut report = Report::new(facts.origin.object.clone(), facts.origin.generation);
    let Some(matches) = split_matches(facts, references, &mut report) else {
        return (BTreeMap::new(), report.into_findings());
    };
    let mut services = Vec::new();
    for (index, id, weight) in &facts.backends {
        report_chain(facts, *index, id, references, &mut report);
        match references.services.get(id) {
            Some(service) => services.push((*index, service, *weight)),
            None => report.dangling(
                format!("spec.backends[{index}].service"),
                TrafficSplitReason::BackendNotFound,
                format!("there is no Service {id} in the mesh, its share goes to the other backends"),
                "create the Service, or correct the name",
            ),
        }
    }
    let mut routes = BTreeMap::new();
    for port in &apex.ports {
        let mut backends = Vec::new();
        for (index, service, weight) in &services {
            match service.ports.iter().find(|candidate| candidate.port == port.port) {
                Some(found) => {
                    let (service, port) = (service.id.clone(), found.clone());
                    backends.push(Backend { service, port, weight: *weight });
                }
                None => report.dangling(
                    format!("spec.backends[{index}].service"),
                    TrafficSplitReason::PortMismatch,
                    format!("{} has no port {}, which {} has", service.id, port.port, apex.id),
                    "give the backend the port of the apex Service",
                ),
            }
        }
        if backends.iter().any(|backend| backend.weight > 0) {
            let rule = SplitRule { matches: matches.clone(), backends, origin: facts.origin.clone() };
            routes.insert(port.port, TrafficRouting::Split([rule].into()));
        }
    }
    if routes.is_empty() {
        let message = "no backend can take traffic, the apex Service serves its own";
        report.dangling(
            "spec.backends",
            TrafficSplitReason::NoBackends,
            message,
            "name backends that exist and share a port",
        );
    }
    (routes, report.into_findings())
}

/// The requests the split applies to, ordered; `None` when it was narrowed to nothing usable, which must not widen it to
/// everything.
fn split_matches(facts: &SplitFacts, references: &SplitReferences<'_>, report: &mut Report) -> Option<Vec<HttpMatch>> {
    let mut matches = BTreeSet::new();
    for (index, name) in &facts.matches {
        match references.route_groups.get(name) {
            Some(group) => matches.extend(group.matches.iter().map(|entry| entry.matches.clone())),
            None => report.dangling(
                format!("spec.matches[{index}].name"),
                TrafficSplitReason::RouteNotFound,
                format!("there is no usable HTTPRouteGroup {name:?} in the namespace"),
                "create it, or correct the name",
            ),
        }
    }
    (!matches.is_empty() || facts.matches.is_empty()).then(|| matches.into_iter().collect())
}

fn report_chain(
    facts: &SplitFacts,
    index: usize,
    backend: &ServiceId,
    references: &SplitReferences<'_>,
    report: &mut Report,
) {
    if *backend == facts.apex {
        return;
    }
    let Some(next) = references.other_splits.get(backend) else { return };
    let mut seen = BTreeSet::from([backend.clone()]);
    let mut open: Vec<ServiceId> = next.backends.iter().map(|(_, id, _)| id.clone()).collect();
    let mut cycle = false;
    while let Some(id) = open.pop() {
        cycle |= id == facts.apex;
        if id != facts.apex && seen.insert(id.clone()) {
            let next = references.other_splits.get(&id);
            open.extend(next.into_iter().flat_map(|split| split.backends.iter().map(|(_, id, _)| id.clone())));
        }
    }
    let field = format!("spec.backends[{index}].service");
    let remedy = "split the traffic of one apex Service among Services that are not split themselves";
    if cycle {
        let message = format!("{backend} is split by {}, which leads back to {}", next.origin.object, facts.apex);
        report.warn(
            field,
            TrafficSplitReason::Cycle,
            format!("{message}; splits of backends are not followed"),
            remedy,
        );
    } else {
        let message = format!("{backend} is split by {}; splits of backends are not followed", next.origin.object);
        report.warn(field, TrafficSplitReason::BackendIsDivided, message, remedy);
    }
}
