//! The containers that injection adds.

use std::collections::BTreeSet;

use osm_api::ResourceRequirements;
use osm_bootstrap::{PodSettings, ProbeKind, Probes, names};
use osm_intercept::InterceptConfig;
use osm_model::LocalProxyMode;
use osm_translate::naming::{ADMIN_PORT, INBOUND_PORT, METRICS_PORT};
use serde_json::{Value, json};

use super::interception;
use crate::config::{InitPrivilege, InjectorConfig};

/// Envoy's worker threads where its resources name no limit of processor time. Envoy's own default is one for each processor
/// of the node.
const DEFAULT_CONCURRENCY: u32 = 2;

/// User of the container that answers probes: the one that images without a user of their own call `nonroot`.
const HEALTH_CHECK_UID: u32 = 65532;

/// The containers of a Pod, in the order in which they have to start. The last, which answers probes, only if it has
/// ports to ask.
pub(crate) fn wanted_containers(
    config: &InjectorConfig,
    interception: &InterceptConfig,
    probes: Probes,
    health_check_ports: &BTreeSet<u16>,
) -> Vec<Value> {
    let containers = Containers { config, interception, probes };
    let mut all = vec![containers.init(), containers.envoy()];
    if !health_check_ports.is_empty() {
        all.push(containers.health_check(health_check_ports));
    }
    all
}

/// What the containers of one Pod are made from.
struct Containers<'a> {
    config: &'a InjectorConfig,
    interception: &'a InterceptConfig,
    probes: Probes,
}

impl Containers<'_> {
    /// Sets the redirect rules and writes the bootstrap. Root, because the kernel gives capabilities to no other user.
    fn init(&self) -> Value {
        let config = self.config;
        let settings = PodSettings {
            control_plane_namespace: config.defaults.control_plane_namespace.to_string(),
            trust_domain: config.defaults.trust_domain.clone(),
            cluster_domain: config.defaults.cluster_domain.to_string(),
            tls: config.tls.clone(),
            probes: self.probes.clone(),
        };
        let mut arguments = vec!["init".to_owned()];
        arguments.extend(settings.arguments());
        arguments.extend(interception::arguments(self.interception, config.local_proxy_mode));
        let security = match config.init_privilege {
            InitPrivilege::Privileged => {
                json!({ "privileged": true, "runAsNonRoot": false, "runAsUser": 0, "runAsGroup": 0 })
            }
            InitPrivilege::Capabilities => json!({
                "allowPrivilegeEscalation": false,
                "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] },
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsGroup": 0,
                "runAsNonRoot": false,
                "runAsUser": 0,
                "seccompProfile": { "type": "RuntimeDefault" },
            }),
        };
        json!({
            "name": names::INIT_CONTAINER,
            "image": config.defaults.init_image,
            "imagePullPolicy": config.defaults.pull_policy.as_str(),
            "args": escaped(&arguments),
            "env": [
                field_env("POD_NAME", "metadata.name"),
                field_env("POD_NAMESPACE", "metadata.namespace"),
                field_env("POD_UID", "metadata.uid"),
                field_env("POD_IPS", "status.podIPs"),
                field_env("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            ],
            "resources": resources(&config.defaults.init_resources),
            "securityContext": security,
            // What it says last is shown in the status of the Pod when it fails.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                { "name": names::CONFIGURATION_VOLUME, "mountPath": names::CONFIGURATION_FOLDER },
            ],
        })
    }

    /// The sidecar. Being a native one (an init container that is restarted always), it has started before the application's
    /// containers do, is stopped after they have ended, and keeps no Job from finishing.
    fn envoy(&self) -> Value {
        let config = self.config;
        let mut arguments = osm_bootstrap::envoy_arguments(config.log_level.as_str());
        arguments.extend(["--concurrency".to_owned(), concurrency(&config.resources).to_string()]);
        let mut ports = vec![
            port("proxy-admin", ADMIN_PORT),
            port("proxy-inbound", INBOUND_PORT),
            port("proxy-metrics", METRICS_PORT),
        ];
        for kind in ProbeKind::ALL {
            if self.probes.routes().iter().any(|route| route.kind == kind) {
                ports.push(port(&format!("{}-port", kind.name()), kind.port()));
            }
        }
        json!({
            "name": names::PROXY_CONTAINER,
            "image": config.defaults.envoy_image,
            "imagePullPolicy": config.defaults.pull_policy.as_str(),
            "restartPolicy": "Always",
            "command": ["envoy"],
            "args": escaped(&arguments),
            "ports": ports,
            "resources": resources(&config.resources),
            "securityContext": unprivileged(self.interception.proxy_uid.get()),
            // Good only when the sidecar is configured: what comes after it finds the mesh in place. It has ten minutes, in
            // which a control plane that is away may come back.
            "startupProbe": {
                "httpGet": { "path": names::PROXY_READINESS_PATH, "port": names::PROXY_READINESS_PORT, "scheme": "HTTP" },
                "periodSeconds": 1,
                "failureThreshold": 600,
                "successThreshold": 1,
                "timeoutSeconds": 1,
            },
            "volumeMounts": [
                { "name": names::CONFIGURATION_VOLUME, "mountPath": names::CONFIGURATION_FOLDER, "readOnly": true },
                { "name": names::TOKEN_VOLUME, "mountPath": names::TOKEN_FOLDER, "readOnly": true },
                { "name": names::TRUST_BUNDLE_VOLUME, "mountPath": names::TRUST_BUNDLE_FOLDER, "readOnly": true },
            ],
        })
    }

    /// Answers probes that Envoy cannot, as a native sidecar, so that it is there when the first probe comes.
    fn health_check(&self, ports: &BTreeSet<u16>) -> Value {
        let config = self.config;
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let mut arguments = vec!["healthcheck".to_owned(), format!("--port={}", ports.join(","))];
        match config.local_proxy_mode {
            LocalProxyMode::Localhost => {}
            LocalProxyMode::PodIp => arguments.push("--address=$(POD_IP)".to_owned()),
        }
        json!({
            "name": names::HEALTH_CHECK_CONTAINER,
            "image": config.defaults.health_check_image,
            "imagePullPolicy": config.defaults.pull_policy.as_str(),
            "restartPolicy": "Always",
            "args": arguments,
            "env": [field_env("POD_IP", "status.podIP")],
            "ports": [port("healthcheck", names::HEALTH_CHECK_PORT)],
            "resources": resources(&config.defaults.health_check_resources),
            "securityContext": unprivileged(self.health_check_uid()),
        })
    }

    /// Not the sidecar's user: what that one sends to the Pod's own address is redirected to the sidecar.
    fn health_check_uid(&self) -> u32 {
        let uid = HEALTH_CHECK_UID;
        if self.interception.proxy_uid.get() == uid { uid + 1 } else { uid }
    }
}

