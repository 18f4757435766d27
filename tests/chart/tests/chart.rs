//! The charts as helm renders them.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use osm_api::{MeshConfig, Object, Strictness, decode};
use osm_chart_tests::{Helm, ObjectName, Repository, documented, objects, retired};
use serde_json::{Value, json};

fn operator(arguments: &[&str]) -> Vec<Value> {
    objects(&Helm::prepare().unwrap().template(&Repository::this().operator_chart(), arguments).unwrap()).unwrap()
}

fn crds(arguments: &[&str]) -> Vec<Value> {
    objects(&Helm::prepare().unwrap().template(&Repository::this().crds_chart(), arguments).unwrap()).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// Every switch that makes an object, on.
const EVERYTHING: [&str; 16] = [
    "--set=osm.osmController.autoScale.enable=true",
    "--set=osm.networkPolicy.egress.enabled=true",
    "--set=osm.networkPolicy.adminFrom[0].namespaceSelector.matchLabels.a=b",
    "--set=osm.certificateProvider.kind=vault",
    "--set=osm.vault.host=vault.example",
    "--set=osm.vault.token=secret-token",
    "--set=osm.osmController.otlpEndpoint=http://collector:4317",
    "--set=osm.osmController.env[0].name=HTTPS_PROXY",
    "--set=osm.osmController.env[0].value=http://proxy:3128",
    "--set=osm.osmController.authoritiesConfigMapName=authorities",
    "--set=osm.imagePullSecrets[0].name=pull",
    "--set=osm.ingressGateway.subjectAltNames={gateway.example}",
    "--set=osm.ingressGateway.secret.name=gateway-tls",
    "--set=osm.ingressGateway.secret.namespace=ingress",
    "--set=osm.osmController.podLabels.team=mesh",
    "--set=osm.serviceCIDRs={10.96.0.0/16,fd00:96::/112}",
];

fn spec_of_preset(objects: &[Value]) -> Value {
    let map = of_kind(objects, "ConfigMap").into_iter().find(|map| map["metadata"]["name"] == "preset-mesh-config");
    serde_json::from_str(map.unwrap()["data"]["preset-mesh-config.json"].as_str().unwrap()).unwrap()
}

fn mesh_config(spec: &Value) -> MeshConfig {
    let object = json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2",
        "kind": "MeshConfig",
        "metadata": { "name": "osm-mesh-config", "namespace": "osm-system" },
        "spec": spec,
    });
    match decode(object, Strictness::Strict).unwrap() {
        Object::MeshConfig(config) => (*config).clone(),
        other => unreachable!("decoded as {other:?}"),
    }
}

#[test]
fn lint_finds_nothing() {
    let helm = Helm::prepare().unwrap();
    for chart in [Repository::this().operator_chart(), Repository::this().crds_chart()] {
        let said = helm.output(&["lint", "--strict", chart.to_str().unwrap()]).unwrap();
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
        let complaints: Vec<_> =
            said.lines().filter(|line| line.contains("[WARNING]") || line.contains("[ERROR]")).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
    }
}

