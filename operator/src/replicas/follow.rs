//! The side that listens: the holder of the Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use osm_api::k8s_openapi::api::core::v1::Pod;
use osm_kubernetes::Leadership;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{HEARTBEAT, Line, TELLS_PATH, read};
use crate::leading::while_leading;
use crate::reconcile::Ledger;
use crate::roots::{OtherReplicas, RootsReport};

/// Pods of the control plane.
const SELECTOR: &str = "app=osm-controller";
/// Name of the admin endpoint's port in them.
const PORT_NAME: &str = "admin";
/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait after a connection that failed or ended.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Longest line, in bytes: everything that a replica of a large mesh counts.
const LONGEST_LINE: usize = 256 * 1024 * 1024;

/// Who this replica is, and among whom.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    /// Name of its pod.
    pub(crate) pod: String,
    /// Namespace of the control plane.
    pub(crate) namespace: String,
}

/// Where it is entered what other replicas tell.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    /// What they count.
    pub(crate) ledger: Ledger,
    /// What they know of roots.
    pub(crate) roots: watch::Sender<OtherReplicas>,
}

impl Books {
    /// All replicas that there are, whatever they tell.
    fn there_are(&self, pods: &BTreeSet<String>) {
        self.roots.send_modify(|told| {
            let mut before = match std::mem::take(told) {
                OtherReplicas::Known(replicas) => replicas,
                OtherReplicas::Unknown => BTreeMap::new(),
            };
            let replicas = pods.iter().map(|pod| (pod.clone(), before.remove(pod).flatten()));
            *told = OtherReplicas::Known(replicas.collect());
        });
    }

    fn tells_of_roots(&self, pod: &str, report: Option<RootsReport>) {
        self.roots.send_modify(|told| {
            // One that is not there any more tells nothing.
            if let OtherReplicas::Known(replicas) = told
                && let Some(said) = replicas.get_mut(pod)
            {
                *said = report.map(Arc::new);
            }
        });
    }

    /// It is not heard any more. Its streams ended with it, or soon will; what it knew is not known any more.
    fn is_silent(&self, pod: &str) {
        self.ledger.replica_is_gone(pod);
        self.tells_of_roots(pod, None);
    }
}

/// Enters into `books` what the other replicas tell, while this one holds the Lease. For ever.
pub(crate) async fn follow(
    client: Client,
    replica: Replica,
    books: Books,
    mut leadership: watch::Receiver<Leadership>,
) -> Infallible {
    loop {
        let work = async {
            let mut others = Others { books: books.clone(), followed: BTreeMap::new() };
            others.watch(client.clone(), &replica).await;
        };
        while_leading(&mut leadership, work).await;
    }
}

/// The replicas that are followed, by pod; dropped, they are forgotten.
struct Others {
    books: Books,
    followed: BTreeMap<String, (SocketAddr, AbortHandle)>,
}

impl Drop for Others {
    fn drop(&mut self) {
        for (pod, (_, task)) in &self.followed {
            task.abort();
            self.books.ledger.replica_is_gone(pod);
        }
        self.books.roots.send_replace(OtherReplicas::Unknown);
    }
}

