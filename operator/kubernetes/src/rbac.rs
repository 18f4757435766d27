//! The rights that the operator needs, as data: the chart's roles are generated from it.

use osm_api::{Kind, Ownership};
use serde::{Deserialize, Serialize};

/// Names that rights are limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleNames {
    /// The Lease of the operator's replicas.
    pub lease: String,
    /// ConfigMaps that the operator keeps in the namespaces of the mesh.
    pub config_maps: Vec<String>,
    /// ConfigMaps of the control-plane namespace that the operator reads.
    pub read_config_maps: Vec<String>,
    /// ConfigMaps of the control-plane namespace that the operator reads and writes.
    pub own_config_maps: Vec<String>,
    /// Secrets of the control-plane namespace that the operator reads.
    pub read_secrets: Vec<String>,
    /// Secrets of the control-plane namespace that the operator reads, and makes where there are none.
    pub own_secrets: Vec<String>,
    /// Secret of the ingress gateway, which the operator keeps.
    pub gateway_secrets: Vec<String>,
    /// MutatingWebhookConfigurations whose `caBundle` the operator keeps.
    pub mutating_webhooks: Vec<String>,
    /// ValidatingWebhookConfigurations whose `caBundle` the operator keeps.
    pub validating_webhooks: Vec<String>,
}

/// One rule of a Role or ClusterRole, in the shape of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// API groups; the empty text is the core group.
    pub api_groups: Vec<String>,
    /// Plural names of resources, with `/status` for the subresource.
    pub resources: Vec<String>,
    /// Names of objects; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// What may be done.
    pub verbs: Vec<String>,
}

/// The rules of the operator's roles, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Of the ClusterRole.
    pub cluster: Vec<PolicyRule>,
    /// Of the Role in the control-plane namespace.
    pub control_plane_namespace: Vec<PolicyRule>,
    /// Added to that Role where cert-manager signs.
    pub cert_manager: Vec<PolicyRule>,
    /// Added to the ClusterRole where cert-manager signs.
    pub cert_manager_cluster: Vec<PolicyRule>,
    /// Of the Role in the namespace of the ingress gateway's Secret.
    pub gateway_namespace: Vec<PolicyRule>,
}

/// The rights that this crate's requests need: of every kind of the list those that follow from its ownership, and the fixed rest.
///
/// Discovery, which [`missing_crds`](crate::missing_crds) uses, is open to every authenticated client.
pub fn rules(names: &RuleNames) -> Rules {
    Rules {
        cluster: cluster(names),
        control_plane_namespace: control_plane_namespace(names),
        cert_manager: vec![
            // A request is made, read until it is answered, and taken away; those of a process that died are listed first.
            rule("cert-manager.io", &["certificaterequests"], &["create", "get", "list", "delete"]),
            // Whether it is ready is told in its own words.
            rule("cert-manager.io", &["issuers"], &["get"]),
        ],
        cert_manager_cluster: vec![rule("cert-manager.io", &["clusterissuers"], &["get"])],
        gateway_namespace: gateway_namespace(names),
    }
}

fn cluster(names: &RuleNames) -> Vec<PolicyRule> {
    let mut rules = Vec::new();
    for kind in Kind::ALL {
        rules.push(rule(kind.group(), &[kind.plural()], read_verbs(*kind)));
        if kind.ownership() == Ownership::Own {
            rules.push(rule(kind.group(), &[&format!("{}/status", kind.plural())], &["patch"]));
        }
    }
    rules.extend([
        // Objects of the mesh in every namespace get events; the newer API alone is written.
        rule("events.k8s.io", &["events"], &["create", "patch"]),
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        // Another operator for the same mesh is found by its Lease, in whatever namespace.
        rule("coordination.k8s.io", &["leases"], &["list"]),
        // Every namespace of the mesh has one; they are watched by name, so that a lost one comes back.
        rule("", &["configmaps"], &["list", "watch", "create", "patch", "delete"]).named(&names.config_maps),
        webhooks("mutatingwebhookconfigurations").named(&names.mutating_webhooks),
        webhooks("validatingwebhookconfigurations").named(&names.validating_webhooks),
    ]);
    rules.retain(|rule| !rule.is_for_nothing());
    rules
}

fn webhooks(resource: &str) -> PolicyRule {
    rule("admissionregistration.k8s.io", &[resource], &["get", "list", "watch", "patch"])
}

/// ProxySnapshots are written by the operator and by nobody else; of the other kinds of ours it writes only the status.
fn read_verbs(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::ProxySnapshot => &["get", "list", "watch", "create", "patch", "delete"],
        Kind::MeshConfig
        | Kind::MeshRootCertificate
        | Kind::TrafficTarget
        | Kind::HttpRouteGroup
        | Kind::TcpRoute
        | Kind::TrafficSplit => &["get", "list", "watch"],
        Kind::Namespace | Kind::Service | Kind::EndpointSlice | Kind::Pod | Kind::ServiceAccount => &["list", "watch"],
    }
}