#[test]
fn charts_have_the_version_of_the_product_and_what_artifact_hub_wants() {
    for chart in [Repository::this().operator_chart(), Repository::this().crds_chart()] {
        let text = fs::read_to_string(chart.join("Chart.yaml")).unwrap();
        let chart: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart["kubeVersion"], ">=1.33.0-0");
        let annotation =
            |name: &str| chart["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap_or_default();
        assert_eq!(annotation("license"), "Apache-2.0");
        assert_eq!(annotation("operator"), "true");
        let changes: Vec<BTreeMap<String, String>> = serde_saphyr::from_str(annotation("changes")).unwrap();
        for change in changes {
            assert!(
                ["added", "changed", "deprecated", "removed", "fixed", "security"].contains(&change["kind"].as_str())
            );
        }
        for line in annotation("images").lines().filter_map(|line| line.trim().strip_prefix("image: ")) {
            let named = operator(&[]);
            let container = only(&named, "Deployment")["spec"]["template"]["spec"]["containers"][0].clone();
            assert!(container.to_string().contains(line), "{line} is an image of the chart");
        }
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    // What is set, and what the message must mention.
    let table: &[(&[&str], &str)] = &[
        (&["--set=osm.nonsense=1"], "nonsense"),
        (&["--set=nonsense=1"], "nonsense"),
        (&["--set=osm.osmController.replicas=1"], "replicas"),
        (&["--set=osm.osmController.replicaCount=two"], "replicaCount"),
        (&["--set=osm.osmController.replicaCount=-1"], "replicaCount"),
        (&["--set=osm.osmController.resource.limit.cpu=1"], "limit"),
        (&["--set=osm.osmController.podLabels.a=1"], "podLabels"),
        (&["--set=osm.osmController.autoScale.cpu.targetAverageUtilization=0"], "targetAverageUtilization"),
        (&["--set=osm.osmController.terminationGracePeriodSeconds=5"], "terminationGracePeriodSeconds"),
        (&["--set=osm.osmController.otlpEndpoint=collector"], "otlpEndpoint"),
        (&["--set=osm.osmController.env[0].value=1"], "name"),
        (&["--set=osm.osmController.env[0].name=POD_NAME"], "env"),
        (&["--set=osm.osmController.authoritiesConfigMapName=Not A Name"], "authoritiesConfigMapName"),
        (&["--set=osm.osmController.autoScale.minReplicas=9"], "minReplicas is more than maxReplicas"),
        (&["--set=osm.image.pullPolicy=Sometimes"], "pullPolicy"),
        (&["--set=osm.image.digest.osmOperator=sha256:1"], "digest"),
        (&["--set=osm.image.tag=a:b"], "tag"),
        (&["--set=osm.imagePullSecrets={name}"], "imagePullSecrets"),
        (&["--set=osm.meshName=Not A Name"], "meshName"),
        (&["--set=osm.meshName="], "meshName"),
        (&["--set=osm.osmNamespace=a.b"], "osmNamespace"),
        (&["--set=osm.enforceSingleMesh=perhaps"], "enforceSingleMesh"),
        (&["--set=osm.trustDomain="], "trustDomain"),
        (&["--set=osm.serviceCIDRs={10.0.0.0}"], "serviceCIDRs"),
        (&["--set=osm.certificateProvider.kind=magic"], "kind"),
        (&["--set=osm.certificateProvider.certKeyBitSize=1024"], "certKeyBitSize"),
        (&["--set=osm.certificateProvider.serviceCertValidityDuration=a day"], "serviceCertValidityDuration"),
        (&["--set=osm.certificateProvider.kind=vault", "--set=osm.vault.token=t"], "osm.vault.host is empty"),
        (&["--set=osm.certificateProvider.kind=vault", "--set=osm.vault.host=v"], "there is no token"),
        (
            &["--set=osm.certificateProvider.kind=vault", "--set=osm.vault.host=v", "--set=osm.vault.secret.name=s"],
            "osm.vault.secret.key is empty",
        ),
        (&["--set=osm.vault.port=0"], "port"),
        (&["--set=osm.vault.protocol=ftp"], "protocol"),
        (&["--set=osm.certmanager.issuerKind=Certificate"], "issuerKind"),
        (&["--set=osm.envoyLogLevel=loud"], "envoyLogLevel"),
        (&["--set=osm.controllerLogLevel=critical"], "controllerLogLevel"),
        (&["--set=osm.localProxyMode=podip"], "localProxyMode"),
        (&["--set=osm.maxDataPlaneConnections=-1"], "maxDataPlaneConnections"),
        (&["--set=osm.configResyncInterval=30"], "configResyncInterval"),
        (&["--set=osm.outboundIPRangeExclusionList={10.0.0.0/33}"], "outboundIPRangeExclusionList"),
        (&["--set=osm.outboundIPRangeInclusionList={here}"], "outboundIPRangeInclusionList"),
        (&["--set=osm.outboundPortExclusionList={0}"], "outboundPortExclusionList"),
        (&["--set=osm.inboundPortExclusionList={70000}"], "inboundPortExclusionList"),
        (&["--set=osm.networkInterfaceExclusionList={a-name-that-is-too-long}"], "networkInterfaceExclusionList"),
        (&["--set=osm.tracing.port=65536"], "tracing"),
        (&["--set=osm.tracing.endpoint=api"], "endpoint"),
        (&["--set=osm.featureFlags.enableMagic=true"], "enableMagic"),
        (&["--set=osm.featureFlags.enableRetryPolicy=1"], "enableRetryPolicy"),
        (&["--set=osm.injector.webhookTimeoutSeconds=31"], "webhookTimeoutSeconds"),
        (&["--set=osm.injector.failurePolicy=Wait"], "failurePolicy"),
        (&["--set=osm.injector.replicaCount=many"], "replicaCount"),
        (&["--set=osm.validatorWebhook.failurePolicy=fail"], "failurePolicy"),
        (&["--set=osm.networkPolicy.egress.apiServerPorts={0}"], "apiServerPorts"),
        (&["--set=osm.rootSecretNames={Not A Name}"], "rootSecretNames"),
        (&["--set=osm.ingressGateway.subjectAltNames={spiffe://a/b}"], "subjectAltNames"),
        (&["--set=osm.ingressGateway.subjectAltNames={a.example}"], "osm.ingressGateway.secret.name is empty"),
        (&["--set=osm.ingressGateway.validityDuration=a day"], "validityDuration"),
        (&["--set=osm.ingressGateway.secret.name=a"], "needs both name and namespace"),
        (&["--set=osm.ingressGateway.secret.namespace=a"], "needs both name and namespace"),
        (&["--set=osm.ingressGateway.secret.namespace=a.b"], "namespace"),
        (&["--set=smi.validateTrafficTarget=maybe"], "validateTrafficTarget"),
        (&["--set=smi.other=true"], "other"),
        (&["--kube-version=1.32.0"], "kubeVersion"),
    ];
    let helm = Helm::prepare().unwrap();
    for (arguments, words) in table {
        match helm.template(&Repository::this().operator_chart(), arguments) {
            Ok(_) => panic!("{arguments:?} was accepted"),
            Err(error) => assert!(error.to_string().contains(words), "{arguments:?}: {error}"),
        }
    }
    for arguments in ["--set=groups.policy=true", "--set=keep=always", "--set=annotations.a=1", "--set=key=1"] {
        assert!(helm.template(&Repository::this().crds_chart(), &[arguments]).is_err(), "{arguments} was accepted");
    }
}

#[test]
fn every_value_is_in_the_schema_and_the_schema_knows_no_other() {
    for chart in [Repository::this().operator_chart(), Repository::this().crds_chart()] {
        let read = |name: &str| fs::read_to_string(chart.join(name)).unwrap();
        let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
        let mut known = BTreeSet::new();
        collect(&schema, &schema["definitions"], "", &mut known);
        known.remove("global");
        let mut said: BTreeSet<String> =
            documented(&read("values.yaml")).unwrap().into_iter().map(|it| it.path).collect();
        if chart == Repository::this().operator_chart() {
            said.extend(retired(&read("files/retired-values.yaml")).unwrap().into_iter().map(|value| value.path));
        }
        // A group's comment is not needed if all its values have one; what is below a documented value needs none.
        let unknown: Vec<_> = said.iter().filter(|path| !known.contains(*path)).collect();
        assert!(unknown.is_empty(), "not in the schema: {unknown:?}");
        let is_covered = |path: &String| {
            said.iter()
                .any(|it| it == path || path.starts_with(&format!("{it}.")) || it.starts_with(&format!("{path}.")))
        };
        let silent: Vec<_> = known.iter().filter(|path| !is_covered(path)).collect();
        assert!(silent.is_empty(), "in the schema and nowhere else: {silent:?}");
    }
}

/// Paths of all properties; every object that has any must refuse others.
fn collect(schema: &Value, definitions: &Value, path: &str, found: &mut BTreeSet<String>) {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/definitions/"));
    let schema = name.map_or(schema, |name| &definitions[name]);
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} accepts unknown values");
    for (name, below) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(below, definitions, &path, found);
        found.insert(path);
    }
}

