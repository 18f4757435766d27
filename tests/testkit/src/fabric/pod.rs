//! A pod's network namespace.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, process::Output};

use anyhow::{Context as _, Result, ensure};
use osm_intercept::{Applied, InterceptConfig, NetworkNamespace, rules};

use super::{NODE_IPV4, NODE_IPV6, socket};
use crate::process::{Process, ProcessSpec, Uid};
use crate::sandbox::{STATE_DIRECTORY, run, run_with_input};

/// A pod's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodAddresses {
    /// IPv4.
    pub ipv4: Ipv4Addr,
    /// IPv6.
    pub ipv6: Ipv6Addr,
}

/// A network namespace with one link to the node. It is removed when this is dropped; end its processes first.
#[derive(Debug)]
pub struct Pod {
    name: String,
    addresses: PodAddresses,
    directory: PathBuf,
}

/// The node's end of every pod's link, as pods see it.
const GATEWAY_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_IPV6: &str = "fe80::1";

impl Pod {
    pub(super) fn create(name: &str, addresses: PodAddresses) -> Result<Self> {
        ensure!(
            (1..=15).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "pod name {name:?} is not usable: it names the network link, so it has 1 to 15 letters, digits and dashes"
        );
        let PodAddresses { ipv4, ipv6 } = addresses;
        let directory = Path::new(STATE_DIRECTORY).join("pod").join(name);
        fs::create_dir(&directory).with_context(|| format!("creating pod {name}"))?;
        // From here on, dropping undoes it.
        let pod = Self { name: name.to_owned(), addresses, directory };
        run("ip", ["netns", "add", name])?;
        // No generated link-local addresses: they are checked for duplicates for a second before they can be used.
        batch(
            None,
            &[
                format!("link add {name} type veth peer name eth0 netns {name}"),
                format!("link set {name} addrgenmode none"),
                format!("addr add {GATEWAY_IPV4}/32 dev {name}"),
                format!("addr add {GATEWAY_IPV6}/64 dev {name} nodad"),
                format!("link set {name} up"),
                format!("route add {ipv4}/32 dev {name} src {NODE_IPV4}"),
                format!("route add {ipv6}/128 dev {name} src {NODE_IPV6}"),
            ],
        )?;
        batch(
            Some(name),
            &[
                "link set lo up".to_owned(),
                "link set eth0 addrgenmode none".to_owned(),
                format!("addr add {ipv4}/32 dev eth0"),
                format!("addr add {ipv6}/128 dev eth0 nodad"),
                "link set eth0 up".to_owned(),
                format!("route add {GATEWAY_IPV4}/32 dev eth0"),
                format!("route add default via {GATEWAY_IPV4} dev eth0 src {ipv4}"),
                format!("route add {GATEWAY_IPV6}/128 dev eth0"),
                format!("route add default via {GATEWAY_IPV6} dev eth0 src {ipv6}"),
            ],
        )?;
        Ok(pod)
    }

    /// Its name, which is also the name of its link on the node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.addresses.ipv4
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.addresses.ipv6
    }

    /// The file that refers to its network namespace.
    pub fn namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A directory for its files (sockets, configurations), which `uid` may write to.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn directory(&self, purpose: &str, uid: Uid) -> Result<PathBuf> {
        let directory = self.directory.join(purpose);
        fs::create_dir_all(&directory)?;
        chown(&directory, Some(uid), Some(uid))?;
        Ok(directory)
    }

    /// Writes a file that only `uid` can read into the directory for `purpose`: keys and tokens. A file of that name is replaced in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_private(&self, purpose: &str, uid: Uid, name: &str, content: &[u8]) -> Result<PathBuf> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.directory(purpose, uid)?.join(name);
        let scratch = path.with_file_name(format!(".{name}.new"));
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&scratch)?;
        file.write_all(content)?;
        chown(&scratch, Some(uid), Some(uid))?;
        fs::rename(&scratch, &path)?;
        Ok(path)
    }

    /// Starts a process in it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, spec: &ProcessSpec) -> Result<Process> {
        Process::spawn(Some(&self.namespace()), spec)
    }

    /// Runs a process in it to its end.
    ///
    /// # Errors
    /// The program cannot be started, or has not ended after `limit`.
    pub async fn run(&self, spec: &ProcessSpec, limit: Duration) -> Result<Output> {
        Process::run(Some(&self.namespace()), spec, limit).await
    }

    /// Connects from within it, as the sandbox's root. The runner is not of the pod, so this is how it reaches its loopback.
    ///
    /// # Errors
    /// Nobody listens, or not within `limit`.
    pub async fn connect(&self, address: SocketAddr, limit: Duration) -> std::io::Result<tokio::net::TcpStream> {
        socket::connect(self.namespace(), address, limit).await
    }

    /// Listens within it, for servers that live in the runner.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn listen(&self, address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
        socket::listen(self.namespace(), address).await
    }

    /// One HTTP request from within it without a body; returns the status and the answer's body.
    ///
    /// # Errors
    /// No answer within `limit`.
    pub async fn request(
        &self,
        method: &str,
        address: SocketAddr,
        path: &str,
        limit: Duration,
    ) -> Result<(u16, String)> {
        socket::request(self.namespace(), address, method, path, limit).await
    }

    /// Puts the redirect rules in place, as the init container does.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn intercept(&self, config: &InterceptConfig) -> Result<Applied> {
        let applied = NetworkNamespace::At(self.namespace()).apply(&rules(config));
        applied.with_context(|| format!("intercepting pod {}", self.name))
    }

    /// Takes the redirect rules out.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_interception(&self) -> Result<()> {
        let removed = NetworkNamespace::At(self.namespace()).remove();
        removed.with_context(|| format!("ending the interception of pod {}", self.name))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The link goes at once, so that the name is free again even while a process keeps the namespace alive. Whatever
        // fails here ends with the sandbox.
        let _ = run("ip", ["link", "del", &self.name]);
        let _ = run("ip", ["netns", "del", &self.name]);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Runs `ip` commands in the node's or a pod's namespace, stopping at the first that fails.
pub(super) fn batch(namespace: Option<&str>, commands: &[String]) -> Result<()> {
    let mut arguments: Vec<&str> = Vec::new();
    if let Some(namespace) = namespace {
        arguments.extend(["-n", namespace]);
    }
    arguments.extend(["-batch", "-"]);
    run_with_input("ip", arguments, &(commands.join("\n") + "\n")).map(drop)
}
