//! The bootstrap of an Envoy outside a cluster (a VM, a network namespace): identity as files, everything else by ADS.

mod scoped_routes;

use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use osm_issuer::{CertificateStore, LeafCertificate, PeerIdentity, ProxyIdentity, TrustBundle, TrustDomain};
use osm_model::Identity;
use serde_json::{Value, json};

use crate::identity;

/// File in the certificate folder with the proxy's certificate and key, as an SDS response.
const CERTIFICATE_FILE: &str = "tls_certificate_sds_secret.yaml";
/// File in the certificate folder with the roots that verify the control plane, as an SDS response.
const ROOTS_FILE: &str = "validation_context_sds_secret.yaml";
/// Cluster of the control plane (OSM's name).
const CONTROL_PLANE_CLUSTER: &str = "osm-controller";
/// Names of the secrets in the two files.
const CERTIFICATE_SECRET: &str = "tls_sds";
const ROOTS_SECRET: &str = "validation_context_sds";

/// What a bootstrap is made from.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The workload the proxy belongs to.
    pub workload: Identity,
    /// Name of the proxy among those of its workload.
    pub node: String,
    /// Where the control plane serves xDS.
    pub control_plane: SocketAddr,
    /// Namespace of the control plane, which its certificate names.
    pub control_plane_namespace: String,
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// Folder of the proxy's own certificate.
    pub certificates: PathBuf,
    /// Port of Envoy's admin interface, on loopback.
    pub admin_port: u16,
}

impl Bootstrap {
    /// The certificate identity of the proxy.
    ///
    /// # Errors
    /// A name cannot be written into a certificate.
    pub fn proxy(&self) -> anyhow::Result<ProxyIdentity> {
        let workload = identity::workload_identity(&self.trust_domain, &self.workload)?;
        ProxyIdentity::new(workload, &self.node).with_context(|| format!("name the proxy {:?}", self.node))
    }

    /// The bootstrap, as Envoy's configuration in JSON.
    ///
    /// # Errors
    /// A name cannot be written into a certificate.
    pub fn envoy(&self) -> anyhow::Result<Value> {
        let proxy = self.proxy()?;
        let from_ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
        Ok(json!({
            "node": {
                "id": proxy.node(),
                "cluster": format!("{}.{}", self.workload.service_account, self.workload.namespace),
            },
            "admin": { "address": socket_address("127.0.0.1", self.admin_port) },
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{ "envoy_grpc": {
                        "cluster_name": CONTROL_PLANE_CLUSTER,
                        // Without it a proxy waits up to 30 s after the control plane is back.
                        "retry_policy": { "retry_back_off": { "base_interval": "0.1s", "max_interval": "1s" } },
                    } }],
                },
                "cds_config": from_ads,
                "lds_config": from_ads,
            },
            "static_resources": {
                "clusters": [self.control_plane_cluster()?],
                "listeners": [scoped_routes::listener()],
            },
            "layered_runtime": { "layers": [{ "name": "static", "static_layer": {
                // Expressions in policies may be long; Envoy's own limit is 100.
                "re2.max_program_size.error_level": 1024,
                "re2.max_program_size.warn_level": 1024,
            } }] },
            "stats_config": { "stats_matcher": { "inclusion_list": { "patterns": stats_patterns() } } },
        }))
    }

    fn control_plane_cluster(&self) -> anyhow::Result<Value> {
        let control_plane = identity::control_plane_identity(&self.trust_domain, &self.control_plane_namespace)?;
        let name = control_plane.ads_dns_name();
        let secret = |name: &str, file: &str| {
            json!({ "name": name, "sds_config": {
                "path_config_source": { "path": self.certificates.join(file) },
                "resource_api_version": "V3",
            } })
        };
        let address = socket_address(&self.control_plane.ip().to_string(), self.control_plane.port());
        Ok(json!({
            "name": CONTROL_PLANE_CLUSTER,
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": CONTROL_PLANE_CLUSTER,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
            },
            "upstream_connection_options": {
                "tcp_keepalive": { "keepalive_probes": 5, "keepalive_time": 60, "keepalive_interval": 5 },
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {
                        "connection_keepalive": { "interval": "30s", "timeout": "10s" },
                    } },
                },
            },
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": name,
                    "common_tls_context": {
                        "tls_params": { "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3" },
                        "alpn_protocols": ["h2"],
                        "tls_certificate_sds_secret_configs": [secret(CERTIFICATE_SECRET, CERTIFICATE_FILE)],
                        "combined_validation_context": {
                            "default_validation_context": { "match_typed_subject_alt_names": [
                                { "san_type": "DNS", "matcher": { "exact": name } },
                            ] },
                            "validation_context_sds_secret_config": secret(ROOTS_SECRET, ROOTS_FILE),
                        },
                    },
                },
            },
        }))
    }
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

