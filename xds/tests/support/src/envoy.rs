//! A real Envoy as a child process.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use hyper::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{DEADLINE, Protocol, http_get};

/// The folder with `<version>/envoy`, as set by `hack/setup`.
const FOLDER_VARIABLE: &str = "OSM_ENVOY_DIR";

/// How often a state that Envoy does not announce is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Versions of Envoy that the library is tested with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvoyVersion {
    /// The oldest one claimed.
    Oldest,
    /// The newest one claimed.
    Newest,
}

impl EnvoyVersion {
    fn folder(self) -> &'static str {
        match self {
            Self::Oldest => "1.36.2",
            Self::Newest => "1.40.0",
        }
    }

    /// Path of the program.
    fn program(self) -> PathBuf {
        let folder = std::env::var_os(FOLDER_VARIABLE).unwrap_or_else(|| {
            panic!("{FOLDER_VARIABLE} is not set: run hack/setup, then set it to the folder with the Envoy versions")
        });
        let program = PathBuf::from(folder).join(self.folder()).join("envoy");
        assert!(program.is_file(), "{} is missing: run hack/setup to fetch it", program.display());
        program
    }
}

/// A running Envoy that takes its configuration from one control plane; killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    admin: SocketAddr,
    log: watch::Receiver<Vec<String>>,
    _child: Child,
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy with clusters and listeners from `control_plane` over one ADS stream, and waits until its
    /// administration endpoint answers. It need not have got its configuration by then.
    ///
    /// `static_clusters` are added to the bootstrap as they are.
    ///
    /// # Panics
    ///
    /// When the program is missing or does not start.
    pub async fn start(
        version: EnvoyVersion,
        protocol: Protocol,
        node: &str,
        control_plane: SocketAddr,
        static_clusters: &[Value],
    ) -> Self {
        let program = version.program();
        let folder = tempfile::tempdir().expect("make a folder");
        let bootstrap = folder.path().join("bootstrap.json");
        let configuration = bootstrap_of(protocol, node, control_plane, static_clusters);
        std::fs::write(&bootstrap, configuration.to_string()).expect("write the bootstrap");
        let mut child = Command::new(program)
            .arg("--config-path")
            .arg(&bootstrap)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "info"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start Envoy");

        let (sender, mut log) = watch::channel(Vec::new());
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        // Ends when Envoy does.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|log| log.push(line));
            }
        });
        let admin = wait_for_line(&mut log, |line| {
            line.split("admin address: ").nth(1).and_then(|address| address.trim().parse().ok())
        })
        .await;
        Self { admin, log, _child: child, _folder: folder }
    }

    /// Waits until Envoy has its first configuration and serves.
    ///
    /// # Panics
    ///
    /// When it does not within [`DEADLINE`].
    pub async fn live(&mut self) {
        wait_for_line(&mut self.log, |line| line.contains("starting workers").then_some(())).await;
    }

    /// Everything Envoy has logged.
    pub fn log(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// Body of an administration page.
    ///
    /// # Panics
    ///
    /// When Envoy does not answer it with 200.
    pub async fn admin(&self, path: &str) -> String {
        let (status, body) = http_get(self.admin, path, &[]).await.expect("reach the administration endpoint");
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// Body of an administration page as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub async fn admin_json(&self, path: &str) -> Value {
        serde_json::from_str(&self.admin(path).await).expect("a JSON page")
    }

    /// Value of a counter or gauge; 0 when Envoy has not made it yet.
    ///
    /// # Panics
    ///
    /// When the page cannot be read.
    pub async fn stat(&self, name: &str) -> u64 {
        let page = self.admin(&format!("/stats?filter=^{}$", name.replace('.', "\\."))).await;
        page.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
            .unwrap_or_default()
    }

    /// Waits until `name` has a value that `wanted` accepts, and returns it.
    ///
    /// # Panics
    ///
    /// When it does not within [`DEADLINE`].
    pub async fn wait_stat(&self, name: &str, wanted: impl Fn(u64) -> bool) -> u64 {
        eventually(&format!("statistic {name}"), || async {
            let value = self.stat(name).await;
            if wanted(value) { Ok(value) } else { Err(value.to_string()) }
        })
        .await
    }

    /// The configuration of a cluster as it is in use, if it is.
    ///
    /// # Panics
    ///
    /// When the page cannot be read.
    pub async fn cluster(&self, name: &str) -> Option<Value> {
        let page = self.admin_json("/config_dump?resource=dynamic_active_clusters").await;
        let clusters = page["configs"].as_array().into_iter().flatten();
        clusters.map(|entry| &entry["cluster"]).find(|cluster| cluster["name"] == name).cloned()
    }

    /// Waits until the active listener `name` is there and returns its local address.
    ///
    /// # Panics
    ///
    /// When it does not come within [`DEADLINE`].
    pub async fn listener(&self, name: &str) -> SocketAddr {
        eventually(&format!("listener {name}"), || async {
            let page = self.admin_json("/listeners?format=json").await;
            page["listener_statuses"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|status| status["name"] == name)
                .and_then(|status| {
                    let address = &status["local_address"]["socket_address"];
                    let port = u16::try_from(address["port_value"].as_u64()?).ok()?;
                    Some(SocketAddr::new(address["address"].as_str()?.parse().ok()?, port))
                })
                .ok_or_else(|| page.to_string())
        })
        .await
    }
}

/// Looks again and again until `look` is content; its error says what it saw last.
///
/// # Panics
///
/// When it is not within [`DEADLINE`].
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = String::new();
    timeout(DEADLINE, async {
        loop {
            ticks.tick().await;
            match look().await {
                Ok(value) => return value,
                Err(last) => seen = last,
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what} did not reach the wanted state within {DEADLINE:?}; last seen: {seen}"))
}

async fn wait_for_line<T>(log: &mut watch::Receiver<Vec<String>>, wanted: impl Fn(&str) -> Option<T>) -> T {
    let found = timeout(DEADLINE, async {
        loop {
            let found = log.borrow_and_update().iter().find_map(|line| wanted(line));
            match found {
                Some(found) => return Some(found),
                None if log.changed().await.is_err() => return None,
                None => {}
            }
        }
    })
    .await;
    match found {
        Ok(Some(found)) => found,
        Ok(None) => panic!("Envoy ended; its log:\n{}", log.borrow().join("\n")),
        Err(_) => {
            panic!("Envoy did not log what was awaited within {DEADLINE:?}; its log:\n{}", log.borrow().join("\n"))
        }
    }
}

fn bootstrap_of(protocol: Protocol, node: &str, control_plane: SocketAddr, static_clusters: &[Value]) -> Value {
    let api_type = match protocol {
        Protocol::StateOfTheWorld => "GRPC",
        Protocol::Delta => "DELTA_GRPC",
    };
    let mut clusters = vec![json!({
        "name": "control-plane",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {"cluster_name": "control-plane", "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"socket_address": {
                "address": control_plane.ip().to_string(), "port_value": control_plane.port(),
            }},
        }}]}]},
    })];
    clusters.extend_from_slice(static_clusters);
    json!({
        "node": {"id": node, "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {
                    "cluster_name": "control-plane",
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
                }}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": clusters},
    })
}
