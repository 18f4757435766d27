//! Probes by every protocol, in a meshed namespace where nobody is granted anything. The kubelet learns what the application says, of
//! each container for itself: a probe that a proxy answered for it, or that asked another container, would show.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use osm_cluster::NODE_NAME;
use osm_e2e::ClusterWorld;
use osm_testkit::apps::Health;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::LIMIT;
use crate::application::NAMESPACE;
use crate::disturbances::pods;

/// Number of the container all of whose probes are by HTTPS: it is the second that is asked so, which Envoy does not pass on. The
/// first five have each protocol once for each purpose.
const BY_HTTPS: usize = 6;
/// Containers that are told how healthy they are to be.
const CONTAINERS: std::ops::RangeInclusive<usize> = 1..=BY_HTTPS;
/// A container that takes longer to answer than its probe waits.
const HASTY: &str = "probed-hasty";
/// For how long it, and the one that is asked by a patient probe, think about an answer.
const DELAY: &str = "?delay-milliseconds=2000";
const PURPOSES: [(&str, &str); 3] = [("startup", "Startup"), ("liveness", "Liveness"), ("readiness", "Readiness")];

/// How a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Https,
    Tcp,
    Grpc,
    Exec,
}

const PROTOCOLS: [Protocol; 5] = [Protocol::Http, Protocol::Https, Protocol::Tcp, Protocol::Grpc, Protocol::Exec];

/// What the kubelet says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    started: bool,
    ready: bool,
    restarts: u64,
}

/// Applications start, get unwell and well again, and die, as they are told.
pub(crate) async fn by_every_protocol(world: &ClusterWorld) -> Result<()> {
    world.apply_objects(&[probed(world)]).await?;
    become_started(world).await?;
    nobody_else_may_ask(world).await?;
    // Each container alone has its pattern of answers in these rounds.
    for bit in 0..3 {
        let fails = |number: usize| (number >> bit) & 1 == 1;
        say(world, "readiness", |number| if fails(number) { Health::Failing } else { Health::Passing }).await?;
        let expected = |number| Seen { started: true, ready: !fails(number), restarts: 0 };
        become_(world, "readiness follows the application", expected).await?;
    }
    say(world, "readiness", |_| Health::Hanging).await?;
    let expected = |_| Seen { started: true, ready: false, restarts: 0 };
    become_(world, "who does not answer is not ready", expected).await?;
    say(world, "readiness", |_| Health::Passing).await?;
    for odd in [true, false] {
        die(world, odd).await?;
    }
    // They are asked every second, and others have work to do.
    let name = "deployment/probed";
    world.kubectl().output(&["delete", "-n", NAMESPACE, "--wait=false", name]).await.map(drop)
}

/// Nothing is started as long as it says no, and everything that the kubelet asked for was answered afterwards.
async fn become_started(world: &ClusterWorld) -> Result<()> {
    let refused = eventually("the kubelet is told that nothing is started", LIMIT, || async {
        let verdicts = verdicts(world).await?;
        for name in CONTAINERS.map(name) {
            ensure!(verdicts.contains_key(&verdict(&name, "Startup", "failed")), "{name}: {verdicts:#?}");
        }
        Ok(verdicts)
    })
    .await?;
    let told = |container: &str| CONTAINERS.map(name).any(|name| name == container);
    let early = refused.keys().find(|(container, _, result)| told(container) && result == "successful");
    ensure!(early.is_none(), "{early:?} was answered by somebody else: {refused:#?}");
    let expected = |_| Seen { started: false, ready: false, restarts: 0 };
    become_(world, "nothing is started", expected).await?;
    say(world, "startup", |_| Health::Passing).await?;
    let expected = |_| Seen { started: true, ready: true, restarts: 0 };
    become_(world, "everything is started and ready", expected).await?;
    eventually("every probe was answered, and who is asked hastily is not ready", LIMIT, || async {
        let verdicts = verdicts(world).await?;
        for (name, (_, purpose)) in CONTAINERS.flat_map(|number| PURPOSES.map(|purpose| (name(number), purpose))) {
            ensure!(verdicts.contains_key(&verdict(&name, purpose, "successful")), "{name} {purpose}: {verdicts:#?}");
        }
        let hasty = |purpose, result| verdicts.contains_key(&verdict(HASTY, purpose, result));
        ensure!(hasty("Liveness", "successful") && hasty("Readiness", "failed"), "{verdicts:#?}");
        ensure!(!hasty("Readiness", "successful"), "its own limit is not kept: {verdicts:#?}");
        Ok(())
    })
    .await
}

