//! The admin endpoint of a control plane, wherever it is.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::api::{Api, ListParams};
use osm_api::k8s_openapi::api::coordination::v1::Lease;
use osm_api::k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::super::cluster::ClusterArgs;

/// Port of the admin endpoint in a pod of the control plane.
const ADMIN_PORT: u16 = 9091;
/// Labels of those pods.
const PODS: &str = "app=osm-controller";
/// The Lease that one of them holds.
const LEASE: &str = "osm-controller";

/// Which control plane.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    /// Admin endpoint of a control plane without a cluster
    #[arg(long, value_name = "ADDRESS", global = true)]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// See the module.
pub(super) enum Endpoint {
    Address(SocketAddr),
    Pod { pods: Api<Pod>, name: String },
}

impl EndpointArgs {
    /// Finds it; in a cluster the pod that holds the Lease, which knows of all others.
    pub(super) async fn open(&self) -> anyhow::Result<Endpoint> {
        if let Some(address) = self.admin {
            return Ok(Endpoint::Address(address));
        }
        let (client, namespace) = (self.cluster.client().await?, &self.cluster.osm_namespace);
        let pods = Endpoint::of_cluster(&client, namespace).await?;
        let leases: Api<Lease> = Api::namespaced(client, namespace);
        let lease = leases.get_opt(LEASE).await.with_context(|| format!("read Lease {namespace}/{LEASE}"))?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
        let holds = |endpoint: &Endpoint| {
            endpoint.replica().is_some_and(|pod| holder.split_once('_').is_some_and(|(holder, _)| holder == pod))
        };
        pods.into_iter().find(holds).with_context(|| {
            format!("no pod of the control plane that is ready in {namespace} holds the Lease {LEASE}; try again in a moment")
        })
    }

    /// Finds those of all replicas that are ready.
    pub(super) async fn open_all(&self) -> anyhow::Result<Vec<Endpoint>> {
        match self.admin {
            Some(address) => Ok(vec![Endpoint::Address(address)]),
            None => Endpoint::of_cluster(&self.cluster.client().await?, &self.cluster.osm_namespace).await,
        }
    }
}

impl Endpoint {
    async fn of_cluster(client: &Client, namespace: &str) -> anyhow::Result<Vec<Self>> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let found = pods.list(&ListParams::default().labels(PODS)).await.context("list pods of the control plane")?;
        let ready = found.items.into_iter().filter(is_ready).filter_map(|pod| pod.metadata.name);
        let all: Vec<Self> = ready.map(|name| Self::Pod { pods: pods.clone(), name }).collect();
        anyhow::ensure!(!all.is_empty(), "no pod of the control plane is ready in {namespace} (--osm-namespace)");
        Ok(all)
    }

    /// The pod; none without a cluster.
    pub(super) fn replica(&self) -> Option<&str> {
        match self {
            Self::Address(_) => None,
            Self::Pod { name, .. } => Some(name),
        }
    }

    /// A page.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path).await
    }

    /// Something to be done.
    pub(super) async fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::POST, path).await
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        match self {
            Self::Address(address) => {
                let stream = TcpStream::connect(address);
                let stream = stream.await.with_context(|| format!("reach the control plane at {address} (--admin)"))?;
                exchange(stream, method, path).await
            }
            Self::Pod { pods, name } => {
                let forwarded = pods.portforward(name, &[ADMIN_PORT]).await;
                let mut forwarded = forwarded.with_context(|| format!("reach pod {name} of the control plane"))?;
                let stream = forwarded.take_stream(ADMIN_PORT).context("the forwarded port has no stream")?;
                exchange(stream, method, path).await
            }
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn exchange<S>(stream: S, method: Method, path: &str) -> anyhow::Result<Value>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the stream.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(hyper::header::HOST, "localhost");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await;
    let answer = answer.context("the control plane does not answer")?;
    let status = answer.status();
    let body = answer.into_body().collect().await.context("the answer ended early")?.to_bytes();
    // Certificates that could not be renewed are an answer, too.
    match super::parse(path, &body) {
        Ok(value) => Ok(value),
        Err(_) if !status.is_success() => {
            bail!("the control plane answers {status} to {path}: {}", String::from_utf8_lossy(&body).trim())
        }
        Err(error) => Err(error),
    }
}
