//! TrafficTargets: who may call whom, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use osm_api::{TrafficTarget, TrafficTargetReason, TrafficTargetRuleKind};
use osm_model::{Finding, HttpRule, Identity, Origin};

use crate::http_route_group::RouteGroupFacts;
use crate::parsed::{Parsed, Report};
use crate::tcp_route::{TcpPorts, TcpRouteFacts};

/// A TrafficTarget read on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFacts {
    /// The object and its generation.
    pub origin: Origin,
    /// Who is called.
    pub destination: Identity,
    /// Who may call. Empty admits nobody.
    pub sources: BTreeSet<Identity>,
    /// `spec.rules`, with their index.
    pub rules: Vec<(usize, RuleReference)>,
}

/// What a rule of a TrafficTarget refers to, in the TrafficTarget's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleReference {
    /// An HTTPRouteGroup; no match names means all its matches (SMI's rule, which OSM did not follow).
    Http {
        /// The group's name.
        name: Arc<str>,
        /// Names of its matches.
        matches: Vec<Arc<str>>,
    },
    /// A TCPRoute.
    Tcp {
        /// The route's name.
        name: Arc<str>,
    },
}

/// What a TrafficTarget grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The TrafficTarget.
    pub origin: Origin,
    /// Who is called.
    pub destination: Identity,
    /// Who may call.
    pub sources: BTreeSet<Identity>,
    /// Requests to HTTP ports.
    pub http: Vec<HttpRule>,
    /// Connections to TCP ports; absent rules open none.
    pub tcp: Vec<TcpGrant>,
}

/// Connections that a TrafficTarget allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpGrant {
    /// To these ports of the pods.
    pub ports: TcpPorts,
    /// The TrafficTarget and the TCPRoute.
    pub origins: Vec<Origin>,
}

/// Reads a TrafficTarget. A bad source costs only itself; a bad destination, or a rule of a kind that cannot be honoured,
/// costs the object (a grant must never be wider than what was written).
pub fn traffic_target(object: &TrafficTarget) -> Parsed<TargetFacts> {
    let mut report = Report::of(object);
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let spec = &object.spec;
    let destination_namespace = spec.destination.namespace.as_deref().unwrap_or(namespace);
    if destination_namespace != namespace {
        report.refuse(
            "spec.destination.namespace",
            TrafficTargetReason::NamespaceMismatch,
            format!("{destination_namespace:?} is not the namespace of the object, {namespace:?}"),
            "create the TrafficTarget in the namespace of its destination",
        );
        return report.finish(None);
    }
    let destination =
        identity("spec.destination", &spec.destination.kind, namespace, &spec.destination.name, &mut report);
    let mut sources = BTreeSet::new();
    for (index, source) in spec.sources.iter().enumerate() {
        let source_namespace = source.namespace.as_deref().unwrap_or(namespace);
        let field = format!("spec.sources[{index}]");
        sources.extend(identity(&field, &source.kind, source_namespace, &source.name, &mut report));
    }
    if sources.is_empty() {
        report.warn(
            "spec.sources",
            TrafficTargetReason::NoSources,
            "no source is named, so nobody is admitted",
            "name who may call",
        );
    }
    let rules = rules(object, &mut report);
    let value = destination.zip(rules).map(|(destination, rules)| {
        let origin = report.origin("spec");
        TargetFacts { origin, destination, sources, rules }
    });
    report.finish(value)
}

fn identity(field: &str, kind: &str, namespace: &str, name: &str, report: &mut Report) -> Option<Identity> {
    if kind != "ServiceAccount" {
        let message = format!("{kind:?} is not a kind of identity the mesh knows");
        report.refuse(
            format!("{field}.kind"),
            TrafficTargetReason::UnsupportedIdentityKind,
            message,
            "use ServiceAccount",
        );
        return None;
    }
    match Identity::new(namespace, name) {
        Ok(identity) => Some(identity),
        Err(error) => {
            report.refuse(
                format!("{field}.name"),
                TrafficTargetReason::InvalidField,
                error.to_string(),
                "name an existing ServiceAccount",
            );
            None
        }
    }
}