#[test]
fn rendered_twice_the_bytes_are_equal_and_nothing_is_random_or_looked_up() {
    let helm = Helm::prepare().unwrap();
    for chart in [Repository::this().operator_chart(), Repository::this().crds_chart()] {
        let arguments: &[&str] = if chart.ends_with("osm-operator") { &EVERYTHING } else { &[] };
        let first = helm.template(&chart, arguments).unwrap();
        assert_eq!(first, helm.template(&chart, arguments).unwrap());
        for entry in fs::read_dir(chart.join("templates")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            for action in text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                for word in action.split(|letter: char| !letter.is_ascii_alphanumeric()) {
                    let varies = word.starts_with("rand") || word.starts_with("gen") || word.starts_with("uuid");
                    let varies = varies
                        || ["lookup", "now", "date", "getHostByName", "htpasswd", "IsInstall", "IsUpgrade", "Revision"]
                            .contains(&word);
                    assert!(!varies, "{}: {word}", path.display());
                }
            }
            assert!(!text.contains("helm.sh/hook"), "{} has a hook", path.display());
        }
    }
}

#[test]
fn every_object_says_whose_it_is() {
    for object in operator(&EVERYTHING).iter().chain(&crds(&[])) {
        let name = ObjectName::of(object);
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/name"], "openservicemesh.io", "{name}");
        assert_eq!(labels["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"), "{name}");
        assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm", "{name}");
        if name.kind != "CustomResourceDefinition" {
            assert_eq!(labels["app.kubernetes.io/instance"], "osm", "{name}");
        }
    }
}