/// What Envoy keeps statistics of: what dashboards and alerts read. Without it every route, filter and code adds series.
fn stats_patterns() -> Vec<Value> {
    let expression = |regex: &str| json!({ "safe_regex": { "regex": regex } });
    vec![
        expression(r"server\.(live|state|uptime|memory_allocated|concurrency)"),
        expression(
            r"listener_manager\.(listener_create_failure|total_listeners_(active|warming)|lds\.update_(rejected|success))",
        ),
        expression(r"cluster_manager\.((active|warming)_clusters|cds\.update_(rejected|success))"),
        expression(r"control_plane\.(connected_state|rate_limit_enforced)"),
        expression(concat!(
            r"cluster\..*\.(upstream_rq_([1-5]xx|total|timeout|rx_reset|retry.*|pending_(failure_eject|overflow))",
            r"|upstream_cx_(active|total|(tx|rx)_bytes_total|connect_(timeout|fail)|destroy_(local|remote)_with_active_rq)",
            r"|health_check\..*|membership_(total|healthy)|ssl\.(fail_verify_san|connection_error))"
        )),
        expression(
            r"listener\..*\.ssl\.(fail_verify_error|fail_verify_san|fail_verify_no_cert|connection_error|handshake)",
        ),
        expression(r"(http|tcp)\..*\.?rbac\.(allowed|denied)"),
        expression(r".*rds-inbound.*\.downstream_rq_[1-5]xx"),
        json!({ "prefix": "osm_" }),
    ]
}

/// Issues the proxy's own certificate and writes it with the roots into the certificate folder, atomically, readable by
/// `owner` alone.
///
/// # Errors
/// No certificate can be issued, or the folder cannot be written to.
pub async fn write_certificates(
    bootstrap: &Bootstrap,
    store: &CertificateStore,
    owner: Option<u32>,
) -> anyhow::Result<()> {
    let proxy = PeerIdentity::Proxy(bootstrap.proxy()?);
    let leaf = store.certificate(&proxy).await.context("issue the proxy's certificate")?;
    let roots = store.trust_bundle().await.context("read the roots of the mesh")?;
    write_files(&bootstrap.certificates, &leaf, &roots, owner)
}

fn write_files(folder: &Path, leaf: &LeafCertificate, roots: &TrustBundle, owner: Option<u32>) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    own(folder, owner)?;
    let material = leaf.material();
    let certificate = sds(&json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": CERTIFICATE_SECRET,
        "tls_certificate": {
            "certificate_chain": { "inline_string": material.certificate_chain_pem() },
            "private_key": { "inline_string": material.expose_private_key_pem() },
        },
    }))?;
    let validation = sds(&json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": ROOTS_SECRET,
        "validation_context": { "trusted_ca": { "inline_string": roots.pem() } },
    }))?;
    replace(folder, CERTIFICATE_FILE, &certificate, owner)?;
    replace(folder, ROOTS_FILE, &validation, owner)
}

fn sds(secret: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(&json!({ "resources": [secret] })).context("write YAML")
}

/// Envoy takes a file up when it is moved into place.
fn replace(folder: &Path, name: &str, content: &str, owner: Option<u32>) -> anyhow::Result<()> {
    use std::io::Write;
    let (file, unfinished) = (folder.join(name), folder.join(format!(".{name}.new")));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut target = options.open(&unfinished).with_context(|| format!("write {}", unfinished.display()))?;
    target.write_all(content.as_bytes()).with_context(|| format!("write {}", unfinished.display()))?;
    own(&unfinished, owner)?;
    std::fs::rename(&unfinished, &file).with_context(|| format!("replace {}", file.display()))
}

fn own(path: &Path, owner: Option<u32>) -> anyhow::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    chown(path, Some(owner), Some(owner))
        .with_context(|| format!("give {} to uid {owner}; run as root or without --proxy-uid", path.display()))
}

/// Keeps the proxy's certificate fresh on disk, for ever.
///
/// # Errors
/// The certificate folder cannot be written to. An issuer that fails is asked again.
pub async fn renew(
    bootstrap: &Bootstrap,
    store: &CertificateStore,
    owner: Option<u32>,
) -> anyhow::Result<std::convert::Infallible> {
    let mut changes = store.subscribe();
    let keep = async {
        loop {
            changes.next().await;
            write_certificates(bootstrap, store, owner).await?;
            tracing::info!(proxy = %bootstrap.node, "wrote a renewed certificate");
        }
    };
    tokio::select! {
        ended = keep => ended,
        never = store.run() => match never {},
    }
}
