//! The rules of the chart's roles, from the list of what the control plane does.

use osm_kubernetes::{PolicyRule, RuleNames, rules};

use super::{Files, HEADER};
use crate::repository::Repository;

/// Names that follow from values.
struct Names {
    /// Stands for them in the rules.
    placeholder: &'static str,
    /// The template that gives them as a list in JSON.
    template: &'static str,
    /// Whether the list can be empty. No names would mean all, so the rule has to go then.
    optional: bool,
}

const NAMES: [Names; 5] = [
    Names { placeholder: "<own secrets>", template: "osm.ownSecretNames", optional: false },
    Names { placeholder: "<read secrets>", template: "osm.readSecretNames", optional: true },
    Names { placeholder: "<gateway secrets>", template: "osm.gatewaySecretNames", optional: false },
    Names { placeholder: "<mutating webhooks>", template: "osm.mutatingWebhookNames", optional: false },
    Names { placeholder: "<validating webhooks>", template: "osm.validatingWebhookNames", optional: false },
];

pub(super) fn rules_of_roles(repository: &Repository) -> Files {
    let list = |name: &str| vec![name.to_owned()];
    let rules = rules(&RuleNames {
        lease: "osm-controller".to_owned(),
        config_maps: list("osm-trust-bundle"),
        read_config_maps: list("preset-mesh-config"),
        own_config_maps: list("osm-rotation"),
        read_secrets: list("<read secrets>"),
        own_secrets: list("<own secrets>"),
        gateway_secrets: list("<gateway secrets>"),
        mutating_webhooks: list("<mutating webhooks>"),
        validating_webhooks: list("<validating webhooks>"),
    });
    let folder = repository.operator_chart().join("files/rules");
    let files = [
        ("cluster.yaml", rules.cluster),
        ("control-plane-namespace.yaml", rules.control_plane_namespace),
        ("cert-manager.yaml", rules.cert_manager),
        ("cert-manager-cluster.yaml", rules.cert_manager_cluster),
        ("ingress-gateway.yaml", rules.gateway_namespace),
    ];
    files
        .into_iter()
        .map(|(file, rules)| (folder.join(file), format!("{HEADER}{}", rules.iter().map(yaml).collect::<String>())))
        .collect()
}

/// The rule as an element of a list in YAML.
fn yaml(rule: &PolicyRule) -> String {
    let list = |texts: &[String]| serde_json::Value::from(texts).to_string().replace("\",\"", "\", \"");
    let mut text = format!("- apiGroups: {}\n  resources: {}\n", list(&rule.api_groups), list(&rule.resources));
    let names = NAMES.iter().find(|names| rule.resource_names == [names.placeholder]);
    match names {
        Some(names) => text.push_str(&format!("  resourceNames: {{{{ include \"{}\" . }}}}\n", names.template)),
        None if rule.resource_names.is_empty() => {}
        None => text.push_str(&format!("  resourceNames: {}\n", list(&rule.resource_names))),
    }
    text.push_str(&format!("  verbs: {}\n", list(&rule.verbs)));
    match names {
        Some(Names { template, optional: true, .. }) => {
            format!("{{{{- if ne (include \"{template}\" .) \"[]\" }}}}\n{text}{{{{- end }}}}\n")
        }
        _ => text,
    }
}