#[test]
fn two_meshes_share_no_object_and_one_name_cannot_be_installed_twice() {
    let names =
        |arguments: &[&str]| -> BTreeSet<ObjectName> { operator(arguments).iter().map(ObjectName::of).collect() };
    let first = names(&[]);
    let other_mesh = ["--set=osm.meshName=other", "--set=osm.osmNamespace=other-system"];
    assert!(first.is_disjoint(&names(&other_mesh)));
    // The same mesh in another namespace meets the first one's objects, which helm refuses to take over.
    let common: Vec<_> = first.intersection(&names(&["--set=osm.osmNamespace=other-system"])).cloned().collect();
    let kinds: BTreeSet<&str> = common.iter().map(|name| name.kind.as_str()).collect();
    let expected =
        ["ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
    assert_eq!(kinds, expected.into());
}

#[test]
fn the_control_plane_keeps_to_the_restricted_level() {
    let rendered = operator(&EVERYTHING);
    let pod = &only(&rendered, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[field].is_null(), "{field}");
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        assert!(volume["configMap"].is_object(), "{volume}");
    }
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    let security = &containers[0]["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
    assert!(security["privileged"].is_null());
    for kind in ["limits", "requests"] {
        for resource in ["cpu", "memory"] {
            assert!(containers[0]["resources"][kind][resource].is_string(), "{kind} {resource}");
        }
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(containers[0][probe]["httpGet"]["port"], "admin", "{probe}");
    }
}

#[test]
fn rights_have_no_wildcard_and_secrets_are_named() {
    let rendered = operator(&EVERYTHING);
    let (mut rules, mut secrets) = (0, Vec::new());
    for role in of_kind(&rendered, "ClusterRole").into_iter().chain(of_kind(&rendered, "Role")) {
        for rule in role["rules"].as_array().unwrap() {
            rules += 1;
            let holds =
                |field: &str, text: &str| rule[field].as_array().is_some_and(|list| list.iter().any(|it| it == text));
            for field in ["apiGroups", "resources", "verbs"] {
                assert!(!rule[field].as_array().unwrap().is_empty(), "{rule}");
                assert!(!rule[field].to_string().contains('*'), "{rule}");
            }
            for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
                assert!(!holds("verbs", verb), "{rule}");
            }
            if holds("resources", "secrets") {
                assert_eq!(role["kind"], "Role", "no Secrets of other namespaces");
                // To create one cannot be limited to names.
                let names = rule["resourceNames"].as_array();
                assert!(names.is_some() || rule["verbs"] == json!(["create"]), "{rule}");
                secrets.extend(names.into_iter().flatten().cloned());
                assert!(!holds("verbs", "list") && !holds("verbs", "watch"), "{rule}");
            }
            if holds("resources", "configmaps") {
                assert!(rule["resourceNames"].is_array(), "{rule}");
            }
        }
    }
    assert!(rules > 15, "there are rules: {rules}");
    assert_eq!(secrets.len(), 3);
    assert!(secrets.contains(&json!("gateway-tls")), "{secrets:?}");
    assert!(secrets.contains(&json!("osm-ca-bundle")) && secrets.contains(&json!("osm-vault-token")), "{secrets:?}");
    // No names at all would mean every Secret.
    let without = operator(&[]);
    assert!(!only(&without, "Role").to_string().contains("\"resourceNames\":[]"));
    assert!(!only(&without, "Role").to_string().contains("osm-vault-token"));
    for binding in of_kind(&rendered, "ClusterRoleBinding").into_iter().chain(of_kind(&rendered, "RoleBinding")) {
        let account = json!([{ "kind": "ServiceAccount", "name": "osm-controller", "namespace": "osm-system" }]);
        assert_eq!(binding["subjects"], account);
    }
    assert!(!only(&without, "Role").to_string().contains("certificaterequests"));
    for value in ["--set=osm.certificateProvider.kind=cert-manager", "--set=osm.certmanager.allow=true"] {
        let with = operator(&[value]);
        assert!(only(&with, "Role").to_string().contains("certificaterequests"), "{value}");
        assert!(!only(&with, "ClusterRole").to_string().contains("certificaterequests"), "{value}");
    }
    let named = operator(&["--set=osm.rootSecretNames={next-root}", "--set=osm.caBundleSecretName=root"]);
    let role = only(&named, "Role")["rules"].to_string();
    assert!(role.contains(r#"["root","next-root"]"#), "{role}");
}

#[test]
fn the_control_plane_may_write_one_secret_in_the_namespace_of_the_ingress_gateway() {
    // Also without names: they may be in a MeshConfig that is there already.
    let secret =
        ["--set=osm.ingressGateway.secret.name=gateway-tls", "--set=osm.ingressGateway.secret.namespace=ingress"];
    let rendered = operator(&secret);
    let role = of_kind(&rendered, "Role").into_iter().find(|role| role["metadata"]["namespace"] == "ingress").unwrap();
    let expected = json!([
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["create"] },
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["gateway-tls"], "verbs": ["get", "patch"] },
    ]);
    assert_eq!(role["rules"], expected);
    let bindings = of_kind(&rendered, "RoleBinding");
    let binding = bindings.into_iter().find(|binding| binding["metadata"]["namespace"] == "ingress").unwrap();
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert!(spec_of_preset(&rendered)["certificate"].is_null());
}

