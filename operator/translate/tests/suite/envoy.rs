//! Running real Envoys.

use std::fs::Permissions;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3::{
    Admin, Bootstrap, LayeredRuntime, RuntimeLayer,
    bootstrap::{DynamicResources, StaticResources},
    runtime_layer::LayerSpecifier,
};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, Node, SocketAddress,
    address, api_config_source::ApiType, config_source::ConfigSourceSpecifier, grpc_service::EnvoyGrpc,
    grpc_service::TargetSpecifier, socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
};
use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind};
use prost::{Message as _, Name as _};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::ads::Ads;

/// Oldest and newest Envoy claimed.
pub(crate) const VERSIONS: [&str; 2] = ["1.36.2", "1.40.0"];

/// The user that proxies run as in a pod.
pub(crate) const PROXY_UID: u32 = 1500;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The executable of `version`.
fn executable(version: &str) -> PathBuf {
    let directory = std::env::var_os("OSM_ENVOY_DIR").unwrap_or_else(|| {
        panic!("set OSM_ENVOY_DIR to a directory that holds {}/envoy", VERSIONS.join("/envoy and "))
    });
    let path = PathBuf::from(directory).join(version).join("envoy");
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

/// Tries until `attempt` yields something, at short intervals.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    let trying = async {
        loop {
            interval.tick().await;
            if let Some(found) = attempt().await {
                return found;
            }
        }
    };
    tokio::time::timeout(LIMIT, trying).await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

/// A bootstrap whose one source is an ADS server on `ads_port`.
pub(crate) fn bootstrap(ads_port: u16, static_resources: StaticResources) -> Bootstrap {
    let ads = || ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    };
    let service = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: "ads".to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let mut static_resources = static_resources;
    static_resources.clusters.push(ads_cluster(ads_port));
    let limit = Value { kind: Some(Kind::NumberValue(f64::from(u32::MAX))) };
    Bootstrap {
        node: Some(Node { id: "test".to_owned(), cluster: "test".to_owned(), ..Default::default() }),
        admin: Some(Admin { address: Some(loopback(0)), ..Default::default() }),
        static_resources: Some(static_resources),
        dynamic_resources: Some(DynamicResources {
            lds_config: Some(ads()),
            cds_config: Some(ads()),
            ads_config: Some(ApiConfigSource {
                api_type: ApiType::DeltaGrpc.into(),
                transport_api_version: ApiVersion::V3.into(),
                grpc_services: vec![service],
                set_node_on_first_message_only: true,
                ..Default::default()
            }),
            ..Default::default()
        }),
        layered_runtime: Some(LayeredRuntime {
            layers: vec![RuntimeLayer {
                name: "static".to_owned(),
                layer_specifier: Some(LayerSpecifier::StaticLayer(Struct {
                    fields: [("re2.max_program_size.error_level".to_owned(), limit)].into(),
                })),
            }],
        }),
        ..Default::default()
    }
}

fn loopback(port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: "127.0.0.1".to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

fn ads_cluster(port: u16) -> Cluster {
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Default::default())),
        })),
        ..Default::default()
    };
    let options = Any { type_url: HttpProtocolOptions::type_url(), value: options.encode_to_vec() };
    let endpoint = Endpoint { address: Some(loopback(port)), ..Default::default() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    Cluster {
        name: "ads".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: "ads".to_owned(),
            endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
            ..Default::default()
        }),
        typed_extension_protocol_options: [(HttpProtocolOptions::full_name(), options)].into(),
        ..Default::default()
    }
}

/// Asks `version` whether it accepts `bootstrap`; what it says otherwise.
pub(crate) async fn validate(version: &str, bootstrap: &Bootstrap) -> Result<(), String> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("bootstrap.pb");
    std::fs::write(&file, bootstrap.encode_to_vec()).unwrap();
    let mut command = Command::new(executable(version));
    command.args(["--mode", "validate", "--log-level", "error", "-c"]).arg(&file).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("an answer").unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A running Envoy, until dropped.
#[derive(Debug)]
pub(crate) struct Envoy {
    pub(crate) ads: Ads,
    child: Child,
    directory: TempDir,
}

impl Envoy {
    /// Starts `version` on `ads` and waits until it serves what it was given.
    pub(crate) async fn start(version: &str, ads: Ads) -> Self {
        Self::start_in(TempDir::new().unwrap(), Command::new(executable(version)), ads, 0).await
    }

    /// The same as the user that proxies run as in a pod, with the admin interface on `admin_port`. Needs root.
    pub(crate) async fn start_as_proxy(version: &str, ads: Ads, admin_port: u16) -> Self {
        // That user may not enter every folder that the executable can be in.
        let directory = TempDir::new().unwrap();
        let copy = directory.path().join("envoy");
        std::fs::copy(executable(version), &copy).unwrap();
        let mut command = Command::new(copy);
        command.uid(PROXY_UID);
        Self::start_in(directory, command, ads, admin_port).await
    }

    async fn start_in(directory: TempDir, mut command: Command, ads: Ads, admin_port: u16) -> Self {
        // Whoever it runs as may write there.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let file = |name: &str| directory.path().join(name);
        let mut bootstrap = bootstrap(ads.port, StaticResources::default());
        bootstrap.admin = Some(Admin { address: Some(loopback(admin_port)), ..Default::default() });
        std::fs::write(file("bootstrap.pb"), bootstrap.encode_to_vec()).unwrap();
        let child = command
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
            // Access logs are written at once.
            .args(["--file-flush-interval-msec", "20", "-c"])
            .arg(file("bootstrap.pb"))
            .arg("--admin-address-path")
            .arg(file("admin"))
            .stdout(std::fs::File::create(file("stdout")).unwrap())
            .stderr(std::fs::File::create(file("stderr")).unwrap())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let envoy = Self { ads, child, directory };
        eventually("Envoy is live", || async {
            let text = envoy.try_admin("/ready").await?;
            text.contains("LIVE").then_some(())
        })
        .await;
        envoy
    }

    async fn try_admin(&self, path: &str) -> Option<String> {
        let address = std::fs::read_to_string(self.directory.path().join("admin")).ok()?;
        let response = crate::http::Client::http1(address.parse().ok()?).try_get(path).await?;
        Some(response.body)
    }

    /// The answer of the admin interface.
    pub(crate) async fn admin(&self, path: &str) -> String {
        self.try_admin(path).await.expect("the admin interface answers")
    }

    /// A counter or gauge; 0 when Envoy does not have it.
    pub(crate) async fn statistic(&self, name: &str) -> u64 {
        let all = self.admin("/stats").await;
        let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// What it has written to standard output: access logs.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdout")).unwrap()
    }

    /// Ends it, after making sure that it refused nothing it was given and missed nothing that was referred to.
    pub(crate) async fn end(self) {
        self.end_missing(&[]).await;
    }

    /// The same where what it was given refers to `missing`, which is not there.
    pub(crate) async fn end_missing(mut self, missing: &[&str]) {
        assert_eq!(self.ads.refusals(), Vec::<String>::new());
        assert_eq!(self.ads.missing(), missing.iter().map(ToString::to_string).collect());
        let alive = self.child.try_wait().unwrap().is_none();
        assert!(alive, "{}", std::fs::read_to_string(self.directory.path().join("stderr")).unwrap());
        self.child.kill().await.unwrap();
    }
}
