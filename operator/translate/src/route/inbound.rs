//! Inbound: which requests a workload's port knows, and who may send them.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteConfiguration, VirtualHost, route_action::ClusterSpecifier,
};
use osm_model::{HttpMatch, HttpRule, InboundPolicy, InboundPort, MeshSettings};

use super::matching::{any_request, route_match_of};
use super::{forward, table};
use crate::{filters, naming, rbac};

/// The table of an HTTP port. Every route leads to `local_cluster`; routes decide between 404 (no rule of anybody matches)
/// and the access control of the virtual host, which then answers 403 where no rule that covers the request names the
/// caller. One route per rule, named by it, so that logs and statistics name the object.
pub(crate) fn inbound_route_table(
    port: &InboundPort,
    rules: InboundRules<'_>,
    local_cluster: &str,
    settings: &MeshSettings,
) -> RouteConfiguration {
    let to_application = || ClusterSpecifier::Cluster(local_cluster.to_owned());
    let mut host = VirtualHost { name: "inbound_virtual-host".to_owned(), ..Default::default() };
    match rules {
        InboundRules::Any => host.routes = vec![forward("permissive", any_request(), to_application())],
        InboundRules::Only(rules) => {
            host.routes = distinct(rules)
                .into_iter()
                .map(|(matches, route)| -> Route { forward(route, route_match_of(matches), to_application()) })
                .collect();
            let rules = rbac::http_rules(rules, &settings.trust_domain);
            host.typed_per_filter_config = [(filters::RBAC.to_owned(), rules)].into();
        }
    }
    table(naming::inbound_route_table(port.target_port), host)
}

/// What an HTTP port accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InboundRules<'a> {
    /// Every request of every workload.
    Any,
    /// What a rule allows.
    Only(&'a [HttpRule]),
}

impl<'a> InboundRules<'a> {
    /// The HTTP rules of `policy`. A policy about connections grants no request.
    pub(crate) fn of(policy: &'a InboundPolicy) -> Self {
        match policy {
            InboundPolicy::Permissive => Self::Any,
            InboundPolicy::Http(rules) => Self::Only(rules),
            InboundPolicy::Tcp(_) => Self::Only(&[]),
        }
    }
}

/// The routes of `rules` in the total order of matches, each once: several grants may name the same one.
fn distinct(rules: &[HttpRule]) -> BTreeSet<(&HttpMatch, &str)> {
    rules.iter().map(|rule| (&rule.matches, &*rule.route)).collect()
}
