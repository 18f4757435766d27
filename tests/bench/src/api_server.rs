//! A real API server in the sandbox, and `osm-operator run` beside it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use osm_cluster::{ApiServer, KubernetesVersion};
use osm_issuer::tresor::{AuthorityMaterial, TresorConfig};
use osm_issuer::{Blame, CertificateStore, Clock, IssuerConfig, Issuers, PrivateKeyPem, StoreConfig};
use osm_testkit::{eventually, sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mesh::{Mesh, pod};
use crate::operator::{LIMIT, Log, Operator, SyntheticProxy, XDS, program};

/// Namespace of the control plane.
const CONTROL_PLANE: &str = "osm-system";
/// Requests under way at the same time while a mesh is written.
const AT_ONCE: usize = 32;

/// The API server, with the mesh's kinds.
pub struct Cluster {
    server: ApiServer,
    client: Client,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cluster").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts it and installs the kinds.
    ///
    /// # Errors
    /// Kubernetes cannot be had or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let server = ApiServer::start(KubernetesVersion::NEWEST).await?;
        let client = osm_kubernetes::client(Some(server.kubeconfig())).await?;
        let kubectl = server.kubectl();
        kubectl.output(&["create", "namespace", CONTROL_PLANE]).await?;
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/crd");
        kubectl.output(&["apply", "--server-side", "--kustomize", crds]).await?;
        kubectl.output(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]).await?;
        Ok(Self { server, client })
    }

    async fn request(&self, method: &str, path: &str, media: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let request = http::Request::builder().method(method).uri(path).header("content-type", media).body(body)?;
        self.client.request(request).await.with_context(|| format!("{method} {path}"))
    }

    /// Creates an object, with its status where it is a Pod, and gives it as it is stored.
    async fn create(&self, manifest: Value) -> anyhow::Result<Value> {
        let (collection, named) = paths(&manifest)?;
        let created = self.request("POST", &collection, "application/json", serde_json::to_vec(&manifest)?).await?;
        if manifest["kind"] == "Pod" {
            let names = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
            let conditions = names
                .map(|name| json!({ "type": name, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }));
            let status = json!({ "status": {
                "phase": "Running", "podIP": "10.244.200.1", "podIPs": [{ "ip": "10.244.200.1" }],
                "hostIP": "198.51.100.1",
                "conditions": conditions,
                "containerStatuses": [{
                    "name": "app", "image": "app.example/app:1", "imageID": "app.example/app@sha256:0", "ready": true,
                    "restartCount": 0, "started": true, "containerID": "containerd://0",
                    "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
                }],
                "qosClass": "BestEffort",
            } });
            self.merge(&format!("{named}/status"), &status).await?;
        }
        Ok(created)
    }

    /// Merges `patch` into the object at `path`.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        self.request("PATCH", path, "application/merge-patch+json", serde_json::to_vec(patch)?).await
    }

    /// The object at `path`.
    ///
    /// # Errors
    /// There is none.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.request("GET", path, "application/json", Vec::new()).await
    }

    /// Writes a mesh and Pods of its client; gives the proxies of all Pods.
    ///
    /// # Errors
    /// The API server refuses an object.
    pub async fn write(&self, mesh: Mesh, clients: u32) -> anyhow::Result<Vec<SyntheticProxy>> {
        let clients = (0..clients).map(|number| pod(Mesh::CLIENT.0, &format!("client-{number}"), Mesh::CLIENT.1));
        let manifests: Vec<Value> = mesh.manifests().flatten().chain(clients).collect();
        // What others need comes first.
        let rank = |manifest: &Value| match manifest["kind"].as_str() {
            Some("Namespace") => 0,
            Some("ServiceAccount") => 1,
            _ => 2,
        };
        let mut proxies = Vec::new();
        for step in 0..3 {
            let these = manifests.iter().filter(|manifest| rank(manifest) == step).cloned();
            let stored: Vec<Value> = futures::stream::iter(these.map(|manifest| self.create(manifest)))
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            proxies.extend(stored.iter().filter_map(proxy_of));
        }
        Ok(proxies)
    }

    /// Starts a replica of the control plane and waits until it is ready. The first one that starts serves xDS at the address for
    /// proxies.
    ///
    /// # Errors
    /// It does not come to serve; the message holds the end of its log.
    pub async fn replica(&self, name: &str, xds: SocketAddr) -> anyhow::Result<Operator> {
        let kubeconfig = self.server.kubeconfig_for(&user(name), Some("system:masters"))?;
        let ranges = Mesh::options()?.service_ranges;
        let ranges = ranges.iter().flat_map(|range| ["--service-cidr".to_owned(), range.to_string()]);
        let anywhere = "127.0.0.1:0";
        let admin = std::net::TcpListener::bind(anywhere)?.local_addr()?;
        let mut command = Command::new(sandbox::install_program(&program()?)?);
        command.arg("run").arg("--kubeconfig").arg(kubeconfig);
        command.args(["--replica-name", &format!("osm-controller-{name}"), "--listen", &xds.to_string()]);
        command.args(["--admin", &admin.to_string(), "--identity-listen", anywhere, "--webhook-listen", anywhere]);
        let log = Log::of(command.args(ranges))?;
        let ready = eventually("the control plane is ready", LIMIT, || async {
            let answer = answer(admin, "/readyz").await?;
            anyhow::ensure!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
            Ok(())
        });
        ready.await.with_context(|| log.tail())?;
        Ok(Operator::of(log, self.authority().await?))
    }

    /// The replica that proxies connect to.
    ///
    /// # Errors
    /// As for [`Self::replica`].
    pub async fn first_replica(&self) -> anyhow::Result<Operator> {
        self.replica("first", XDS).await
    }

    /// A further replica, which no proxy connects to.
    ///
    /// # Errors
    /// As for [`Self::replica`].
    pub async fn second_replica(&self) -> anyhow::Result<Operator> {
        let free = std::net::TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?.local_addr()?;
        self.replica("second", free).await
    }

    /// The authority of the mesh, as the control plane made it.
    async fn authority(&self) -> anyhow::Result<CertificateStore> {
        let arguments = ["get", "secret", "-n", CONTROL_PLANE, "osm-ca-bundle", "-o"];
        let kubectl = self.server.kubectl();
        let mut texts = Vec::new();
        for key in ["ca\\.crt", "private\\.key"] {
            let template = format!("go-template={{{{index .data {:?} | base64decode}}}}", key.replace('\\', ""));
            texts.push(kubectl.output(&[&arguments[..], &[&template]].concat()).await?);
        }
        let key = PrivateKeyPem::new(texts.pop().context("a key")?);
        let material = AuthorityMaterial::new(texts.pop().context("a certificate")?, key);
        let origin = Blame::Folder { path: PathBuf::from("benchmark") };
        let clock = Clock::system();
        let signing = IssuerConfig::Tresor(TresorConfig { material, origin }).build(clock.now())?;
        Ok(CertificateStore::new(Issuers { signing, validating: Vec::new() }, StoreConfig::default(), clock))
    }

    /// How many lines the audit log has.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn audited(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_to_string(self.server.audit_log())?.matches('\n').count())
    }

    /// What replicas asked the API server after the first `skip` lines of its audit log.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn requests(&self, skip: usize) -> anyhow::Result<Vec<Request>> {
        let log = std::fs::read_to_string(self.server.audit_log())?;
        // The last line may be half written.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut requests = BTreeMap::new();
        for line in whole.lines().skip(skip) {
            let event: Value = serde_json::from_str(line)?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let reference = &event["objectRef"];
            let request = Request {
                user: text(&event["user"]["username"]),
                verb: text(&event["verb"]),
                resource: text(&reference["resource"]),
                subresource: text(&reference["subresource"]),
            };
            // A watch has a line when it begins and one when it ends.
            requests.insert(text(&event["auditID"]), request);
        }
        Ok(requests.into_values().filter(|request| request.user.starts_with("operator-")).collect())
    }
}

