//! An API server, control planes beside it as processes of their own, and proxies that speak ADS to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use osm_cluster::{ApiServer, KubernetesVersion};
use osm_testkit::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// For a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Namespace of the control plane.
pub(crate) const CONTROL_PLANE: &str = "osm-system";

/// The mesh of most tests: `api` is served to `buyer`, both in `shop`.
pub(crate) const SHOP: &str = include_str!("shop.yaml");

/// The API server with our kinds, and where processes keep their logs.
pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    /// An API server that knows our kinds.
    pub(crate) async fn start() -> Result<Self> {
        let world = Self::without_crds().await?;
        world.install_crds().await?;
        Ok(world)
    }

    /// An API server that knows none of our kinds.
    pub(crate) async fn without_crds() -> Result<Self> {
        // The first TLS connection of the process; a second test finds it done.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = ApiServer::start(KubernetesVersion::NEWEST).await?;
        server.kubectl().output(&["create", "namespace", CONTROL_PLANE]).await?;
        Ok(Self { server, folder: tempfile::tempdir()? })
    }

    pub(crate) async fn install_crds(&self) -> Result<()> {
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/crd");
        self.server.kubectl().output(&["apply", "--server-side", "--kustomize", crds]).await?;
        self.server
            .kubectl()
            .output(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"])
            .await?;
        Ok(())
    }

    pub(crate) async fn apply(&self, manifests: &str) -> Result<()> {
        self.server.kubectl().apply(manifests).await.map(drop)
    }

    /// An object, by its path in the API.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.server.get(path).await?)?)
    }

    /// Waits until `holds` of the status of an object.
    pub(crate) async fn wait_for_status(
        &self,
        path: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        eventually(what, LIMIT, || async {
            let object = self.get(path).await?;
            ensure!(holds(&object["status"]), "the status of {path} is {}", object["status"]);
            Ok(object)
        })
        .await
    }

    /// Waits until an object is as it should be in its newest generation, with this many acknowledgements.
    pub(crate) async fn wait_ready(&self, path: &str, acked: &str) -> Result<Value> {
        eventually("the object is ready", LIMIT, || async {
            let object = self.get(path).await?;
            let status = &object["status"];
            ensure!(
                condition(status, "Ready").is_some_and(|(status, _)| status == "True")
                    && status["observedGeneration"] == object["metadata"]["generation"]
                    && status["propagation"]["acked"] == acked,
                "the status of {path} is {status}"
            );
            Ok(object)
        })
        .await
    }

    /// Requests in the audit log that wrote something other than Leases and Events, as `(user, verb, what)`.
    pub(crate) fn writes(&self) -> Result<Vec<(String, String, String)>> {
        let log = std::fs::read_to_string(self.server.audit_log())?;
        // The last line may be half written.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut writes = Vec::new();
        for line in whole.lines() {
            let event: Value = serde_json::from_str(line)?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (verb, reference) = (text(&event["verb"]), &event["objectRef"]);
            let resource = text(&reference["resource"]);
            if ["get", "list", "watch"].contains(&&*verb) || ["leases", "events"].contains(&&*resource) {
                continue;
            }
            let what = format!("{resource}/{}/{}", text(&reference["namespace"]), text(&reference["name"]));
            writes.push((text(&event["user"]["username"]), verb, what));
        }
        Ok(writes)
    }

    /// What control planes wrote, by their users' names.
    pub(crate) fn operator_writes(&self) -> Result<Vec<(String, String, String)>> {
        let mut writes = self.writes()?;
        writes.retain(|(user, ..)| user.starts_with("operator"));
        Ok(writes)
    }

    /// A control plane that is ready.
    pub(crate) async fn operator(&self, name: &str, more: &[&str]) -> Result<Operator> {
        let operator = self.start_operator(name, more).await?;
        operator.wait_until_ready().await?;
        Ok(operator)
    }

    /// A control plane that listens, and may wait for something.
    pub(crate) async fn start_operator(&self, name: &str, more: &[&str]) -> Result<Operator> {
        let kubeconfig = self.server.kubeconfig_for(&format!("operator-{name}"), Some("system:masters"))?;
        self.start_operator_as(name, &kubeconfig, more).await
    }

    /// As [`start_operator`](Self::start_operator), with what the user of a kubeconfig may do.
    pub(crate) async fn start_operator_as(&self, name: &str, kubeconfig: &Path, more: &[&str]) -> Result<Operator> {
        let mut arguments = vec!["run", "--kubeconfig", kubeconfig.to_str().context("a path of text")?];
        // A name that no pod has.
        let replica = format!("osm-controller-{name}");
        arguments.extend(["--replica-name", &replica, "--drain-seconds", "1"]);
        let anywhere = "127.0.0.1:0";
        arguments.extend(["--admin", anywhere]);
        if !more.contains(&"--listen") {
            arguments.extend(["--listen", anywhere]);
        }
        arguments.extend(["--identity-listen", anywhere, "--webhook-listen", anywhere]);
        arguments.extend(more);
        Operator::start(self.folder.path(), name, &arguments).await
    }

    /// The certificate authority in a Secret of the control plane's namespace.
    pub(crate) async fn authority_in(&self, secret: &str) -> Result<osm_issuer::CertificateStore> {
        use base64::Engine;
        let secret = self.get(&format!("/api/v1/namespaces/{CONTROL_PLANE}/secrets/{secret}")).await?;
        let text = |key: &str| -> Result<String> {
            let encoded = secret["data"][key].as_str().context("the Secret has the key")?;
            Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded)?)?)
        };
        // As OSM keeps it, or as cert-manager does.
        let is_ours = !secret["data"]["private.key"].is_null();
        let (certificate, key) = if is_ours { ("ca.crt", "private.key") } else { ("tls.crt", "tls.key") };
        let key = osm_issuer::PrivateKeyPem::new(text(key)?);
        let material = osm_issuer::tresor::AuthorityMaterial::new(text(certificate)?, key);
        let origin = osm_issuer::Blame::Folder { path: PathBuf::from("test") };
        let config = osm_issuer::IssuerConfig::Tresor(osm_issuer::tresor::TresorConfig { material, origin });
        let clock = osm_issuer::Clock::system();
        let signing = config.build(clock.now())?;
        let issuers = osm_issuer::Issuers { signing, validating: Vec::new() };
        Ok(osm_issuer::CertificateStore::new(issuers, osm_issuer::StoreConfig::default(), clock))
    }

    /// Who the proxy of a pod is: as whom its certificates name it.
    async fn identity(&self, pod: &str, account: &str) -> Result<osm_issuer::ProxyIdentity> {
        let object = self.get(&format!("/api/v1/namespaces/shop/pods/{pod}")).await?;
        let uid = object["metadata"]["uid"].as_str().context("the pod has a uid")?;
        let trust_domain = osm_issuer::TrustDomain::new("cluster.local")?;
        let workload = osm_issuer::WorkloadIdentity::new(trust_domain, "shop", account)?;
        Ok(osm_issuer::ProxyIdentity::new(workload, format!("{pod}.{uid}").as_str())?)
    }

    /// What the proxy of a pod connects with, by the authority in a Secret.
    pub(crate) async fn credentials(
        &self,
        secret: &str,
        pod: &str,
        account: &str,
    ) -> Result<osm_xds_test_support::Tls> {
        self.credentials_by(&self.authority_in(secret).await?, pod, account).await
    }

    /// Likewise, by whoever issues for a store.
    pub(crate) async fn credentials_by(
        &self,
        store: &osm_issuer::CertificateStore,
        pod: &str,
        account: &str,
    ) -> Result<osm_xds_test_support::Tls> {
        let identity = self.identity(pod, account).await?;
        let leaf = store.certificate(&osm_issuer::PeerIdentity::Proxy(identity)).await?;
        Ok(osm_xds_test_support::Tls {
            identity: Some(osm_xds_test_support::Identity {
                certificate: leaf.material().certificate_chain_pem().to_owned(),
                key: leaf.material().expose_private_key_pem().to_owned(),
                der: leaf.material().certificate_chain()[0].to_vec(),
            }),
            authority: store.trust_bundle().await?.pem(),
            server_name: "ads.cluster.local".to_owned(),
        })
    }

    /// A proxy of a pod, which connects to the first of `operators` that takes it, and comes back when its stream ends.
    pub(crate) async fn proxy(&self, pod: &str, account: &str, operators: &[SocketAddr]) -> Result<Proxy> {
        let node = self.identity(pod, account).await?.node().to_owned();
        let tls = self.credentials("osm-ca-bundle", pod, account).await?;
        Ok(Proxy::connect(node, tls, operators.to_vec()))
    }
}

