//! How many Pods one core admits in a second, from the bytes of the API server's request to those of the patch.

use std::time::Instant;

use anyhow::{Context, bail};
use osm_admission::{
    Injection, InjectorConfig, InjectorDefaults, Membership, NamespaceSettings, PodAdmission, PullPolicy, Switch,
    inject,
};
use osm_api::{MeshConfig, Object, ResourceRequirements, Strictness, decode};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::figure::{Figure, Goal};
use crate::measure::Effort;
use crate::statistics::{Summary, quantile};

/// Admissions before the clock starts.
const WARM_UP: usize = 500;
/// Admissions in a round.
const MEASURED: usize = 5_000;

/// Admits Pods on one core.
///
/// # Errors
/// A Pod is not injected.
pub fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let before = sched_getaffinity(None).context("which cores there are")?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::MAX_CPU).find(|core| before.is_set(*core)).context("a core")?;
    one.set(first);
    sched_setaffinity(None, &one).context("stay on one core")?;
    let figures = on_one_core(effort);
    sched_setaffinity(None, &before).context("leave the one core")?;
    figures
}

fn on_one_core(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let (defaults, mesh_config) = (defaults()?, mesh_config()?);
    let namespace = NamespaceSettings { membership: Membership::Member, injection: Switch::On, metrics: Switch::On };
    let request = serde_json::to_vec(&json!({ "request": { "uid": "a", "namespace": "shop", "object": pod() } }))?;
    let admit = || -> anyhow::Result<usize> {
        let mut review: Value = serde_json::from_slice(&request)?;
        let pod = review["request"]["object"].take();
        let review = PodAdmission { uid: "a".to_owned(), namespace: "shop".to_owned(), pod };
        let config = InjectorConfig::new(defaults.clone(), Some(&mesh_config));
        match inject(&review, &namespace, &config) {
            Injection::Patch { patch, .. } => Ok(serde_json::to_vec(&patch)?.len()),
            other => bail!("the Pod is not injected: {other:?}"),
        }
    };
    for _ in 0..WARM_UP {
        admit()?;
    }
    let (mut rates, mut took) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let round = Instant::now();
        for _ in 0..MEASURED {
            let one = Instant::now();
            std::hint::black_box(admit()?);
            took.push(one.elapsed().as_secs_f64() * 1e3);
        }
        rates.push(MEASURED as f64 / round.elapsed().as_secs_f64());
    }
    let meaning = "Pods of two containers with six probes in all, from the bytes of the API server's request to those of the patch \
                   on one core, without TLS and HTTP";
    let slowest = Summary::of(took.clone()).context("no admissions")?;
    let p99 = quantile(took, 0.99).context("no admissions")?;
    Ok(vec![
        Figure::new("admission_per_second", Goal::AtLeast(50.0), Summary::of(rates).context("no rounds")?, meaning),
        Figure::new(
            "admission_ms_p99",
            Goal::AtMost(10.0),
            Summary { median: p99, ..slowest },
            format!("milliseconds of one of these: {meaning}"),
        ),
    ])
}

fn defaults() -> anyhow::Result<InjectorDefaults> {
    let resources: ResourceRequirements = serde_json::from_value(json!({ "requests": { "cpu": "10m" } }))?;
    Ok(InjectorDefaults {
        control_plane_namespace: "osm-system".into(),
        trust_domain: osm_model::TrustDomain::new("cluster.local")?,
        cluster_domain: "cluster.local".into(),
        envoy_image: "mesh.example/envoy:1".to_owned(),
        init_image: "mesh.example/osm-operator:1".to_owned(),
        health_check_image: "mesh.example/osm-operator:1".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        init_resources: resources.clone(),
        health_check_resources: resources,
    })
}

fn mesh_config() -> anyhow::Result<MeshConfig> {
    let object = decode(
        json!({
            "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
            "metadata": { "name": "osm-mesh-config", "namespace": "osm-system" },
            "spec": {
                "sidecar": { "resources": { "limits": { "cpu": "2", "memory": "256Mi" } } },
                "traffic": {
                    "outboundPortExclusionList": [5432, 6379, 9092],
                    "outboundIPRangeExclusionList": ["169.254.169.254/32", "10.0.0.0/8"],
                },
            },
        }),
        Strictness::Strict,
    )?;
    match object {
        Object::MeshConfig(config) => Ok((*config).clone()),
        other => bail!("not a MeshConfig: {other:?}"),
    }
}

/// A Pod as Deployments make them: two containers with environment, mounts and probes of three kinds.
fn pod() -> Value {
    let container = |name: &str, port: u16| {
        let env: Vec<Value> =
            (0..20).map(|index| json!({ "name": format!("VARIABLE_{index}"), "value": "of some length" })).collect();
        json!({
            "name": name, "image": format!("shop.example/{name}:1.2.3"), "imagePullPolicy": "IfNotPresent", "env": env,
            "ports": [{ "name": "http", "containerPort": port, "protocol": "TCP" }],
            "resources": { "limits": { "cpu": "1", "memory": "512Mi" }, "requests": { "cpu": "100m", "memory": "256Mi" } },
            "livenessProbe": { "httpGet": { "path": "/live", "port": "http", "scheme": "HTTP" }, "timeoutSeconds": 1 },
            "readinessProbe": { "tcpSocket": { "port": port }, "timeoutSeconds": 3, "periodSeconds": 10 },
            "startupProbe": { "grpc": { "port": port, "service": "" }, "timeoutSeconds": 2, "failureThreshold": 30 },
            "securityContext": { "runAsUser": 1000, "allowPrivilegeEscalation": false },
            "volumeMounts": [
                { "name": "data", "mountPath": "/data" },
                { "name": "kube-api-access-abcde", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true },
            ],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-5d8f7c9b4-", "namespace": "shop",
            "labels": { "app": "web", "version": "v1", "pod-template-hash": "5d8f7c9b4" },
            "annotations": { "openservicemesh.io/outbound-port-exclusion-list": "27017,11211" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f7c9b4", "controller": true }],
        },
        "spec": {
            "serviceAccountName": "web", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
            "initContainers": [{ "name": "migrate", "image": "shop.example/migrate:1" }],
            "containers": [container("web", 8080), container("helper", 9090)],
            "volumes": [{ "name": "data", "emptyDir": {} }, { "name": "kube-api-access-abcde", "projected": { "sources": [] } }],
        },
    })
}
