//! What each field of MeshConfig does, and the warnings for those that do nothing.

use osm_api::{MeshConfigReason, MeshConfigSpec};

use crate::parsed::Report;

/// What a field of MeshConfig does.
#[derive(Debug, Clone, Copy)]
pub enum SettingEffect {
    /// It changes what running proxies are served.
    Proxies,
    /// It changes what the running control plane does: its logs, its limits, the certificates that it issues from then on.
    ControlPlane,
    /// It changes pods that are made from then on; those of before are named in the status.
    NewPods,
    /// It changes nothing, and whoever asks for something by it is told.
    Nothing {
        /// Whether the field asks for something other than what a mesh is installed with.
        asked: fn(&MeshConfigSpec) -> bool,
        /// Why it changes nothing.
        why: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}

use SettingEffect::{ControlPlane, NewPods, Proxies};

const WITHOUT: &str = "leave the field out";

const fn nothing(asked: fn(&MeshConfigSpec) -> bool, why: &'static str) -> SettingEffect {
    SettingEffect::Nothing { asked, why, remedy: WITHOUT }
}

/// Every field of `spec`, by its path; a path stands for all that is below it.
pub const SETTING_EFFECTS: &[(&str, SettingEffect)] = &[
    ("certificate.certKeyBitSize", ControlPlane),
    ("certificate.ingressGateway", ControlPlane),
    ("certificate.serviceCertValidityDuration", ControlPlane),
    (
        "featureFlags.enableAsyncProxyServiceMapping",
        nothing(
            |spec| spec.feature_flags.enable_async_proxy_service_mapping == Some(true),
            "which services a proxy belongs to is always known from its pod",
        ),
    ),
    (
        "featureFlags.enableEgressPolicy",
        nothing(
            |spec| spec.feature_flags.enable_egress_policy == Some(false),
            "there is no switch for Egress policies",
        ),
    ),
    (
        "featureFlags.enableEnvoyActiveHealthChecks",
        nothing(
            |spec| spec.feature_flags.enable_envoy_active_health_checks == Some(true),
            "proxies do not probe the proxies of services in this version; readiness of pods decides who gets requests",
        ),
    ),
    (
        "featureFlags.enableIngressBackendPolicy",
        nothing(
            |spec| spec.feature_flags.enable_ingress_backend_policy == Some(false),
            "IngressBackend policies are not read by this version, so there is nothing to switch off",
        ),
    ),
    (
        "featureFlags.enableMeshRootCertificate",
        nothing(
            |spec| spec.feature_flags.enable_mesh_root_certificate == Some(true),
            "whether MeshRootCertificates are in use does not depend on a switch; their own status says whether they are",
        ),
    ),
    (
        "featureFlags.enableMulticlusterMode",
        nothing(|spec| spec.feature_flags.enable_multicluster_mode == Some(true), "a mesh is in one cluster"),
    ),
    (
        "featureFlags.enableRetryPolicy",
        nothing(
            |spec| spec.feature_flags.enable_retry_policy == Some(true),
            "Retry policies are not read by this version",
        ),
    ),
    (
        "featureFlags.enableSnapshotCacheMode",
        nothing(
            |spec| spec.feature_flags.enable_snapshot_cache_mode == Some(true),
            "proxies are always served from snapshots",
        ),
    ),
    (
        "featureFlags.enableWASMStats",
        nothing(
            |spec| spec.feature_flags.enable_wasm_stats == Some(false),
            "there are no metrics by WebAssembly that it could switch off",
        ),
    ),
    ("observability.enableDebugServer", ControlPlane),
    ("observability.osmLogLevel", ControlPlane),
    ("observability.tracing.address", Proxies),
    ("observability.tracing.enable", Proxies),
    ("observability.tracing.endpoint", Proxies),
    ("observability.tracing.port", Proxies),
    ("sidecar.cipherSuites", Proxies),
    (
        "sidecar.configResyncInterval",
        nothing(
            |spec| spec.sidecar.config_resync_interval().value.is_some(),
            "what a proxy holds is compared by content, so sending it again would change nothing",
        ),
    ),
    ("sidecar.ecdhCurves", Proxies),
    ("sidecar.enablePrivilegedInitContainer", NewPods),
    ("sidecar.envoyImage", NewPods),
    (
        "sidecar.envoyWindowsImage",
        nothing(|spec| spec.sidecar.envoy_windows_image().is_some(), "pods on Windows cannot be in the mesh"),
    ),
    ("sidecar.initContainerImage", NewPods),
    ("sidecar.localProxyMode", Proxies),
    ("sidecar.logLevel", NewPods),
    ("sidecar.maxDataPlaneConnections", ControlPlane),
    ("sidecar.resources.limits", NewPods),
    ("sidecar.resources.requests", NewPods),
    ("sidecar.tlsMaxProtocolVersion", Proxies),
    ("sidecar.tlsMinProtocolVersion", Proxies),
    ("traffic.enableEgress", Proxies),
    ("traffic.enablePermissiveTrafficPolicyMode", Proxies),
    ("traffic.inboundExternalAuthorization.address", Proxies),
    ("traffic.inboundExternalAuthorization.enable", Proxies),
    ("traffic.inboundExternalAuthorization.failureModeAllow", Proxies),
    ("traffic.inboundExternalAuthorization.port", Proxies),
    ("traffic.inboundExternalAuthorization.statPrefix", Proxies),
    ("traffic.inboundExternalAuthorization.timeout", Proxies),
    ("traffic.inboundPortExclusionList", NewPods),
    ("traffic.networkInterfaceExclusionList", NewPods),
    ("traffic.outboundIPRangeExclusionList", NewPods),
    ("traffic.outboundIPRangeInclusionList", NewPods),
    ("traffic.outboundPortExclusionList", NewPods),
];

/// Warns of fields that ask for something and change nothing.
pub(super) fn warn_of_no_effect(spec: &MeshConfigSpec, report: &mut Report) {
    for (field, effect) in SETTING_EFFECTS {
        if let SettingEffect::Nothing { asked, why, remedy } = effect
            && asked(spec)
        {
            let message = format!("the field has no effect: {why}");
            report.warn(format!("spec.{field}"), MeshConfigReason::NoEffect, message, *remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
    use osm_api::{Kind, MeshConfig};
    use osm_model::Severity;

    use super::super::{MeshConfigFacts, mesh_config};
    use super::*;
    use crate::parsed::Parsed;

    fn read(spec: &str) -> Parsed<MeshConfigFacts> {
        let object: MeshConfig = serde_saphyr::from_str(&format!(
            "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshConfig\n\
             metadata: {{ name: osm-mesh-config, namespace: osm-system, generation: 1 }}\nspec: {{ {spec} }}\n"
        ))
        .unwrap_or_else(|error| panic!("{spec}: {error}"));
        mesh_config(&object)
    }

    fn leaves(path: &str, schema: &JSONSchemaProps, found: &mut BTreeSet<String>) {
        let Some(properties) = schema.properties.as_ref().filter(|properties| !properties.is_empty()) else {
            found.insert(path.to_owned());
            return;
        };
        for (name, property) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if SETTING_EFFECTS.iter().any(|(field, _)| *field == path) {
                found.insert(path);
            } else {
                leaves(&path, property, found);
            }
        }
    }

    #[test]
    fn every_field_of_the_schema_has_a_row_that_says_what_it_does() {
        let crd = osm_api::custom_resource_definition(Kind::MeshConfig).unwrap();
        for version in crd.spec.versions {
            let schema = version.schema.and_then(|schema| schema.open_api_v3_schema).unwrap();
            let mut fields = BTreeSet::new();
            leaves("", &schema.properties.unwrap()["spec"], &mut fields);
            let rows: BTreeSet<String> = SETTING_EFFECTS.iter().map(|(field, _)| (*field).to_owned()).collect();
            assert_eq!(rows.len(), SETTING_EFFECTS.len(), "a field has two rows");
            let unknown: Vec<_> = fields.difference(&rows).collect();
            assert!(unknown.is_empty(), "{}: say in SETTING_EFFECTS what these do: {unknown:?}", version.name);
            let gone: Vec<_> = rows.difference(&fields).collect();
            assert!(gone.is_empty(), "{}: rows without a field: {gone:?}", version.name);
        }
    }

    #[test]
    fn what_changes_proxies_changes_facts_field_by_field() {
        let authorization = |more: &str| {
            format!("traffic: {{ inboundExternalAuthorization: {{ enable: true, address: a, port: 1, {more} }} }}")
        };
        let tracing = |more: &str| format!("observability: {{ tracing: {{ enable: true, {more} }} }}");
        let sidecar = |more: &str| format!("sidecar: {{ {more} }}");
        let traffic = |more: &str| format!("traffic: {{ {more} }}");
        let pairs: BTreeMap<&str, (String, String)> = [
            ("observability.tracing.address", tracing(""), tracing("address: zipkin")),
            ("observability.tracing.enable", String::new(), tracing("")),
            ("observability.tracing.endpoint", tracing(""), tracing("endpoint: /spans")),
            ("observability.tracing.port", tracing(""), tracing("port: 40000")),
            ("sidecar.cipherSuites", String::new(), sidecar("cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]")),
            ("sidecar.ecdhCurves", String::new(), sidecar("ecdhCurves: [X25519]")),
            ("sidecar.localProxyMode", String::new(), sidecar("localProxyMode: PodIP")),
            ("sidecar.tlsMaxProtocolVersion", String::new(), sidecar("tlsMaxProtocolVersion: TLSv1_2")),
            ("sidecar.tlsMinProtocolVersion", String::new(), sidecar("tlsMinProtocolVersion: TLSv1_3")),
            ("traffic.enableEgress", traffic("enableEgress: false"), traffic("enableEgress: true")),
            (
                "traffic.enablePermissiveTrafficPolicyMode",
                traffic("enablePermissiveTrafficPolicyMode: false"),
                traffic("enablePermissiveTrafficPolicyMode: true"),
            ),
            ("traffic.inboundExternalAuthorization.address", authorization(""), {
                traffic("inboundExternalAuthorization: { enable: true, address: b, port: 1 }")
            }),
            ("traffic.inboundExternalAuthorization.enable", String::new(), authorization("")),
            (
                "traffic.inboundExternalAuthorization.failureModeAllow",
                authorization(""),
                authorization("failureModeAllow: true"),
            ),
            ("traffic.inboundExternalAuthorization.port", authorization(""), {
                traffic("inboundExternalAuthorization: { enable: true, address: a, port: 2 }")
            }),
            ("traffic.inboundExternalAuthorization.statPrefix", authorization(""), authorization("statPrefix: other")),
            ("traffic.inboundExternalAuthorization.timeout", authorization(""), authorization("timeout: 7s")),
        ]
        .into_iter()
        .map(|(field, before, after)| (field, (before, after)))
        .collect();
        let rows: Vec<&str> = SETTING_EFFECTS
            .iter()
            .filter(|(_, effect)| matches!(effect, SettingEffect::Proxies))
            .map(|(field, _)| *field)
            .collect();
        assert_eq!(pairs.keys().copied().collect::<Vec<_>>(), rows);
        for (field, (before, after)) in pairs {
            let (before, after) = (read(&before), read(&after));
            assert!(before.value.is_some() && before.value != after.value, "{field} changes nothing");
            assert_eq!(after.findings, [], "{field}");
        }
    }

    #[test]
    fn what_changes_nothing_is_named_where_it_asks_for_something() {
        let flag = |flag: &str, value: bool| format!("featureFlags: {{ {flag}: {value} }}");
        let samples: BTreeMap<&str, String> = [
            ("featureFlags.enableAsyncProxyServiceMapping", flag("enableAsyncProxyServiceMapping", true)),
            ("featureFlags.enableEgressPolicy", flag("enableEgressPolicy", false)),
            ("featureFlags.enableEnvoyActiveHealthChecks", flag("enableEnvoyActiveHealthChecks", true)),
            ("featureFlags.enableIngressBackendPolicy", flag("enableIngressBackendPolicy", false)),
            ("featureFlags.enableMeshRootCertificate", flag("enableMeshRootCertificate", true)),
            ("featureFlags.enableMulticlusterMode", flag("enableMulticlusterMode", true)),
            ("featureFlags.enableRetryPolicy", flag("enableRetryPolicy", true)),
            ("featureFlags.enableSnapshotCacheMode", flag("enableSnapshotCacheMode", true)),
            ("featureFlags.enableWASMStats", flag("enableWASMStats", false)),
            ("sidecar.configResyncInterval", "sidecar: { configResyncInterval: 10m }".to_owned()),
            ("sidecar.envoyWindowsImage", "sidecar: { envoyWindowsImage: envoy:1 }".to_owned()),
        ]
        .into_iter()
        .collect();
        let rows: Vec<&str> = SETTING_EFFECTS
            .iter()
            .filter(|(_, effect)| matches!(effect, SettingEffect::Nothing { .. }))
            .map(|(field, _)| *field)
            .collect();
        assert_eq!(samples.keys().copied().collect::<Vec<_>>(), rows);
        for (field, sample) in samples {
            let findings = read(&sample).findings;
            let [finding] = &*findings else { panic!("{field}: {findings:?}") };
            assert_eq!((&*finding.field, finding.severity), (&*format!("spec.{field}"), Severity::Warning));
            assert_eq!(finding.reason, MeshConfigReason::NoEffect.as_str());
        }
        // What a mesh is installed with asks for nothing beyond.
        let installed = "sidecar: { configResyncInterval: 0s, envoyWindowsImage: '' }, featureFlags: { enableWASMStats: true, \
                         enableEgressPolicy: true, enableIngressBackendPolicy: true, enableRetryPolicy: false, \
                         enableMulticlusterMode: false, enableMeshRootCertificate: false }";
        assert_eq!(read(installed).findings, []);
    }
}