/// Status and reason of a condition.
pub(crate) fn condition(status: &Value, type_: &str) -> Option<(String, String)> {
    let condition = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)?;
    Some((condition["status"].as_str()?.to_owned(), condition["reason"].as_str()?.to_owned()))
}

/// A control plane as a process.
pub(crate) struct Operator {
    pub(crate) xds: SocketAddr,
    pub(crate) admin: SocketAddr,
    process: Child,
    log: PathBuf,
}

impl Operator {
    pub(crate) async fn start(folder: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        let count = std::fs::read_dir(folder)?.count();
        let log = folder.join(format!("{name}-{count}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_osm-operator"));
        command.args(arguments).stdin(Stdio::null()).stderr(std::fs::File::create(&log)?).kill_on_drop(true);
        let process = command.spawn()?;
        let mut operator = Self { xds: nowhere(), admin: nowhere(), process, log };
        let listening = eventually("the control plane listens", LIMIT, || {
            let text = std::fs::read_to_string(&operator.log).unwrap_or_default();
            async move {
                let line = text.lines().find(|line| line.contains("\"xds\":")).context(text.clone())?;
                Ok(serde_json::from_str::<Value>(line)?)
            }
        })
        .await?;
        let address = |field: &str| -> Result<SocketAddr> {
            Ok(listening["fields"][field].as_str().context("the line says where")?.parse()?)
        };
        (operator.xds, operator.admin) = (address("xds")?, address("admin")?);
        Ok(operator)
    }

