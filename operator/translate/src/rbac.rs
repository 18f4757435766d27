//! Access control: who may send which request (HTTP) or open a connection (TCP).
//!
//! A policy is named by the object that grants it (`traffictarget/namespace/name`), so statistics and logs name it. A
//! request is allowed when *any* policy covers it, independently of which route matched first, so the order of grants
//! can never take one away. No policy at all admits nobody.
//!
//! HTTP ports have no connection-level filter: every request is checked, and a filter chain that changed with each grant
//! would make Envoy drain the connections of all callers. TCP ports have both a filter, which names the policy, and exact
//! certificate names in the handshake (see `listener::inbound`): Envoy's filter looks only when the caller has sent
//! something, which is too late where the server speaks first.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, permission, principal, principal::Authenticated,
};
use envoy_types::pb::google::protobuf::Any;
use osm_model::{HttpMatch, HttpRule, Identity, Origin, Principals, TcpRule, TrustDomain};

use crate::deterministic::{AllowRules, HttpRbac, HttpRbacPerRoute, NetworkRbac};
use crate::message::{any, exact};
use crate::route::permission_of;

/// Prefix of the network filter's statistics (OSM's).
const NETWORK_STAT_PREFIX: &str = "network-";

/// The HTTP filter's own configuration: nothing enforced. It applies where no route matched, so that the answer there is
/// 404 and not 403.
pub(crate) fn http_default() -> Any {
    any(&HttpRbac { rules: None })
}

/// What is enforced where a route matched.
pub(crate) fn http_rules(rules: &[HttpRule], trust_domain: &TrustDomain) -> Any {
    let mut grants: Grants<'_, BTreeSet<&HttpMatch>> = BTreeMap::new();
    for rule in rules {
        grants.entry(grantor(&rule.origins)).or_default().entry(&rule.principals).or_default().insert(&rule.matches);
    }
    let permissions = |matches: BTreeSet<&HttpMatch>| matches.into_iter().map(permission_of).collect();
    let rules = allow(grants, permissions, trust_domain);
    any(&HttpRbacPerRoute { rbac: Some(HttpRbac { rules: Some(rules) }) })
}

/// The network filter's configuration.
pub(crate) fn network_rules(rules: &[TcpRule], trust_domain: &TrustDomain) -> Any {
    let mut grants: Grants<'_, ()> = BTreeMap::new();
    for rule in rules {
        grants.entry(grantor(&rule.origins)).or_default().insert(&rule.principals, ());
    }
    let rules = allow(grants, |()| vec![Permission { rule: Some(permission::Rule::Any(true)) }], trust_domain);
    any(&NetworkRbac { rules: Some(rules), stat_prefix: NETWORK_STAT_PREFIX.to_owned() })
}

/// What each object grants (`T`), by the callers it grants it to. An object normally has one set of callers.
type Grants<'a, T> = BTreeMap<String, BTreeMap<&'a Principals, T>>;

/// The object that grants: the first origin of a rule.
fn grantor(origins: &[Origin]) -> String {
    origins.first().map(|origin| origin.object.to_string()).unwrap_or_default()
}

/// One policy per object and set of callers. A policy without callers is left out: Envoy refuses an empty list.
fn allow<T>(
    grants: Grants<'_, T>,
    permissions: impl Fn(T) -> Vec<Permission>,
    trust_domain: &TrustDomain,
) -> AllowRules {
    let mut policies = BTreeMap::new();
    for (grantor, by_callers) in grants {
        let admitting = by_callers.into_iter().filter(|(callers, _)| !callers.is_empty());
        for (index, (callers, granted)) in admitting.enumerate() {
            let name = if index == 0 { grantor.clone() } else { format!("{grantor}#{}", index + 1) };
            let principals = callers.iter().map(|caller| principal_of(caller, trust_domain)).collect();
            policies.insert(name, Policy { permissions: permissions(granted), principals, ..Default::default() });
        }
    }
    AllowRules { policies }
}

fn principal_of(identity: &Identity, trust_domain: &TrustDomain) -> Principal {
    let name = Authenticated { principal_name: Some(exact(identity.spiffe_id(trust_domain))) };
    Principal { identifier: Some(principal::Identifier::Authenticated(name)) }
}