/// The containers of one half fail to live, and are started anew; the others are not.
async fn die(world: &ClusterWorld, odd: bool) -> Result<()> {
    let dies = |number: usize| (number % 2 == 1) == odd;
    let restarts = |number: usize| u64::from(dies(number) || !odd);
    say(world, "liveness", |number| if dies(number) { Health::Failing } else { Health::Passing }).await?;
    let expected = |number| Seen { started: !dies(number), ready: !dies(number), restarts: restarts(number) };
    become_(world, "who does not live is started anew", expected).await?;
    say(world, "startup", |_| Health::Passing).await?;
    let expected = |number| Seen { started: true, ready: true, restarts: restarts(number) };
    become_(world, "all live", expected).await
}

/// Ports of probes are open to the kubelet alone.
async fn nobody_else_may_ask(world: &ClusterWorld) -> Result<()> {
    let address = pod(world).await?["status"]["podIP"].as_str().context("the pod has an address")?.to_owned();
    for number in CONTAINERS {
        let report = world.control("caller").get(&format!("http://{address}:{}/readiness", base(number)), 1).await?;
        ensure!(report.successes() == 0 && report.attempts == 1, "nobody granted it, and yet: {report:?}");
    }
    Ok(())
}

/// Tells the containers how to answer a check.
async fn say(world: &ClusterWorld, check: &str, health: impl Fn(usize) -> Health) -> Result<()> {
    let told = CONTAINERS.map(|number| {
        let (client, health) = (world.control(&name(number)), health(number));
        // One that has just been started anew does not answer at once.
        async move { eventually("a container is told", LIMIT, || client.set_check(check, health)).await }
    });
    try_join_all(told).await.map(drop)
}

/// Waits until the kubelet says so of each container.
async fn become_(world: &ClusterWorld, what: &str, expected: impl Fn(usize) -> Seen) -> Result<()> {
    let expected: BTreeMap<String, Seen> = CONTAINERS.map(|number| (name(number), expected(number))).collect();
    eventually(what, LIMIT, || async {
        let pod = pod(world).await?;
        let statuses = pod["status"]["containerStatuses"].as_array().context("no container yet")?;
        let seen = |status: &Value| {
            let started = status["started"] == true;
            Seen { started, ready: status["ready"] == true, restarts: status["restartCount"].as_u64().unwrap_or(0) }
        };
        let all = statuses.iter().map(|status| (status["name"].as_str().unwrap_or_default().to_owned(), seen(status)));
        let (told, others): (BTreeMap<_, _>, BTreeMap<_, _>) = all.partition(|(name, _)| expected.contains_key(name));
        ensure!(told == expected, "{told:#?} instead of {expected:#?}");
        ensure!(others.values().all(|other| other.restarts == 0), "{others:#?}");
        Ok(())
    })
    .await
}

/// The one pod.
async fn pod(world: &ClusterWorld) -> Result<Value> {
    let names = pods(world, NAMESPACE, "app=probed").await?;
    let [name] = &names[..] else { anyhow::bail!("one pod, not {names:?}") };
    world.json(&["get", "pod", "-n", NAMESPACE, name]).await
}

/// Container, purpose and result of probes.
type Verdict = (String, String, String);

fn verdict(container: &str, purpose: &str, result: &str) -> Verdict {
    (container.to_owned(), purpose.to_owned(), result.to_owned())
}