    pub(crate) async fn wait_until_ready(&self) -> Result<()> {
        eventually("the control plane is ready", LIMIT, || async {
            let (code, body) = self.get("/readyz").await?;
            ensure!(code == 200, "{code} {body}; it said:\n{}", self.log());
            Ok(())
        })
        .await
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Status code and body of an admin page.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String)> {
        self.request("GET", path).await
    }

    pub(crate) async fn request(&self, method: &str, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).await?;
        stream.write_all(format!("{method} {path} HTTP/1.0\r\nHost: admin\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a whole answer")?;
        let code = head.split(' ').nth(1).context("a status line")?.parse()?;
        Ok((code, body.to_owned()))
    }

    pub(crate) async fn json(&self, path: &str) -> Result<Value> {
        let (code, body) = self.get(path).await?;
        ensure!(code == 200, "{path} answers {code}: {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// As SIGKILL does.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Stops it where it is: its connections stay, and nothing is answered.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// Lets it go on after [`Operator::pause`].
    pub(crate) fn go_on(&self) -> Result<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = self.process.id().context("it runs")?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// As a rollout does; the process must end well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.signal(rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(LIMIT, self.process.wait()).await.context("it ends in time")??;
        ensure!(status.success(), "it ended with {status}; it said:\n{}", self.log());
        Ok(())
    }
}

fn nowhere() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

/// What a proxy knows and does, for the test to look at.
#[derive(Debug, Default)]
pub(crate) struct ProxyState {
    /// How often a stream was opened and had a response.
    pub(crate) streams: usize,
    /// Resources that were sent, over all streams, by type.
    pub(crate) received: usize,
    /// How the last stream ended.
    pub(crate) last_end: String,
}

/// A proxy that acknowledges everything.
pub(crate) struct Proxy {
    state: Arc<Mutex<ProxyState>>,
    tls: Arc<Mutex<osm_xds_test_support::Tls>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    fn connect(node: String, tls: osm_xds_test_support::Tls, operators: Vec<SocketAddr>) -> Self {
        let state = Arc::new(Mutex::new(ProxyState::default()));
        let tls = Arc::new(Mutex::new(tls));
        let task = tokio::spawn({
            let (state, tls) = (Arc::clone(&state), Arc::clone(&tls));
            async move {
                // As Envoy's own, which a real bootstrap sets so.
                let mut pause = tokio::time::interval(Duration::from_millis(100));
                pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                for operator in operators.iter().cycle() {
                    pause.tick().await;
                    let tls = tls.lock().unwrap().clone();
                    let ended = stream(&node, &tls, *operator, &state).await;
                    state.lock().unwrap().last_end = format!("{ended:?}");
                }
            }
        });
        Self { state, tls, task }
    }