impl Others {
    async fn watch(&mut self, client: Client, replica: &Replica) {
        let pods: Api<Pod> = Api::namespaced(client, &replica.namespace);
        let mut events = std::pin::pin!(watcher(pods, watcher::Config::default().labels(SELECTOR)).default_backoff());
        let mut listed: Option<BTreeMap<String, SocketAddr>> = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed = Some(BTreeMap::new()),
                Ok(watcher::Event::InitApply(pod)) => {
                    if let (Some(listed), Some((name, address))) = (&mut listed, address_of(&pod, &replica.pod)) {
                        listed.insert(name, address);
                    }
                }
                Ok(watcher::Event::InitDone) => self.replace(listed.take().unwrap_or_default()),
                Ok(watcher::Event::Apply(pod)) => {
                    match address_of(&pod, &replica.pod) {
                        Some((name, address)) => self.follow(name, address),
                        None => self.forget(pod.metadata.name.as_deref().unwrap_or_default()),
                    }
                    self.count();
                }
                Ok(watcher::Event::Delete(pod)) => {
                    self.forget(pod.metadata.name.as_deref().unwrap_or_default());
                    self.count();
                }
                Err(error) => tracing::warn!(%error, "cannot watch the pods of the control plane; trying again"),
            }
        }
    }

    fn replace(&mut self, pods: BTreeMap<String, SocketAddr>) {
        let gone: Vec<String> = self.followed.keys().filter(|pod| !pods.contains_key(*pod)).cloned().collect();
        for pod in gone {
            self.forget(&pod);
        }
        for (pod, address) in pods {
            self.follow(pod, address);
        }
        self.count();
    }

    fn count(&self) {
        self.books.there_are(&self.followed.keys().cloned().collect());
    }

    fn follow(&mut self, pod: String, address: SocketAddr) {
        if self.followed.get(&pod).is_some_and(|(followed, _)| *followed == address) {
            return;
        }
        self.forget(&pod);
        let (books, name) = (self.books.clone(), pod.clone());
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&books, &name, address).await {
                    tracing::debug!(replica = name, %address, error = format!("{error:#}"), "cannot follow a replica");
                }
                books.is_silent(&name);
                tokio::time::sleep(RETRY_AFTER).await;
            }
        });
        self.followed.insert(pod, (address, task.abort_handle()));
    }

    fn forget(&mut self, pod: &str) {
        if let Some((_, task)) = self.followed.remove(pod) {
            task.abort();
            self.books.is_silent(pod);
        }
    }
}

/// Where another replica's admin endpoint is, if it can have one.
fn address_of(pod: &Pod, own: &str) -> Option<(String, SocketAddr)> {
    let name = pod.metadata.name.clone().filter(|name| name != own)?;
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let ip: IpAddr = status.pod_ip.as_deref()?.parse().ok()?;
    let containers = pod.spec.as_ref()?.containers.iter();
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(PORT_NAME))?.container_port;
    Some((name, SocketAddr::new(ip, u16::try_from(port).ok()?)))
}

/// Reads what a replica tells until one of the two ends.
async fn listen(books: &Books, replica: &str, address: SocketAddr) -> anyhow::Result<()> {
    let stream = timeout(CONNECT_WITHIN, TcpStream::connect(address)).await.context("connect in time")??;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get(TELLS_PATH).header(hyper::header::HOST, address.to_string());
    let request = request.body(Empty::<Bytes>::new())?;
    let reading = async {
        let response = timeout(CONNECT_WITHIN, sender.send_request(request)).await.context("answer in time")??;
        anyhow::ensure!(response.status().is_success(), "it answers {}", response.status());
        let mut body = response.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = timeout(2 * HEARTBEAT, body.frame()).await.context("hear of it in time")? {
            let Ok(data) = frame?.into_data() else { continue };
            pending.extend_from_slice(&data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                take(books, replica, &line)?;
            }
            anyhow::ensure!(pending.len() <= LONGEST_LINE, "a line is longer than {LONGEST_LINE} bytes");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        read = reading => read,
        ended = connection => Ok(ended?),
    }
}

fn take(books: &Books, replica: &str, line: &[u8]) -> anyhow::Result<()> {
    if line == b"\n" {
        return Ok(());
    }
    match serde_json::from_slice(line).context("read what it tells")? {
        Line::All(told) => books.ledger.replica_tells_all(replica, read(told)),
        Line::News(told) => books.ledger.replica_tells(replica, read(told)),
        Line::Roots(report) => books.tells_of_roots(replica, Some(report)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, ip: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "containers": [{ "name": "osm-controller", "ports": [
                { "name": "ads", "containerPort": 15128 }, { "name": "admin", "containerPort": 9091 },
            ] }] },
            "status": { "phase": phase, "podIP": ip },
        }))
        .unwrap()
    }

    #[test]
    fn other_pods_that_run_are_followed_at_their_admin_port() {
        let found = address_of(&pod("b", "Running", "10.0.0.2"), "a");
        assert_eq!(found, Some(("b".to_owned(), "10.0.0.2:9091".parse().unwrap())));
        let found = address_of(&pod("b", "Running", "fd00::2"), "a");
        assert_eq!(found, Some(("b".to_owned(), "[fd00::2]:9091".parse().unwrap())));
        assert_eq!(address_of(&pod("a", "Running", "10.0.0.2"), "a"), None, "ourselves");
        assert_eq!(address_of(&pod("b", "Failed", "10.0.0.2"), "a"), None);
        assert_eq!(address_of(&pod("b", "Pending", ""), "a"), None);
    }
}