/// How often the kubelet came to each verdict about the pod, by its own count.
async fn verdicts(world: &ClusterWorld) -> Result<BTreeMap<Verdict, f64>> {
    let pod = pod(world).await?;
    let uid = pod["metadata"]["uid"].as_str().context("a pod has a uid")?;
    let metrics = world.cluster().get(&format!("/api/v1/nodes/{NODE_NAME}/proxy/metrics/probes")).await?;
    let mut verdicts = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("prober_probe_total{") && line.contains(uid)) {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
        let (Some(container), Some(purpose), Some(result)) = (label("container"), label("probe_type"), label("result"))
        else {
            anyhow::bail!("{line}")
        };
        verdicts.insert(verdict(container, purpose, result), count.with_context(|| line.to_owned())?);
    }
    Ok(verdicts)
}

fn name(number: usize) -> String {
    format!("probed-{number}")
}

/// The first of a container's ports: HTTP, HTTPS, gRPC, and TCP for each purpose.
fn base(number: usize) -> usize {
    8200 + 10 * number
}

/// A pod of all containers, none of which is started before it is told to be.
fn probed(world: &ClusterWorld) -> Value {
    let mut containers: Vec<Value> = CONTAINERS.map(|number| container(world, number)).collect();
    let mut hasty = application(world, HASTY, BY_HTTPS + 1, &[]);
    let port = base(BY_HTTPS + 1);
    hasty["livenessProbe"] =
        json!({ "periodSeconds": 1, "timeoutSeconds": 10, "httpGet": { "path": "/liveness", "port": port } });
    let path = format!("/readiness{DELAY}");
    hasty["readinessProbe"] =
        json!({ "periodSeconds": 1, "timeoutSeconds": 1, "httpGet": { "path": path, "port": port } });
    containers.push(hasty);
    let mut deployment = world.deployment(NAMESPACE, "probed", "other", &[]);
    deployment["spec"]["template"]["spec"]["containers"] = json!(containers);
    deployment
}

fn container(world: &ClusterWorld, number: usize) -> Value {
    let mut container = application(world, &name(number), number, &["--failing", "startup"]);
    for (turn, (check, _)) in PURPOSES.iter().enumerate() {
        let protocol = match number {
            BY_HTTPS => Protocol::Https,
            number => PROTOCOLS[(number + turn) % PROTOCOLS.len()],
        };
        let mut probe = asks(protocol, number, turn);
        probe["periodSeconds"] = json!(1);
        // Each its own.
        probe["timeoutSeconds"] = json!(4 + number);
        probe["failureThreshold"] = json!([600, 3, 1][turn]);
        container[format!("{check}Probe")] = probe;
    }
    container
}

/// The part of a probe that says how to ask.
fn asks(protocol: Protocol, number: usize, turn: usize) -> Value {
    let (check, _) = PURPOSES[turn];
    let base = base(number);
    match protocol {
        Protocol::Http if check == "readiness" => {
            json!({ "httpGet": { "path": format!("/{check}{DELAY}"), "port": base } })
        }
        Protocol::Http => json!({ "httpGet": { "path": format!("/{check}"), "port": base } }),
        Protocol::Https => json!({ "httpGet": { "path": format!("/{check}"), "port": base + 1, "scheme": "HTTPS" } }),
        Protocol::Grpc => json!({ "grpc": { "port": base + 2, "service": check } }),
        Protocol::Tcp => json!({ "tcpSocket": { "port": base + 3 + turn } }),
        Protocol::Exec => {
            let socket = format!("/control/{}.sock", name(number));
            json!({ "exec": { "command": ["/usr/local/bin/osm-bookstore", "check", check, "--control", socket] } })
        }
    }
}

/// The application `health` as a container.
fn application(world: &ClusterWorld, name: &str, number: usize, further: &[&str]) -> Value {
    let base = base(number);
    let mut arguments = vec!["health".to_owned(), "--name".to_owned(), name.to_owned()];
    for (port, option) in ["--http", "--https", "--grpc"].into_iter().enumerate() {
        arguments.extend([option.to_owned(), format!("[::]:{}", base + port)]);
    }
    for (turn, (check, _)) in PURPOSES.iter().enumerate() {
        arguments.extend(["--tcp".to_owned(), format!("{check}=[::]:{}", base + 3 + turn)]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(further.iter().copied()).collect();
    let deployment = world.deployment(NAMESPACE, name, "other", &arguments);
    let mut container = deployment["spec"]["template"]["spec"]["containers"][0].clone();
    container["name"] = json!(name);
    container
}
