//! Which level of pod security injected pods need.

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use osm_admission::{Injection, InjectorConfig, Membership, NamespaceSettings, PodAdmission, Switch, inject};
use osm_engine::Options;
use osm_operator::WebhookArgs;
use serde_json::{Value, json};

use crate::world::World;

#[derive(Debug, clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    webhooks: WebhookArgs,
}

/// A pod that meets the strictest level by itself.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": {
            "serviceAccountName": "web",
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "web", "image": "web",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "runAsUser": 1000 },
                // By TCP, so that there is a container for probes as well.
                "livenessProbe": { "tcpSocket": { "port": 8080 } },
            }],
        },
    })
}

fn injected() -> Result<Value> {
    let options = Options {
        mesh_name: "osm".into(),
        control_plane_namespace: "osm-system".into(),
        trust_domain: osm_model::TrustDomain::new("cluster.local")?,
        cluster_domain: "cluster.local".into(),
        service_ranges: Vec::new(),
    };
    let defaults = CommandLine::parse_from(["run"]).webhooks.injector(&options);
    let namespace = NamespaceSettings { membership: Membership::Member, injection: Switch::On, metrics: Switch::Unset };
    let review = PodAdmission { uid: "a".to_owned(), namespace: "shop".to_owned(), pod: pod() };
    let injection = inject(&review, &namespace, &InjectorConfig::new(defaults, None));
    let Injection::Patch { patch, .. } = injection else { anyhow::bail!("{injection:?}") };
    let mut pod = pod();
    json_patch::patch(&mut pod, &patch)?;
    Ok(pod)
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_pods_need_the_level_privileged_for_their_init_container_and_nothing_else() -> Result<()> {
    let world = World::start().await?;
    let injected = injected()?;
    let mut without_init = injected.clone();
    let containers = without_init["spec"]["initContainers"].as_array_mut().context("it has init containers")?;
    ensure!(containers.len() == 3, "{containers:?}");
    containers.retain(|container| container["name"] != "osm-init");
    for level in ["privileged", "baseline", "restricted"] {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": level, "labels": { "pod-security.kubernetes.io/enforce": level } },
        });
        world.apply(&namespace.to_string()).await?;
        let account =
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": level, "name": "web" } });
        world.apply(&account.to_string()).await?;
        let create = ["create", "--namespace", level, "--dry-run=server", "--filename=-"];
        for (what, pod, is_admitted) in [
            ("as its author wrote it", pod(), true),
            ("injected", injected.clone(), level == "privileged"),
            ("injected, without the init container", without_init.clone(), true),
        ] {
            let output = world.server.kubectl().run_with_input(&create, &pod.to_string()).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success() == is_admitted, "{level}, {what}: {said}");
            ensure!(
                is_admitted || (said.contains("NET_ADMIN") && !said.contains("\"envoy\"")),
                "{level}, {what}: {said}"
            );
        }
    }
    Ok(())
}
