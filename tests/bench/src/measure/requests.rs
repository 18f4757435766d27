//! Requests through two sidecars with the redirect rules of a pod: the first to each service, and many on one connection.
//! Runs in a sandbox.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context;
use osm_intercept::InterceptConfig;
use osm_testkit::apps::{ConnectionUse, Latency, LoadRequest, Target, TryRequest};
use osm_testkit::sandbox::STATE_DIRECTORY;
use osm_testkit::{EnvoyBinary, Fabric, NEWEST_ENVOY, ServiceRule, Workload, WorkloadSpec};
use serde_json::{Value, json};

use crate::figure::{Figure, Goal};
use crate::folder::Folder;
use crate::measure::{Effort, progress};
use crate::mesh::{Access, Mesh, PODS};
use crate::operator::{LIMIT, Operator};
use crate::statistics::Summary;

/// Services whose first requests warm everything up that is not of the service.
const WARM_UP: u32 = 5;
/// Later requests to a service, whose median is subtracted.
const LATER: u32 = 5;
/// Requests a second on the kept connection.
const RATE: u32 = 400;
/// Namespace and ServiceAccount of the one server of all services.
const SERVER: (&str, &str) = ("bench-server", "server");
/// Port of Services, and of the server.
const PORT: u16 = 80;
const TARGET_PORT: u16 = 8080;
/// A Service of a server outside the mesh.
const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);

/// Measures both.
///
/// # Errors
/// Something does not start, or a request fails.
pub async fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let (services, requests) = if effort == Effort::QUICK { (40, 300) } else { (120, 1000) };
    let fabric = Fabric::create().await?;
    let scene = Scene::start(&fabric, services + WARM_UP).await?;
    progress("requests: both sidecars are ready");
    let mut figures = vec![scene.first_requests(services).await?];
    figures.extend(scene.sidecar_pair(effort.rounds, requests).await?);
    Ok(figures)
}

/// A client and a server in the mesh, and a client and a server outside it. Ends when dropped.
struct Scene {
    client: Workload,
    _server: Workload,
    plain_client: Workload,
    _plain_server: Workload,
    _operator: Operator,
}

impl Scene {
    async fn start(fabric: &Fabric, services: u32) -> anyhow::Result<Self> {
        let application = |name: &str| WorkloadSpec::new(name, ["client", "--name", name]);
        let echo = |name: &str| {
            WorkloadSpec::new(name, ["http-echo", "--listen", &format!("[::]:{TARGET_PORT}"), "--name", name])
        };
        let mut client = Workload::start(fabric, &application("client")).await?;
        let mut server = Workload::start(fabric, &echo("server")).await?;
        let plain_client = Workload::start(fabric, &application("plain-client")).await?;
        let plain_server = Workload::start(fabric, &echo("plain-server")).await?;
        let endpoint = SocketAddr::new(IpAddr::V4(plain_server.pod().ipv4()), TARGET_PORT);
        let plain = ServiceRule { cluster_ip: IpAddr::V4(PLAIN), port: PORT, endpoints: vec![endpoint] };
        fabric.set_services(&[plain]).await?;

        let folder = Folder::create(&Path::new(STATE_DIRECTORY).join("bench"), "requests")?;
        folder.replace("mesh.yaml", &manifests(services, client.pod().ipv4(), server.pod().ipv4()))?;
        let mut operator = Operator::start(folder.manifests(), folder.state()).await?;
        let binary = EnvoyBinary::find(NEWEST_ENVOY)?;
        for (workload, identity) in [(&mut client, Mesh::CLIENT), (&mut server, SERVER)] {
            let spec = operator.sidecar(workload.pod(), identity, &binary, None).await?;
            workload.join_mesh(&spec, &InterceptConfig::default())?.ready(LIMIT).await?;
        }
        operator.wait_in_sync(2).await?;
        Ok(Self { client, _server: server, plain_client, _plain_server: plain_server, _operator: operator })
    }