#[test]
fn the_mesh_config_of_the_defaults_is_clean_and_permissive_as_osms_was() {
    let config = mesh_config(&spec_of_preset(&operator(&[])));
    assert_eq!(config.spec.complaints(), []);
    assert!(config.spec.traffic.enable_permissive_traffic_policy_mode() && config.spec.traffic.enable_egress());
    assert!(config.spec.feature_flags.enable_wasm_stats() && config.spec.feature_flags.enable_ingress_backend_policy());
    assert!(
        !config.spec.feature_flags.enable_retry_policy() && !config.spec.feature_flags.enable_mesh_root_certificate()
    );
    assert!(config.spec.certificate.is_none(), "ECDSA keys unless somebody asks for RSA");
}

#[test]
fn every_value_of_the_mesh_config_arrives_in_it() {
    // A value, and where it is in the spec.
    let table: &[(&str, &str, Value)] = &[
        ("osm.enablePermissiveTrafficPolicy=false", "/traffic/enablePermissiveTrafficPolicyMode", json!(false)),
        ("osm.enableEgress=false", "/traffic/enableEgress", json!(false)),
        (
            "osm.outboundIPRangeExclusionList={1.2.3.0/24,fd00::/8}",
            "/traffic/outboundIPRangeExclusionList",
            json!(["1.2.3.0/24", "fd00::/8"]),
        ),
        (
            "osm.outboundIPRangeInclusionList={1.2.3.4/32}",
            "/traffic/outboundIPRangeInclusionList",
            json!(["1.2.3.4/32"]),
        ),
        ("osm.outboundPortExclusionList={6379,7070}", "/traffic/outboundPortExclusionList", json!([6379, 7070])),
        ("osm.inboundPortExclusionList={65535}", "/traffic/inboundPortExclusionList", json!([65535])),
        ("osm.networkInterfaceExclusionList={eth1}", "/traffic/networkInterfaceExclusionList", json!(["eth1"])),
        ("osm.envoyLogLevel=off", "/sidecar/logLevel", json!("off")),
        ("osm.enablePrivilegedInitContainer=true", "/sidecar/enablePrivilegedInitContainer", json!(true)),
        ("osm.localProxyMode=PodIP", "/sidecar/localProxyMode", json!("PodIP")),
        ("osm.maxDataPlaneConnections=1000", "/sidecar/maxDataPlaneConnections", json!(1000)),
        ("osm.configResyncInterval=90s", "/sidecar/configResyncInterval", json!("90s")),
        ("osm.controllerLogLevel=debug", "/observability/osmLogLevel", json!("debug")),
        ("osm.enableDebugServer=true", "/observability/enableDebugServer", json!(true)),
        (
            "osm.tracing.enable=true",
            "/observability/tracing",
            json!({ "enable": true, "port": 9411, "endpoint": "/api/v2/spans" }),
        ),
        (
            "osm.tracing.enable=true,osm.tracing.address=zipkin.a,osm.tracing.port=40000",
            "/observability/tracing/port",
            json!(40000),
        ),
        ("osm.tracing.enable=true,osm.tracing.address=zipkin.a", "/observability/tracing/address", json!("zipkin.a")),
        ("osm.tracing.enable=true,osm.tracing.endpoint=/spans", "/observability/tracing/endpoint", json!("/spans")),
        (
            "osm.certificateProvider.certKeyBitSize=4096",
            "/certificate",
            json!({ "certKeyBitSize": 4096, "serviceCertValidityDuration": "24h" }),
        ),
        (
            "osm.certificateProvider.serviceCertValidityDuration=1h30m",
            "/certificate",
            json!({ "certKeyBitSize": 2048, "serviceCertValidityDuration": "1h30m" }),
        ),
        (
            "osm.ingressGateway.subjectAltNames={a.example},osm.ingressGateway.secret.name=tls,osm.ingressGateway.secret.namespace=in",
            "/certificate/ingressGateway",
            json!({ "subjectAltNames": ["a.example"], "validityDuration": "24h", "secret": { "name": "tls", "namespace": "in" } }),
        ),
        (
            "osm.ingressGateway.validityDuration=1h,osm.ingressGateway.subjectAltNames={a.example},\
             osm.ingressGateway.secret.name=tls,osm.ingressGateway.secret.namespace=in",
            "/certificate/ingressGateway/validityDuration",
            json!("1h"),
        ),
        ("osm.featureFlags.enableWASMStats=false", "/featureFlags/enableWASMStats", json!(false)),
        ("osm.featureFlags.enableEgressPolicy=false", "/featureFlags/enableEgressPolicy", json!(false)),
        ("osm.featureFlags.enableIngressBackendPolicy=false", "/featureFlags/enableIngressBackendPolicy", json!(false)),
        (
            "osm.featureFlags.enableEnvoyActiveHealthChecks=true",
            "/featureFlags/enableEnvoyActiveHealthChecks",
            json!(true),
        ),
        ("osm.featureFlags.enableRetryPolicy=true", "/featureFlags/enableRetryPolicy", json!(true)),
        ("osm.featureFlags.enableMeshRootCertificate=true", "/featureFlags/enableMeshRootCertificate", json!(true)),
        ("osm.certificateProvider.kind=cert-manager", "/featureFlags/enableMeshRootCertificate", json!(true)),
    ];
    for (value, pointer, expected) in table {
        let spec = spec_of_preset(&operator(&[&format!("--set={value}")]));
        assert_eq!(spec.pointer(pointer), Some(expected), "{value}");
        assert_eq!(mesh_config(&spec).spec.complaints(), [], "{value}");
    }
    // Nothing that the chart seeds is untested: all other values do not change the seed.
    let values =
        documented(&fs::read_to_string(Repository::this().operator_chart().join("values.yaml")).unwrap()).unwrap();
    for value in values.iter().filter(|value| value.comment.contains("[MeshConfig]")) {
        assert!(table.iter().any(|(set, ..)| set.contains(&value.path)), "{} has no line in this table", value.path);
    }
}