/// A request of a replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// The replica.
    pub user: String,
    /// The verb.
    pub verb: String,
    /// The resource, such as `traffictargets`.
    pub resource: String,
    /// `status`, or nothing.
    pub subresource: String,
}

impl Request {
    /// Whether it writes what users see: neither a Lease nor an Event.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&&*self.verb) && !["leases", "events"].contains(&&*self.resource)
    }
}

/// Name that a replica has at the API server.
#[must_use]
pub fn user(replica: &str) -> String {
    format!("operator-{replica}")
}

/// Path of a kind's objects and of the object, by its manifest.
fn paths(manifest: &Value) -> anyhow::Result<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let version = text(&manifest["apiVersion"]).context("an apiVersion")?;
    let kind = text(&manifest["kind"]).context("a kind")?;
    let name = text(&manifest["metadata"]["name"]).context("a name")?;
    let group = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let namespace =
        text(&manifest["metadata"]["namespace"]).map_or(String::new(), |name| format!("/namespaces/{name}"));
    let collection = format!("{group}{namespace}/{}s", kind.to_lowercase());
    Ok((collection.clone(), format!("{collection}/{name}")))
}

fn proxy_of(stored: &Value) -> Option<SyntheticProxy> {
    let account = stored["spec"]["serviceAccountName"].as_str()?.to_owned();
    let metadata = |field: &str| stored["metadata"][field].as_str();
    let node = format!("{}.{}", metadata("name")?, metadata("uid")?);
    Some(SyntheticProxy { namespace: metadata("namespace")?.to_owned(), account, node })
}

async fn answer(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: admin\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(5), asking).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_paths_of_the_api() {
        let (collection, named) = paths(&pod("shop", "web-0", "web")).expect("a Pod has all it needs");
        assert_eq!((&*collection, &*named), ("/api/v1/namespaces/shop/pods", "/api/v1/namespaces/shop/pods/web-0"));
    }

    #[test]
    fn status_is_a_write_and_a_lease_is_not() {
        let request = |verb: &str, resource: &str| Request {
            user: user("first"),
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
        };
        assert!(request("patch", "traffictargets").is_write());
        assert!(!request("update", "leases").is_write() && !request("watch", "pods").is_write());
    }
}