    /// Connects with these from the next time on.
    pub(crate) fn renew(&self, tls: osm_xds_test_support::Tls) {
        *self.tls.lock().unwrap() = tls;
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&ProxyState) -> T) -> T {
        look(&self.state.lock().unwrap())
    }
}

async fn stream(
    node: &str,
    tls: &osm_xds_test_support::Tls,
    operator: SocketAddr,
    state: &Mutex<ProxyState>,
) -> Result<()> {
    use osm_xds_test_support::{CLUSTER, Connection, ENDPOINTS, LISTENER, SCOPED_ROUTE, Variant};
    let connection = Connection::tls(operator, tls).await?;
    let mut stream = connection.open(Variant::DELTA_ADS, CLUSTER, node);
    stream.watch_all(CLUSTER);
    stream.watch_all(LISTENER);
    stream.watch_all(SCOPED_ROUTE);
    let mut fresh = true;
    loop {
        // The client gives up on a stream that is silent for long; nothing is wrong with that here.
        let Ok(next) = tokio::time::timeout(Duration::from_secs(5), stream.next()).await else { continue };
        let response = match next {
            Ok(response) => response,
            Err(ended) => bail!("{ended:?}"),
        };
        stream.ack(&response);
        if response.type_url == CLUSTER {
            let names: Vec<String> = response.names().iter().filter_map(|name| endpoints_of(&response, name)).collect();
            stream.subscribe(ENDPOINTS, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let mut state = state.lock().unwrap();
        state.streams += usize::from(std::mem::take(&mut fresh));
        state.received += response.names().len();
    }
}

/// The name under which a cluster asks for its endpoints, if it does.
fn endpoints_of(response: &osm_xds_test_support::Response, name: &str) -> Option<String> {
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    let cluster: Cluster = response.decode(name);
    let from = cluster.eds_cluster_config?;
    Some(if from.service_name.is_empty() { name.to_owned() } else { from.service_name })
}

/// A TrafficTarget that lets an account call `api`, by a route group.
pub(crate) fn target(name: &str, account: &str, routes: &str) -> String {
    json!({
        "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": { "namespace": "shop", "name": name },
        "spec": {
            "destination": { "kind": "ServiceAccount", "name": "api", "namespace": "shop" },
            "sources": [{ "kind": "ServiceAccount", "name": account, "namespace": "shop" }],
            "rules": [{ "kind": "HTTPRouteGroup", "name": routes }],
        },
    })
    .to_string()
}

/// Path of a TrafficTarget in the API.
pub(crate) fn target_path(name: &str) -> String {
    format!("/apis/access.smi-spec.io/v1alpha3/namespaces/shop/traffictargets/{name}")
}

/// Path of a ProxySnapshot in the API.
pub(crate) fn snapshot_path(account: &str) -> String {
    format!("/apis/snapshot.openservicemesh.io/v1alpha1/namespaces/shop/proxysnapshots/{account}")
}

/// Path of the MeshConfig in the API.
pub(crate) const MESH_CONFIG_PATH: &str =
    "/apis/config.openservicemesh.io/v1alpha2/namespaces/osm-system/meshconfigs/osm-mesh-config";
