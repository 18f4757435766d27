//! From an object that is applied to a real Envoy that runs it, and what a change of policy writes. Runs in a sandbox.

use std::time::Duration;

use anyhow::Context;
use osm_api::k8s_openapi::jiff::Timestamp;
use osm_testkit::{Envoy, EnvoyBinary, Fabric, NEWEST_ENVOY, eventually};
use serde_json::{Value, json};

use crate::api_server::Cluster;
use crate::figure::{Figure, Goal};
use crate::measure::{Effort, progress};
use crate::mesh::{Access, Mesh, PODS, namespace_of};
use crate::operator::{LIMIT, Operator, SyntheticProxy};
use crate::statistics::{Summary, quantile};

const MESH: Mesh = Mesh { services: 100, access: Access::Policy, pods: PODS };
/// Synthetic proxies of the same workload.
const SYNTHETIC: usize = 200;
/// Changes before the first that counts.
const WARM_UP: u32 = 20;
/// Time between the starts of two changes; see the measure on a folder.
const PACE: Duration = Duration::from_millis(37);
/// Changes of policy whose writes are counted.
const POLICY_CHANGES: u32 = 10;
/// Longer than the control plane puts off a write.
const AT_REST: Duration = Duration::from_secs(3);

/// One change, in milliseconds from just before its request is sent.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Until the API server had answered.
    answered: f64,
    /// Until the real Envoy had acknowledged it.
    real: f64,
}

/// Changes EndpointSlices at an API server until they are acknowledged; then policies, and counts what is written.
///
/// # Errors
/// Something does not start, or is not acknowledged.
pub async fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let changes = if effort == Effort::QUICK { 60 } else { 300 };
    let fabric = Fabric::create().await?;
    let cluster = Cluster::start().await?;
    let clients = u32::try_from(SYNTHETIC)? + 1;
    let proxies = cluster.write(MESH, clients).await?;
    let mut clients = proxies.into_iter().filter(|proxy| proxy.namespace == Mesh::CLIENT.0);
    let real = clients.next().context("a Pod of the client")?;
    let synthetic: Vec<SyntheticProxy> = clients.collect();
    let mut operator = cluster.first_replica().await?;
    let pod = fabric.add_pod("real").await?;
    let binary = EnvoyBinary::find(NEWEST_ENVOY)?;
    let spec = operator.sidecar(&pod, Mesh::CLIENT, &binary, Some(&real.node)).await?;
    let mut envoy = Envoy::start(&pod, &spec)?;
    envoy.ready(LIMIT).await?;
    let mut sidecars = operator.synthetic_sidecars(&synthetic).await?;
    operator.wait_in_sync(SYNTHETIC + 1).await?;
    progress(&format!("API server: Envoy and {SYNTHETIC} synthetic proxies are in sync"));

    let real = format!("{}/{}/{}", real.namespace, real.account, real.node);
    let mut samples = Vec::new();
    let mut clock = tokio::time::interval(PACE);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0..WARM_UP + changes {
        clock.tick().await;
        let sample = change(&cluster, &mut operator, &real, number).await;
        let sample = sample.with_context(|| format!("change {number}"))?;
        samples.extend((number >= WARM_UP).then_some(sample));
        sidecars.check()?;
    }
    progress("API server: all endpoints are changed");
    let mut figures = propagation(&samples)?;
    figures.extend(writes(&cluster).await?);
    sidecars.check()?;
    envoy.stop().await?;
    Ok(figures)
}

async fn change(cluster: &Cluster, operator: &mut Operator, real: &str, number: u32) -> anyhow::Result<Sample> {
    let (service, generation) = (number % MESH.services, 1 + number / MESH.services);
    let slice = MESH.endpoint_slice(service, generation);
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/service-{service}-slice",
        namespace_of(service)
    );
    let before = operator.newest_epoch();
    let start = Timestamp::now();
    let since_start = |end: Timestamp| end.duration_since(start).as_secs_f64() * 1e3;
    cluster.merge(&path, &json!({ "endpoints": slice["endpoints"] })).await?;
    let answered = since_start(Timestamp::now());
    let mut sample = None;
    loop {
        let in_sync = operator.next_in_sync().await?;
        if in_sync.epoch > before && in_sync.proxy == real {
            sample.get_or_insert(Sample { answered, real: since_start(in_sync.at) });
        }
        // The next change finds everybody at rest.
        if let Some(sample) = sample
            && operator.have_synced(before + 1, SYNTHETIC + 1)
        {
            return Ok(sample);
        }
    }
}