fn rules(object: &TrafficTarget, report: &mut Report) -> Option<Vec<(usize, RuleReference)>> {
    let written = &object.spec.rules;
    if written.is_empty() {
        report.refuse(
            "spec.rules",
            TrafficTargetReason::NoRules,
            "no rule is given, so nothing is allowed",
            "refer to a route object",
        );
        return None;
    }
    let mut rules = Vec::new();
    for (index, rule) in written.iter().enumerate() {
        let name: Arc<str> = rule.name.as_str().into();
        let reference = match rule.kind {
            TrafficTargetRuleKind::HttpRouteGroup => {
                let matches = rule.matches.iter().map(|name| name.as_str().into()).collect();
                RuleReference::Http { name, matches }
            }
            TrafficTargetRuleKind::TcpRoute => RuleReference::Tcp { name },
            TrafficTargetRuleKind::UdpRoute => {
                report.refuse(
                    format!("spec.rules[{index}].kind"),
                    TrafficTargetReason::UnsupportedRuleKind,
                    "UDPRoute is not a kind of rule the mesh can enforce, the whole object is refused",
                    "use HTTPRouteGroup or TCPRoute",
                );
                return None;
            }
        };
        rules.push((index, reference));
    }
    Some(rules)
}

/// Looks up what a TrafficTarget refers to. A rule that refers to nothing grants nothing and is reported.
///
/// `route_groups` and `tcp_routes` hold those of the TrafficTarget's namespace that its rules name and that exist.
pub fn grant(
    facts: &TargetFacts,
    route_groups: &BTreeMap<Arc<str>, Arc<RouteGroupFacts>>,
    tcp_routes: &BTreeMap<Arc<str>, Arc<TcpRouteFacts>>,
) -> (Grant, Vec<Finding>) {
    let mut report = Report::new(facts.origin.object.clone(), facts.origin.generation);
    let mut http = Vec::new();
    let mut tcp = Vec::new();
    for (index, rule) in &facts.rules {
        let field = format!("spec.rules[{index}]");
        let origin = report.origin(field.as_str());
        match rule {
            RuleReference::Http { name, matches } => match route_groups.get(name) {
                Some(group) => http.extend(http_rules(facts, &field, &origin, group, matches, &mut report)),
                None => missing(&field, "HTTPRouteGroup", name, &mut report),
            },
            RuleReference::Tcp { name } => match tcp_routes.get(name) {
                Some(route) => {
                    let origins = vec![origin, route.origin.clone()];
                    tcp.push(TcpGrant { ports: route.ports.clone(), origins });
                }
                None => missing(&field, "TCPRoute", name, &mut report),
            },
        }
    }
    let (origin, destination, sources) = (facts.origin.clone(), facts.destination.clone(), facts.sources.clone());
    (Grant { origin, destination, sources, http, tcp }, report.into_findings())
}

fn http_rules(
    facts: &TargetFacts,
    field: &str,
    origin: &Origin,
    group: &RouteGroupFacts,
    names: &[Arc<str>],
    report: &mut Report,
) -> Vec<HttpRule> {
    for (position, name) in names.iter().enumerate() {
        if !group.matches.iter().any(|entry| entry.name == *name) {
            report.dangling(
                format!("{field}.matches[{position}]"),
                TrafficTargetReason::MatchNotFound,
                format!("{} has no usable match {name:?}", group.origin.object),
                "name a match of the HTTPRouteGroup, or leave matches out for all of them",
            );
        }
    }
    let chosen = group.matches.iter().filter(|entry| names.is_empty() || names.contains(&entry.name));
    chosen
        .map(|entry| HttpRule {
            matches: entry.matches.clone(),
            route: format!("{}/{}", group.origin.object, entry.name).into(),
            principals: facts.sources.clone(),
            origins: vec![origin.clone(), Origin { field: entry.field.clone(), ..group.origin.clone() }],
        })
        .collect()
}

fn missing(field: &str, kind: &str, name: &str, report: &mut Report) {
    report.dangling(
        format!("{field}.name"),
        TrafficTargetReason::RouteNotFound,
        format!("there is no usable {kind} {name:?} in the namespace"),
        "create it, or correct the name",
    );
}