#[test]
fn a_root_comes_from_values_and_its_role_is_left_to_rotations() {
    let vault = ["--set=osm.certificateProvider.kind=vault", "--set=osm.vault.host=vault.example"];
    let with_secret = [vault[0], vault[1], "--set=osm.vault.secret.name=vault", "--set=osm.vault.secret.key=root"];
    let with_token = [vault[0], vault[1], "--set=osm.vault.token=secret-token"];
    let cases: &[(&[&str], Value)] = &[
        (
            &["--set=osm.featureFlags.enableMeshRootCertificate=true", "--set=osm.featureFlags.enableSPIFFE=true"],
            json!({ "tresor": { "ca": { "secretRef": { "name": "osm-ca-bundle", "namespace": "osm-system" } } } }),
        ),
        (
            &["--set=osm.certificateProvider.kind=cert-manager", "--set=osm.certmanager.issuerKind=ClusterIssuer"],
            json!({ "certManager": { "issuerName": "osm-ca", "issuerKind": "ClusterIssuer", "issuerGroup": "cert-manager.io" } }),
        ),
        (&with_secret, vault_provider("vault", "root")),
        (&with_token, vault_provider("osm-vault-token", "token")),
    ];
    for (arguments, provider) in cases {
        let rendered = operator(arguments);
        let root = only(&rendered, "MeshRootCertificate");
        decode(root.clone(), Strictness::Strict).unwrap();
        assert_eq!(root["spec"]["provider"], *provider);
        assert!(root["spec"]["role"].is_null());
        assert_eq!(root["spec"]["spiffeEnabled"], arguments.iter().any(|it| it.contains("enableSPIFFE")));
        let secrets = of_kind(&rendered, "Secret");
        assert_eq!(secrets.len(), usize::from(*arguments == with_token));
        assert!(
            !only(&rendered, "Deployment").to_string().contains("secret-token"),
            "no token where pods are described"
        );
    }
    assert!(of_kind(&operator(&[]), "MeshRootCertificate").is_empty());
}

fn vault_provider(secret: &str, key: &str) -> Value {
    json!({ "vault": {
        "host": "vault.example", "port": 8200, "protocol": "http", "role": "openservicemesh",
        "token": { "secretKeyRef": { "name": secret, "key": key, "namespace": "osm-system" } },
    } })
}