fn propagation(samples: &[Sample]) -> anyhow::Result<Vec<Figure>> {
    let figure = |key: &str, goal: Goal, share: f64, of: fn(&Sample) -> f64, what: &str| {
        let values: Vec<f64> = samples.iter().map(of).collect();
        let summary = Summary::of(values.clone()).context("no samples")?;
        let median = quantile(values, share).context("no samples")?;
        let meaning = format!(
            "milliseconds {what}; {} services by policy on a real API server with etcd in memory, `osm-operator run`, a real \
             Envoy {NEWEST_ENVOY} and {SYNTHETIC} synthetic proxies by mutual TLS, one EndpointSlice changed every {} ms",
            MESH.services,
            PACE.as_millis(),
        );
        anyhow::Ok(Figure::new(key, goal, Summary { median, ..summary }, meaning))
    };
    let whole = "from just before a change is sent to the API server until the real Envoy has acknowledged it";
    let answered = "from just before a change is sent to the API server until the API server has answered";
    let ours = "from the API server's answer to a change until the real Envoy has acknowledged it";
    let after: fn(&Sample) -> f64 = |sample| sample.real - sample.answered;
    let reason = |share: f64, of_which: &str| {
        let values = |of: fn(&Sample) -> f64| quantile(samples.iter().map(of).collect(), share).context("no samples");
        let (answers, rest) = (values(|sample| sample.answered)?, values(after)?);
        anyhow::Ok(format!(
            "{of_which} the API server takes {answers:.1} ms to answer and everything after that {rest:.1} ms, on a machine that \
             they share with each other and {SYNTHETIC} proxies"
        ))
    };
    Ok(vec![
        figure("api_event_to_ack_ms_p50", Goal::AtMost(5.0), 0.5, |sample| sample.real, whole)?
            .short_because(reason(0.5, "in half of the changes")?),
        figure("api_event_to_ack_ms_p99", Goal::AtMost(20.0), 0.99, |sample| sample.real, whole)?
            .short_because(reason(0.99, "in one of a hundred changes")?),
        figure("api_answer_ms_p50", Goal::Record, 0.5, |sample| sample.answered, answered)?,
        figure("api_answer_ms_p99", Goal::Record, 0.99, |sample| sample.answered, answered)?,
        figure("api_answer_to_ack_ms_p50", Goal::Record, 0.5, after, ours)?,
        figure("api_answer_to_ack_ms_p99", Goal::Record, 0.99, after, ours)?,
    ])
}

fn target_path(service: u32) -> String {
    let namespace = namespace_of(service);
    format!("/apis/access.smi-spec.io/v1alpha3/namespaces/{namespace}/traffictargets/service-{service}")
}

/// Takes the client's right away from one service after the other.
async fn writes(cluster: &Cluster) -> anyhow::Result<Vec<Figure>> {
    wait_for_status(cluster, 0).await?;
    tokio::time::sleep(AT_REST).await;
    let (mut of_policy, mut of_all) = (Vec::new(), Vec::new());
    for service in 0..POLICY_CHANGES {
        let before = cluster.audited()?;
        let [_, target] = MESH.policy(service);
        let sources: Vec<Value> =
            target["spec"]["sources"].as_array().context("sources")?.iter().skip(1).cloned().collect();
        cluster.merge(&target_path(service), &json!({ "spec": { "sources": sources } })).await?;
        wait_for_status(cluster, service).await?;
        tokio::time::sleep(AT_REST).await;
        let writes: Vec<_> = cluster.requests(before)?.into_iter().filter(|request| request.is_write()).collect();
        of_policy.push(writes.iter().filter(|request| request.resource == "traffictargets").count() as f64);
        of_all.push(writes.len() as f64);
    }
    let mean = |values: Vec<f64>| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        anyhow::Ok(Summary { median: mean, ..Summary::of(values).context("changes")? })
    };
    let meaning = |what: &str| {
        format!(
            "{what} when a TrafficTarget changes that concerns {} proxies, by the API server's audit log; mean of {POLICY_CHANGES} changes",
            SYNTHETIC + 1
        )
    };
    Ok(vec![
        Figure::new(
            "status_writes_per_policy_change",
            Goal::AtMost(2.0),
            mean(of_policy)?,
            meaning("writes of the policy's status, until all proxies have acknowledged it,"),
        ),
        Figure::new(
            "writes_per_policy_change",
            Goal::Record,
            mean(of_all)?,
            meaning(
                "all writes but Leases and Events: the policy's status and the ProxySnapshots of the workloads concerned,",
            ),
        ),
    ])
}

/// Waits until the status of a service's TrafficTarget is final for its spec.
async fn wait_for_status(cluster: &Cluster, service: u32) -> anyhow::Result<()> {
    eventually("the TrafficTarget is ready", LIMIT, || async {
        let object = cluster.get(&target_path(service)).await?;
        let status = &object["status"];
        let ready = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        anyhow::ensure!(ready && status["observedGeneration"] == object["metadata"]["generation"], "{status}");
        Ok(())
    })
    .await
}