    /// First requests to services that the client's sidecar has not used.
    async fn first_requests(&self, services: u32) -> anyhow::Result<Figure> {
        let mut extra = Vec::new();
        for service in 0..WARM_UP + services {
            let url = format!("http://{}:{PORT}/", Mesh::cluster_ip(service));
            let first = self.latency(&url, 1).await.with_context(|| format!("first request to service {service}"))?;
            let later = self.latency(&url, LATER).await.with_context(|| format!("requests to service {service}"))?;
            extra.extend((service >= WARM_UP).then_some(first.p50 - later.p50));
        }
        let meaning = format!(
            "milliseconds that the first request to a service takes longer than the median of {LATER} later ones, each on a \
             new connection of the application; {services} services in permissive mode, two sidecars ({NEWEST_ENVOY}) with redirect \
             rules, one server; the first one includes fetching the cluster and the sidecars' first connection for it"
        );
        let summary = Summary::of(extra).context("no services")?;
        Ok(Figure::new("first_request_extra_ms_p50", Goal::AtMost(8.0), summary, meaning))
    }

    async fn latency(&self, url: &str, count: u32) -> anyhow::Result<Latency> {
        let report = self.client.control().attempt(&TryRequest::new(Target::get(url), count)).await?;
        anyhow::ensure!(report.successes() == u64::from(count), "{url}: {:?} {:?}", report.statuses, report.samples);
        Ok(report.latency_milliseconds)
    }

    /// Latency on a kept connection, with the mesh and without it in turn.
    async fn sidecar_pair(&self, rounds: usize, requests: u64) -> anyhow::Result<Vec<Figure>> {
        let meshed_url = format!("http://{}:{PORT}/", Mesh::cluster_ip(0));
        let plain_url = format!("http://{PLAIN}:{PORT}/");
        let (mut median, mut tail) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let meshed = load(&self.client, &meshed_url, requests).await?;
            let plain = load(&self.plain_client, &plain_url, requests).await?;
            median.push(meshed.p50 - plain.p50);
            tail.push(meshed.p99 - plain.p99);
        }
        let meaning = |percentile: &str| {
            format!(
                "milliseconds that two sidecars ({NEWEST_ENVOY}, mutual TLS, redirect rules) add to the {percentile} of an HTTP/1.1 \
                 request on a kept connection, {RATE} a second, {requests} in each of {rounds} rounds with and without the mesh in turn"
            )
        };
        Ok(vec![
            Figure::new(
                "sidecar_pair_added_ms_p50",
                Goal::Record,
                Summary::of(median).context("no rounds")?,
                meaning("median"),
            ),
            Figure::new(
                "sidecar_pair_added_ms_p99",
                Goal::Record,
                Summary::of(tail).context("no rounds")?,
                meaning("99th percentile"),
            ),
        ])
    }
}

async fn load(client: &Workload, url: &str, requests: u64) -> anyhow::Result<Latency> {
    let mut request = LoadRequest::new(Target::get(url));
    (request.concurrency, request.rate, request.connections) = (1, Some(RATE), ConnectionUse::Reuse);
    let running = client.control().start_load(&request).await?;
    running.reach(requests, LIMIT).await?;
    let report = running.finish().await?;
    anyhow::ensure!(report.unsuccessful() == 0, "{url}: {:?} {:?}", report.statuses, report.samples);
    Ok(report.latency_milliseconds)
}

/// A permissive mesh of a client and of services that all lead to one server.
fn manifests(services: u32, client: Ipv4Addr, server: Ipv4Addr) -> Vec<Value> {
    let mut manifests =
        Mesh { services: 0, access: Access::Permissive, pods: PODS }.manifests().flatten().collect::<Vec<_>>();
    let (namespace, account) = SERVER;
    let label = json!({ "openservicemesh.io/monitored-by": "osm" });
    manifests.push(json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": label },
    }));
    manifests.push(json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": namespace, "name": account },
    }));
    manifests.push(pod(Mesh::CLIENT, client));
    manifests.push(pod(SERVER, server));
    for service in 0..services {
        let (name, address) = (format!("service-{service}"), Mesh::cluster_ip(service));
        manifests.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": namespace, "name": name },
            "spec": {
                "clusterIP": address, "clusterIPs": [address],
                "ports": [{ "name": "http", "port": PORT, "targetPort": TARGET_PORT }],
            },
        }));
        manifests.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": namespace, "name": format!("{name}-slice"), "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": TARGET_PORT }],
            "endpoints": [{ "addresses": [server], "targetRef": { "kind": "Pod", "name": account } }],
        }));
    }
    manifests
}

/// The pod of a workload, named as its ServiceAccount.
fn pod((namespace, account): (&str, &str), address: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": namespace, "name": account },
        "spec": { "serviceAccountName": account, "containers": [] },
        "status": { "podIP": address, "podIPs": [{ "ip": address }] },
    })
}
