//! A pod as the kubelet makes it, as far as its proxy is concerned: volumes that are renewed in place, the init container with
//! the capabilities it has in a pod, and the sidecar.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use osm_bootstrap::names;
use osm_testkit::{Envoy, EnvoyBinary, EnvoySpec, Fabric, NODE_IPV4, Pod, ProcessSpec, eventually, sandbox};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::control_plane::LIMIT;

/// A volume whose files change all at once: the kubelet writes a new folder and turns a link (`..data`) to it.
#[derive(Debug)]
pub(crate) struct Volume {
    folder: PathBuf,
    version: usize,
}

impl Volume {
    fn create(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, version: 0 })
    }

    /// Puts `content` into the one file of the volume.
    pub(crate) fn write(&mut self, file: &str, content: &str) -> Result<()> {
        let former = format!("..version-{}", self.version);
        self.version += 1;
        let current = format!("..version-{}", self.version);
        fs::create_dir(self.folder.join(&current))?;
        fs::write(self.folder.join(&current).join(file), content)?;
        symlink(&current, self.folder.join("..data_tmp"))?;
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data"))?;
        if self.version == 1 {
            return Ok(symlink(Path::new("..data").join(file), self.folder.join(file))?);
        }
        Ok(fs::remove_dir_all(self.folder.join(former))?)
    }
}

/// What a pod is called, by the API server and by itself.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
}

impl Names {
    pub(crate) fn node(&self) -> String {
        names::node_id(&self.name, &self.uid)
    }
}

/// A pod with its volumes.
#[derive(Debug)]
pub(crate) struct MeshedPod {
    // Ends before the network it lives in.
    envoy: Option<Envoy>,
    pub(crate) token: Volume,
    pub(crate) trust_bundle: Volume,
    configuration: PathBuf,
    pub(crate) network: Pod,
}

impl MeshedPod {
    pub(crate) async fn create(fabric: &Fabric, name: &str, token: &str, roots: &str) -> Result<Self> {
        let network = fabric.add_pod(name).await?;
        let volumes = Path::new(sandbox::STATE_DIRECTORY).join("volumes").join(name);
        let volume = |purpose: &str, file: &str, content: &str| -> Result<Volume> {
            let mut volume = Volume::create(volumes.join(purpose))?;
            volume.write(file, content)?;
            Ok(volume)
        };
        let token = volume("token", names::TOKEN_FILE, token)?;
        let trust_bundle = volume("trust-bundle", names::TRUST_BUNDLE_KEY, roots)?;
        let configuration = volumes.join("configuration");
        fs::create_dir(&configuration)?;
        // As an emptyDir is.
        fs::set_permissions(&configuration, fs::Permissions::from_mode(0o777))?;
        Ok(Self { envoy: None, token, trust_bundle, configuration, network })
    }

    /// Runs the init container: `osm-operator init` as root with NET_ADMIN and nothing else.
    pub(crate) async fn init(&self, names: &Names, more: &[String]) -> Result<()> {
        let operator = sandbox::install_program(Path::new(env!("CARGO_BIN_EXE_osm-operator")))?;
        let addresses = format!("{},{}", self.network.ipv4(), self.network.ipv6());
        let folder = |path: &Path| path.display().to_string();
        let spec = ProcessSpec::new(format!("init-{}", self.network.name()), "setpriv")
            .arguments(["--no-new-privs", "--bounding-set", "-all,+net_admin", "--inh-caps", "-all", "--"])
            .arguments([operator.display().to_string(), "init".to_owned()])
            .arguments([format!("--control-plane-host={NODE_IPV4}")])
            .arguments([format!("--token-dir={}", folder(&self.token.folder))])
            .arguments([format!("--trust-bundle-dir={}", folder(&self.trust_bundle.folder))])
            .arguments([format!("--output-dir={}", folder(&self.configuration))])
            .arguments(more)
            .environment("POD_NAME", &names.name)
            .environment("POD_UID", &names.uid)
            .environment("POD_NAMESPACE", &names.namespace)
            .environment("POD_IPS", addresses)
            .environment("SERVICE_ACCOUNT", &names.service_account);
        let output = self.network.run(&spec, LIMIT).await?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "osm-operator init failed ({}): {words}", output.status);
        let words = String::from_utf8_lossy(&output.stdout);
        ensure!(words.contains("IPv4 and IPv6"), "osm-operator init says {words}");
        Ok(())
    }

    /// Starts the sidecar; it may not be ready yet.
    pub(crate) fn start(&mut self, binary: &EnvoyBinary) -> Result<()> {
        let bootstrap = fs::read_to_string(self.configuration.join(names::BOOTSTRAP_FILE))?;
        self.envoy = Some(Envoy::start(&self.network, &EnvoySpec::new(binary.clone(), bootstrap))?);
        Ok(())
    }

    pub(crate) fn envoy(&mut self) -> Result<&mut Envoy> {
        self.envoy.as_mut().context("the sidecar was started")
    }

    pub(crate) async fn stop(&mut self) -> Result<()> {
        let envoy = self.envoy.take().context("the sidecar was started")?;
        envoy.stop().await.map(drop)
    }

    /// An address of the pod, as the kubelet uses it.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.network.ipv4()), port)
    }

    /// Waits until the sidecar's startup probe is good, as the kubelet does: from the node.
    pub(crate) async fn is_ready(&self) -> Result<()> {
        for address in [self.address(names::PROXY_READINESS_PORT), self.ipv6_readiness()] {
            eventually("the sidecar's startup probe is good", LIMIT, || async move {
                let (status, _) = get(address, names::PROXY_READINESS_PATH).await?;
                ensure!(status == 200, "status {status}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    fn ipv6_readiness(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.network.ipv6()), names::PROXY_READINESS_PORT)
    }

    /// Fails if the sidecar's startup probe is good.
    pub(crate) async fn is_not_ready(&self) -> Result<()> {
        match get(self.address(names::PROXY_READINESS_PORT), names::PROXY_READINESS_PATH).await {
            Ok((200, _)) => anyhow::bail!("the sidecar's startup probe is good without a configuration"),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Serial number of the certificate with which the sidecar opens its stream, as hexadecimal digits.
    pub(crate) async fn serial(&self) -> Result<String> {
        let envoy = self.envoy.as_ref().context("the sidecar was started")?;
        let page: serde_json::Value = serde_json::from_str(&envoy.admin("GET", "/certs").await?)?;
        let certificates = page["certificates"].as_array().context("/certs lists no certificates")?;
        let mut chains = certificates.iter().filter_map(|certificate| certificate["cert_chain"].as_array()).flatten();
        let serial = chains.next().context("no certificate chain")?["serial_number"].as_str();
        Ok(digits(serial.context("a certificate without a serial number")?))
    }
}

/// A serial number without separators and leading zeros.
pub(crate) fn digits(serial: &str) -> String {
    serial.replace(':', "").trim_start_matches('0').to_lowercase()
}

/// `GET` from the node: status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).context("no status line")?.parse()?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(LIMIT, exchange).await.with_context(|| format!("{address}{path} gives no answer"))?
}
