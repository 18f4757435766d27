//! The control plane as a process on the node.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use osm_testkit::{NODE_IPV4, PROXY_UID, Pod, Process, ProcessSpec, eventually, sandbox};
use serde_json::Value;
use tokio::net::TcpStream;

/// Where xDS is served: the node's address, which every pod reaches.
const XDS: SocketAddr = SocketAddr::new(IpAddr::V4(NODE_IPV4), 15128);
/// Where the admin endpoint is served.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9091);
/// How long the control plane may take to serve, and to answer.
const LIMIT: Duration = Duration::from_secs(30);

/// `osm-operator standalone`, running. It is killed when this is dropped.
#[derive(Debug)]
pub struct Operator {
    program: PathBuf,
    folder: PathBuf,
    state: PathBuf,
    status: PathBuf,
    /// Further arguments.
    arguments: Vec<String>,
    process: Process,
}

impl Operator {
    /// Serves the manifests of `folder`, with its authority in `state` and the status files in `status`; waits until it is ready.
    ///
    /// # Errors
    /// The program is not built, or is not ready in time; the message holds the end of its log.
    pub async fn start(folder: &Path, state: &Path, status: &Path) -> Result<Self> {
        let program = sandbox::install_program(&program()?)?;
        let arguments = Vec::new();
        let process = spawn(&program, (folder, state, status), &arguments, None)?;
        let (folder, state, status) = (folder.to_owned(), state.to_owned(), status.to_owned());
        let mut operator = Self { program, folder, state, status, arguments, process };
        operator.ready().await?;
        Ok(operator)
    }

    /// Its process, for its log and for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has logged, the last `lines` lines.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    /// Kills it as a crash would, without starting it again.
    ///
    /// # Errors
    /// The system does not tell how it ended.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await.map(drop)
    }

    /// Starts it again after its end, and waits until it is ready.
    ///
    /// # Errors
    /// It is not ready in time.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = self.spawn(None)?;
        self.ready().await
    }

    /// Kills it, and starts it with these arguments beside the usual ones, now and whenever it is started again.
    ///
    /// # Errors
    /// It is not ready in time.
    pub async fn restart_with(&mut self, arguments: &[&str]) -> Result<()> {
        self.kill().await?;
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.start_again().await
    }

    fn spawn(&self, logs: Option<&str>) -> Result<Process> {
        spawn(&self.program, (&self.folder, &self.state, &self.status), &self.arguments, logs)
    }

    /// Like [`start_again`](Self::start_again), with a log as `filter` says (the syntax of `RUST_LOG`).
    ///
    /// # Errors
    /// It is not ready in time.
    pub async fn start_again_logging(&mut self, filter: &str) -> Result<()> {
        self.process = self.spawn(Some(filter))?;
        self.ready().await
    }

    /// A page of the admin endpoint: status and body.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn admin(&self, path: &str) -> Result<(u16, String)> {
        get(path).await
    }

    /// Asks the admin endpoint for something to be done: status and body.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn admin_post(&self, path: &str) -> Result<(u16, String)> {
        ask(http::Method::POST, path).await
    }

    /// A page of the admin endpoint below `/debug`, decoded.
    ///
    /// # Errors
    /// No answer in time, an error status, or no JSON.
    pub async fn debug(&self, page: &str) -> Result<Value> {
        let (status, body) = get(&format!("/debug/{page}")).await?;
        ensure!(status == 200, "/debug/{page}: status {status}: {}", body.trim());
        serde_json::from_str(&body).with_context(|| format!("/debug/{page} is no JSON"))
    }

    /// The bootstrap of the sidecar of `pod`, which belongs to the ServiceAccount `account` in `namespace`; writes its
    /// certificate into `certificates`.
    ///
    /// # Errors
    /// The command fails; the message holds its words.
    pub async fn bootstrap(&self, namespace: &str, account: &str, pod: &Pod, certificates: &Path) -> Result<String> {
        let spec = self.bootstrap_spec(namespace, account, pod, certificates);
        let output = Process::run(None, &spec, LIMIT).await?;
        ensure!(
            output.status.success(),
            "osm-operator bootstrap for {namespace}/{account} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).context("a bootstrap that is not text")
    }

    /// Keeps the certificate of the sidecar of `pod` fresh, and the roots it verifies the control plane against, as long as the
    /// process lives.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn keep_certificate(&self, namespace: &str, account: &str, pod: &Pod, certificates: &Path) -> Result<Process> {
        let spec = self.bootstrap_spec(namespace, account, pod, certificates).arguments(["--watch"]);
        Process::spawn(None, &spec)
    }

    fn bootstrap_spec(&self, namespace: &str, account: &str, pod: &Pod, certificates: &Path) -> ProcessSpec {
        ProcessSpec::new(format!("bootstrap-{}", pod.name()), &self.program)
            .arguments(["bootstrap", "--proxy", &format!("{namespace}/{account}"), "--node", pod.name()])
            .arguments(["--control-plane", &XDS.to_string(), "--proxy-uid", &PROXY_UID.to_string()])
            .arguments([OsString::from("--state-dir"), self.state.clone().into()])
            .arguments([OsString::from("--certificate-dir"), certificates.into()])
    }

    async fn ready(&mut self) -> Result<()> {
        let looking = eventually("the control plane is ready", LIMIT, || async {
            let (status, body) = get("/readyz").await?;
            ensure!(status == 200, "/readyz says {status}: {}", body.trim());
            Ok(())
        });
        let ready = tokio::select! {
            ready = looking => ready,
            // One that cannot start ends: no need to wait for the deadline.
            ended = self.process.wait(LIMIT) => Err(anyhow::anyhow!("it ended: {}", ended?)),
        };
        ready.map_err(|error| error.context(format!("osm-operator standalone; its log:\n{}", self.log_tail(20))))
    }
}

fn spawn(
    program: &Path,
    (folder, state, status): (&Path, &Path, &Path),
    arguments: &[String],
    logs: Option<&str>,
) -> Result<Process> {
    let mut spec = ProcessSpec::new("operator", program)
        .arguments([OsString::from("standalone"), folder.into()])
        .arguments(["--listen", &XDS.to_string(), "--admin", &ADMIN.to_string()])
        .arguments([OsString::from("--state-dir"), state.into(), "--status-dir".into(), status.into()])
        .arguments(arguments);
    if let Some(filter) = logs {
        spec = spec.environment("RUST_LOG", filter);
    }
    Process::spawn(None, &spec)
}

/// `osm-operator`: where `OSM_OPERATOR` says, else beside the running program or one directory above (tests run from `deps`).
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OSM_OPERATOR") {
        return Ok(path.into());
    }
    let executable = std::env::current_exe()?;
    let mut candidates = executable.ancestors().skip(1).take(2).map(|directory| directory.join("osm-operator"));
    let found = candidates.find(|path| path.is_file());
    found.context("the program osm-operator is not built: cargo build -p osm-operator, or set OSM_OPERATOR")
}

async fn get(path: &str) -> Result<(u16, String)> {
    ask(http::Method::GET, path).await
}

/// One request to the admin endpoint, which is on the node as the runner is.
async fn ask(method: http::Method, path: &str) -> Result<(u16, String)> {
    let what = format!("{method} {path}");
    let exchange = async {
        let stream = TcpStream::connect(ADMIN).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = http::Request::builder().method(method).uri(path).header("host", ADMIN.to_string());
        let request = request.body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let answered = tokio::time::timeout(LIMIT, exchange).await;
    answered.with_context(|| format!("{what} on {ADMIN}: no answer within {LIMIT:?}"))?
}