/// What the level `restricted` of Pod Security asks for.
fn unprivileged(uid: u32) -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": uid,
        "runAsNonRoot": true,
        "runAsUser": uid,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// The kubelet replaces `$(NAME)` in arguments; two dollars are one.
fn escaped(arguments: &[String]) -> Vec<String> {
    arguments.iter().map(|argument| argument.replace('$', "$$")).collect()
}

fn port(name: &str, number: u16) -> Value {
    json!({ "name": name, "containerPort": number, "protocol": "TCP" })
}

fn field_env(name: &str, path: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": path } } })
}

fn resources(resources: &ResourceRequirements) -> Value {
    serde_json::to_value(resources).expect("texts can be written as JSON")
}

/// As many worker threads as the limit of processor time allows to run at once.
fn concurrency(resources: &ResourceRequirements) -> u32 {
    let Some(limit) = resources.limits.get("cpu") else { return DEFAULT_CONCURRENCY };
    let milli = match limit.0.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().ok(),
        None => limit.0.parse::<f64>().ok().map(|whole| whole * 1000.0),
    };
    let threads = milli.filter(|milli| milli.is_finite() && *milli > 0.0).map(|milli| (milli / 1000.0).ceil());
    // Beyond any machine there is, and within the type.
    threads.map_or(DEFAULT_CONCURRENCY, |threads| threads.clamp(1.0, 1024.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    #[test]
    fn envoy_has_as_many_threads_as_its_limit_of_processor_time() {
        let of = |limit: Option<&str>| {
            let limits = limit.map(|limit| ("cpu".to_owned(), Quantity(limit.to_owned())));
            concurrency(&ResourceRequirements { limits: limits.into_iter().collect(), requests: [].into() })
        };
        assert_eq!(of(None), DEFAULT_CONCURRENCY);
        for (limit, threads) in [("100m", 1), ("1", 1), ("1.5", 2), ("2500m", 3), ("4", 4), ("1e3", 1000)] {
            assert_eq!(of(Some(limit)), threads, "{limit}");
        }
        for odd in ["0", "-1", "many", "NaN"] {
            assert_eq!(of(Some(odd)), DEFAULT_CONCURRENCY, "{odd}");
        }
    }

    #[test]
    fn arguments_reach_the_program_as_they_are() {
        assert_eq!(escaped(&["--probes=/a$(HOME)".to_owned()]), ["--probes=/a$$(HOME)"]);
    }
}