#[test]
fn webhooks_leave_the_bundle_to_the_control_plane_and_cannot_stop_a_cluster() {
    let rendered = operator(&[]);
    let hooks = |kind: &str| only(&rendered, kind)["webhooks"].as_array().unwrap().clone();
    let all: Vec<_> =
        hooks("MutatingWebhookConfiguration").into_iter().chain(hooks("ValidatingWebhookConfiguration")).collect();
    assert_eq!(all.len(), 3);
    for hook in &all {
        let name = hook["name"].as_str().unwrap();
        assert!(hook["clientConfig"]["caBundle"].is_null(), "{name}");
        assert_eq!(hook["clientConfig"]["service"]["name"], "osm-controller", "{name}");
        assert!(hook["timeoutSeconds"].as_u64().unwrap() <= 5, "{name}");
        let own = hook["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == "osm-system";
        if own {
            assert_eq!(hook["failurePolicy"], "Ignore", "the control plane can always be mended");
            continue;
        }
        assert_eq!(
            hook["namespaceSelector"]["matchLabels"],
            json!({ "openservicemesh.io/monitored-by": "osm" }),
            "{name}"
        );
        let never = hook["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        let never = never.iter().find(|it| it["key"] == "kubernetes.io/metadata.name").unwrap();
        for namespace in ["kube-system", "osm-system"] {
            assert!(never["values"].as_array().unwrap().contains(&json!(namespace)), "{name} {namespace}");
        }
    }
    let ignoring =
        operator(&["--set=osm.injector.failurePolicy=Ignore", "--set=osm.validatorWebhook.failurePolicy=Ignore"]);
    assert!(!ignoring.iter().any(|object| object.to_string().contains(r#""failurePolicy":"Fail""#)));
    let without = operator(&["--set=smi.validateTrafficTarget=false"]);
    assert!(!only(&without, "ValidatingWebhookConfiguration").to_string().contains("traffictargets"));
    let named = operator(&[
        "--set=osm.webhookConfigNamePrefix=inject",
        "--set=osm.validatorWebhook.webhookConfigurationName=check",
    ]);
    assert_eq!(only(&named, "MutatingWebhookConfiguration")["metadata"]["name"], "inject-osm");
    assert_eq!(only(&named, "ValidatingWebhookConfiguration")["metadata"]["name"], "check");
    let rights = only(&named, "ClusterRole").to_string();
    assert!(rights.contains(r#"["inject-osm"]"#) && rights.contains(r#"["check"]"#), "rights follow the names");
}

#[test]
fn replicas_are_spread_kept_and_scaled() {
    let rendered = operator(&[]);
    let deployment = &only(&rendered, "Deployment")["spec"];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let spread = deployment["template"]["spec"]["topologySpreadConstraints"].as_array().unwrap();
    let keys: Vec<_> = spread.iter().map(|it| it["topologyKey"].as_str().unwrap()).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    assert_eq!(only(&rendered, "PodDisruptionBudget")["spec"]["minAvailable"], 1);
    assert!(of_kind(&rendered, "HorizontalPodAutoscaler").is_empty());

    let scaled = operator(&[
        "--set=osm.osmController.autoScale.enable=true",
        "--set=osm.osmController.enablePodDisruptionBudget=false",
    ]);
    assert!(
        only(&scaled, "Deployment")["spec"]["replicas"].is_null(),
        "an upgrade must not undo what the autoscaler did"
    );
    assert_eq!(only(&scaled, "HorizontalPodAutoscaler")["apiVersion"], "autoscaling/v2");
    assert!(of_kind(&scaled, "PodDisruptionBudget").is_empty());

    // What selects finds the pods.
    let labels = &deployment["template"]["metadata"]["labels"];
    let selectors = [
        &deployment["selector"]["matchLabels"],
        &only(&rendered, "Service")["spec"]["selector"],
        &only(&rendered, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &only(&rendered, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ];
    for selector in selectors {
        let selector = selector.as_object().unwrap();
        assert_eq!(selector.len(), 3);
        for (label, value) in selector {
            assert_eq!(&labels[label], value, "{label}");
        }
    }
    // Every port of the Service is one of the container, and open.
    let ports = deployment["template"]["spec"]["containers"][0]["ports"].as_array().unwrap();
    let ports: BTreeMap<_, _> =
        ports.iter().map(|port| (port["name"].as_str().unwrap(), &port["containerPort"])).collect();
    assert_eq!(
        ports,
        [("ads", &json!(15128)), ("identity", &json!(15129)), ("webhooks", &json!(9090)), ("admin", &json!(9091))]
            .into()
    );
    let policy = only(&rendered, "NetworkPolicy").to_string();
    for port in only(&rendered, "Service")["spec"]["ports"].as_array().unwrap() {
        let target = port["targetPort"].as_str().unwrap();
        assert!(ports.contains_key(target), "{target}");
        assert!(policy.contains(&format!("\"port\":\"{target}\"")), "{target}");
    }
}

#[test]
fn labels_of_users_cannot_take_the_pods_out_of_their_service() {
    let rendered = operator(&[
        "--set-string=osm.osmController.podLabels.app=other",
        "--set-string=osm.osmController.podLabels.team=mesh",
    ]);
    let labels = &only(&rendered, "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app"], "osm-controller");
    assert_eq!(labels["team"], "mesh");
}

#[test]
fn images_follow_registry_tag_and_digest() {
    let image = |arguments: &[&str]| {
        let rendered = operator(arguments);
        let container = &only(&rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        let image = container["image"].as_str().unwrap().to_owned();
        let init = format!("--init-image={image}");
        assert!(container["args"].as_array().unwrap().contains(&json!(init)), "pods get the same image");
        image
    };
    assert_eq!(image(&[]), concat!("openservicemesh/osm-operator:", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        image(&["--set=osm.image.registry=mirror.example/mesh", "--set=osm.image.tag=v2"]),
        "mirror.example/mesh/osm-operator:v2"
    );
    assert_eq!(
        image(&["--set=osm.image.registry=", "--set=osm.image.name.osmOperator=o"]),
        concat!("o:", env!("CARGO_PKG_VERSION"))
    );
    let digest = format!("sha256:{}", "a".repeat(64));
    assert!(image(&[&format!("--set=osm.image.digest.osmOperator={digest}")]).ends_with(&format!("@{digest}")));
}

fn notes(arguments: &[&str]) -> String {
    let chart = Repository::this().operator_chart();
    let mut all =
        vec!["install", "osm-operator", chart.to_str().unwrap(), "--namespace=osm-system", "--dry-run=client"];
    all.extend(arguments);
    let said = Helm::prepare().unwrap().output(&all).unwrap();
    said.split_once("\nNOTES:\n").unwrap().1.to_owned()
}

#[test]
fn retired_values_of_osm_are_accepted_and_named() {
    let list = fs::read_to_string(Repository::this().operator_chart().join("files/retired-values.yaml")).unwrap();
    let list = retired(&list).unwrap();
    let changed = |was: &Value| match was {
        Value::Bool(value) => json!(!value),
        Value::Number(_) => json!(7),
        Value::String(_) => json!("changed"),
        Value::Array(_) => json!([{ "key": "changed" }]),
        _ => json!({ "changed": true }),
    };
    let values = |of: &dyn Fn(&Value) -> Value| {
        let mut root = json!({});
        for value in list.iter().filter(|value| !of(&value.was).is_null()) {
            let pointer = value.path.split('.').fold(&mut root, |node, key| &mut node[key]);
            *pointer = of(&value.was);
        }
        root
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &Value| {
        let path = folder.path().join(name);
        fs::write(&path, content.to_string()).unwrap();
        format!("--values={}", path.display())
    };
    let all = notes(&[&file("changed.json", &values(&changed))]);
    for value in &list {
        let warning = format!("WARNING: {} does nothing any more: {}.", value.path, value.instead);
        assert!(all.contains(&warning), "{warning}\n{all}");
    }
    let harmless = notes(&[&file("harmless.json", &values(&Value::clone))]);
    assert!(!harmless.contains("WARNING"), "{harmless}");
    assert_eq!(notes(&[]), harmless);
}

#[test]
fn notes_warn_of_what_is_dangerous_and_tell_where_settings_are() {
    let plain = notes(&[]);
    assert!(plain.contains("edit meshconfig osm-mesh-config") && plain.contains("permissive"));
    assert!(!notes(&["--set=osm.enablePermissiveTrafficPolicy=false"]).contains("permissive"));
    assert!(
        notes(&["--set=osm.injector.webhookTimeoutSeconds=20"])
            .contains("WARNING: osm.injector.webhookTimeoutSeconds is 20")
    );
    let vault = notes(&[
        "--set=osm.certificateProvider.kind=vault",
        "--set=osm.vault.host=v",
        "--set=osm.vault.token=secret-token",
    ]);
    assert!(vault.contains("WARNING: the token of Vault") && !vault.contains("secret-token"));
    assert!(notes(&["--set=osm.enforceSingleMesh=false"]).contains("shares the cluster"));
}

#[test]
fn the_crds_are_those_of_the_api_and_groups_can_be_left_out() {
    let rendered = crds(&[]);
    let specs = |objects: &[Value]| -> BTreeMap<String, Value> {
        objects.iter().map(|object| (ObjectName::of(object).name, object["spec"].clone())).collect()
    };
    let expected = osm_api::custom_resource_definitions();
    let expected: Vec<_> = expected.iter().map(|crd| serde_json::to_value(crd).unwrap()).map(whole_numbers).collect();
    let (rendered_specs, expected) = (specs(&rendered), specs(&expected));
    assert!(rendered_specs.keys().eq(expected.keys()), "{:?}", rendered_specs.keys());
    for (name, spec) in expected {
        assert!(rendered_specs[&name] == spec, "{name} differs from the types in api/: run hack/generate");
    }
    for crd in &rendered {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    for crd in crds(&["--set=keep=false"]) {
        assert!(crd["metadata"]["annotations"].is_null());
    }
    let annotated = crds(&["--set-string=annotations.a=b"]);
    assert_eq!(annotated[0]["metadata"]["annotations"], json!({ "helm.sh/resource-policy": "keep", "a": "b" }));

    let groups = |objects: &[Value]| -> BTreeSet<String> {
        objects.iter().map(|crd| crd["spec"]["group"].as_str().unwrap().to_owned()).collect()
    };
    for group in groups(&rendered) {
        let switch = group.split('.').next().unwrap();
        let rest = groups(&crds(&[&format!("--set=groups.{switch}=false")]));
        assert_eq!(groups(&rendered).difference(&rest).collect::<Vec<_>>(), [&group]);
    }
}

/// Numbers as manifests have them: without a fraction where there is none.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect(),
        Value::Array(elements) => elements.into_iter().map(whole_numbers).collect(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => json!(float as i64),
            _ => Value::Number(number),
        },
        other => other,
    }
}