fn control_plane_namespace(names: &RuleNames) -> Vec<PolicyRule> {
    let lease = [names.lease.clone()];
    let mesh_config = Kind::MeshConfig;
    let mut rules = vec![
        rule("coordination.k8s.io", &["leases"], &["create"]),
        rule("coordination.k8s.io", &["leases"], &["get", "watch", "update"]).named(&lease),
        // Made once, when there is none.
        rule(mesh_config.group(), &[mesh_config.plural()], &["create"]),
        rule("", &["configmaps"], &["get"]).named(&names.read_config_maps),
        // Which roots are in force: one replica writes it, and all follow.
        rule("", &["configmaps"], &["get", "list", "watch", "create", "patch"]).named(&names.own_config_maps),
        rule("", &["secrets"], &["get"]).named(&names.read_secrets),
        // To create is not limited by names, which the API server does not know yet when it decides. What is there is never
        // changed.
        rule("", &["secrets"], &["create"]).if_any(&names.own_secrets),
        rule("", &["secrets"], &["get"]).named(&names.own_secrets),
    ];
    rules.retain(|rule| !rule.is_for_nothing());
    rules
}

fn gateway_namespace(names: &RuleNames) -> Vec<PolicyRule> {
    let mut rules = vec![
        // Not limited by names, as above.
        rule("", &["secrets"], &["create"]).if_any(&names.gateway_secrets),
        rule("", &["secrets"], &["get", "patch"]).named(&names.gateway_secrets),
    ];
    rules.retain(|rule| !rule.is_for_nothing());
    rules
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    PolicyRule {
        api_groups: vec![group.to_owned()],
        resources: texts(resources),
        resource_names: Vec::new(),
        verbs: texts(verbs),
    }
}

impl PolicyRule {
    /// Limited to these objects. With none of them the rule is for nothing and disappears: no names would mean all.
    fn named(mut self, names: &[String]) -> Self {
        self.resource_names = names.to_vec();
        if names.is_empty() {
            self.verbs.clear();
        }
        self
    }

    /// Needed only if there are such objects.
    fn if_any(mut self, names: &[String]) -> Self {
        if names.is_empty() {
            self.verbs.clear();
        }
        self
    }

    fn is_for_nothing(&self) -> bool {
        self.verbs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> RuleNames {
        RuleNames {
            lease: "osm-controller".into(),
            config_maps: vec!["osm-trust-bundle".into()],
            read_config_maps: vec!["preset-mesh-config".into()],
            own_config_maps: vec!["osm-rotation".into()],
            read_secrets: vec!["osm-vault-token".into()],
            own_secrets: vec!["osm-ca-bundle".into()],
            gateway_secrets: vec!["gateway-tls".into()],
            mutating_webhooks: vec!["osm-webhook-osm".into()],
            validating_webhooks: vec!["osm-validator-mesh-osm".into()],
        }
    }

    #[test]
    fn every_kind_is_watched_and_only_ours_are_written() {
        let rules = rules(&names());
        for kind in Kind::ALL {
            let of_kind: Vec<&PolicyRule> =
                rules.cluster.iter().filter(|rule| rule.resources == [kind.plural()]).collect();
            assert_eq!(of_kind.len(), 1, "{kind}");
            let verbs = &of_kind[0].verbs;
            assert!(verbs.contains(&"list".to_owned()) && verbs.contains(&"watch".to_owned()), "{kind}");
            let writes = verbs.iter().any(|verb| !["get", "list", "watch"].contains(&verb.as_str()));
            assert_eq!(writes, *kind == Kind::ProxySnapshot, "{kind}");
            let status = format!("{}/status", kind.plural());
            let has_status = rules.cluster.iter().any(|rule| rule.resources == [status.clone()]);
            assert_eq!(has_status, kind.ownership() == Ownership::Own, "{kind}");
        }
    }

    #[test]
    fn nothing_is_granted_by_a_wildcard_or_by_a_name_that_is_missing() {
        let all = rules(&names());
        let added = all.cert_manager.iter().chain(&all.cert_manager_cluster).chain(&all.gateway_namespace);
        for rule in all.cluster.iter().chain(&all.control_plane_namespace).chain(added) {
            for text in rule.api_groups.iter().chain(&rule.resources).chain(&rule.verbs) {
                assert!(!text.contains('*'), "{rule:?}");
            }
            assert!(!rule.verbs.is_empty() && !rule.verbs.iter().any(|verb| verb == "escalate" || verb == "bind"));
        }
        let nameless = RuleNames {
            config_maps: vec![],
            read_config_maps: vec![],
            own_config_maps: vec![],
            read_secrets: vec![],
            own_secrets: vec![],
            gateway_secrets: vec![],
            ..names()
        };
        let rules = rules(&nameless);
        let resources: Vec<_> = rules
            .cluster
            .iter()
            .chain(&rules.control_plane_namespace)
            .chain(&rules.gateway_namespace)
            .flat_map(|rule| &rule.resources)
            .collect();
        assert!(!resources.iter().any(|resource| *resource == "configmaps" || *resource == "secrets"));
    }

    #[test]
    fn a_rule_reads_as_kubernetes_writes_it() {
        let rules = rules(&names());
        let json = serde_json::to_value(&rules.control_plane_namespace[1]).unwrap();
        let expected = serde_json::json!({
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["osm-controller"],
            "verbs": ["get", "watch", "update"],
        });
        assert_eq!(json, expected);
    }
}
