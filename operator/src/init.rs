//! `osm-operator init`: what a pod's init container runs once, before the sidecar and the application start.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use osm_bootstrap::{ControlPlaneAddress, PodBootstrap, PodFiles, Probes, names};
use osm_intercept::{NetworkNamespace, rules};
use osm_issuer::{ProxyIdentity, TrustDomain};
use osm_model::{Identity, TlsParameters, TlsVersion};
use serde_json::Value;

use crate::identity;
use crate::intercept::RuleArgs;

/// Shown below the options.
pub(crate) const HELP: &str = "\
Writes the sidecar's bootstrap, then redirects the pod's TCP connections to it. Admission gives the arguments; what the
pod is comes from its environment (downward API): POD_NAME, POD_NAMESPACE, POD_UID, POD_IPS and SERVICE_ACCOUNT.

Needs CAP_NET_ADMIN in the pod's network namespace, iptables-restore and ip6tables-restore of the nftables variant, and
the folder of the bootstrap to write to; nothing else of the file system.
Exit codes: 0 done, 2 not done. To run it again is the same as to run it once.";

/// Who the pod is, and what was decided about its sidecar.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pod: PodArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    places: PlaceArgs,
    #[command(flatten)]
    rules: RuleArgs,
}

#[derive(Debug, Args)]
struct PodArgs {
    /// Name of the pod
    #[arg(long, env = "POD_NAME")]
    pod_name: String,
    /// Namespace of the pod
    #[arg(long, env = "POD_NAMESPACE")]
    pod_namespace: String,
    /// UID of the pod
    #[arg(long, env = "POD_UID")]
    pod_uid: String,
    /// Addresses of the pod, a comma-separated list
    #[arg(long = "pod-ip", env = "POD_IPS", value_delimiter = ',', required = true)]
    pod_ips: Vec<IpAddr>,
    /// ServiceAccount of the pod
    #[arg(long, env = "SERVICE_ACCOUNT")]
    service_account: String,
}

#[derive(Debug, Args)]
struct SettingsArgs {
    /// Namespace of the control plane
    #[arg(long, default_value = "osm-system")]
    osm_namespace: String,
    /// Trust domain of certificates
    #[arg(long, default_value = "cluster.local")]
    trust_domain: String,
    /// DNS suffix of the cluster
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Lowest TLS version towards the control plane: TLS_AUTO, TLSv1_0, TLSv1_1, TLSv1_2 or TLSv1_3
    #[arg(long, default_value = "TLSv1_2", value_parser = osm_bootstrap::parse_tls_version)]
    tls_min_version: TlsVersion,
    /// Highest TLS version towards the control plane
    #[arg(long, default_value = "TLSv1_3", value_parser = osm_bootstrap::parse_tls_version)]
    tls_max_version: TlsVersion,
    /// Cipher suite for TLS up to 1.2 in place of Envoy's choice, may be repeated
    #[arg(long = "cipher-suite")]
    cipher_suites: Vec<String>,
    /// Key exchange curve in place of Envoy's choice, may be repeated
    #[arg(long = "ecdh-curve")]
    ecdh_curves: Vec<String>,
    /// Probes that the sidecar passes on to the application, as JSON
    #[arg(long, default_value = "[]", value_parser = parse_probes)]
    probes: Probes,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// Host of the control plane [default: its Service]
    #[arg(long)]
    control_plane_host: Option<String>,
    /// Port on which the control plane serves xDS
    #[arg(long, default_value_t = names::ADS_PORT)]
    ads_port: u16,
    /// Port on which the control plane gives certificates
    #[arg(long, default_value_t = names::IDENTITY_PORT)]
    identity_port: u16,
    /// Folder of the pod's projected token, as the sidecar sees it
    #[arg(long, default_value = names::TOKEN_FOLDER)]
    token_dir: String,
    /// Folder of the roots of the mesh, as the sidecar sees it
    #[arg(long, default_value = names::TRUST_BUNDLE_FOLDER)]
    trust_bundle_dir: String,
    /// Folder into which the bootstrap is written
    #[arg(long, default_value = names::CONFIGURATION_FOLDER)]
    output_dir: PathBuf,
}

fn parse_probes(text: &str) -> Result<Probes, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl InitArgs {
    /// The bootstrap that these arguments ask for.
    fn bootstrap(&self) -> anyhow::Result<PodBootstrap> {
        let Self { pod, settings, places, .. } = self;
        let workload = Identity::new(&pod.pod_namespace, &pod.service_account)?;
        let node = names::node_id(&pod.pod_name, &pod.pod_uid);
        // The certificate will name both: what it cannot name is said here, not when Envoy asks in vain.
        let trust_domain = TrustDomain::new(&settings.trust_domain)?;
        ProxyIdentity::new(identity::workload_identity(&trust_domain, &workload)?, &node)
            .with_context(|| format!("name the pod {} of uid {:?}", pod.pod_name, pod.pod_uid))?;
        let shared = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        let host = places.control_plane_host.clone();
        let configuration = places.output_dir.to_str();
        let configuration = configuration
            .with_context(|| format!("--output-dir {} is not in UTF-8; name another", places.output_dir.display()))?;
        Ok(PodBootstrap {
            workload,
            node,
            addresses: pod.pod_ips.clone(),
            control_plane: ControlPlaneAddress {
                host: host
                    .unwrap_or_else(|| names::control_plane_host(&settings.osm_namespace, &settings.cluster_domain)),
                ads_port: places.ads_port,
                identity_port: places.identity_port,
            },
            trust_domain: osm_model::TrustDomain::new(&settings.trust_domain)?,
            tls: TlsParameters {
                minimum: settings.tls_min_version,
                maximum: settings.tls_max_version,
                cipher_suites: shared(&settings.cipher_suites),
                ecdh_curves: shared(&settings.ecdh_curves),
            },
            probes: settings.probes.clone(),
            files: PodFiles {
                token: places.token_dir.clone(),
                trust_bundle: places.trust_bundle_dir.clone(),
                configuration: configuration.to_owned(),
            },
        })
    }
}

/// Writes the bootstrap, then sets the rules, in the network namespace of this process. In this order: what is wrong with
/// an argument is found before anything changes for the pod.
///
/// # Errors
/// An argument cannot be used, the folder cannot be written to, or the rules cannot be set.
pub(crate) fn run(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let rules = rules(&args.rules.config(&args.pod.pod_ips)?);
    let bootstrap = args.bootstrap()?;
    for (name, content) in bootstrap.files() {
        write(&args.places.output_dir, name, &content)?;
    }
    let applied = NetworkNamespace::Current.apply(&rules)?;
    let node = &bootstrap.node;
    let file = args.places.output_dir.join(names::BOOTSTRAP_FILE);
    Ok(crate::print(&format!("wrote {} for node {node}; {applied}\n", file.display()), ExitCode::SUCCESS))
}

/// Puts a file in place as a whole, readable by the sidecar's user. Nothing of it is secret.
fn write(folder: &Path, name: &str, content: &Value) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let (file, unfinished) = (folder.join(name), folder.join(format!(".{name}.new")));
    let failed = || format!("write {}; the folder must be a volume that this container may write to", file.display());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    let mut target = options.open(&unfinished).with_context(failed)?;
    target.write_all(content.to_string().as_bytes()).with_context(failed)?;
    std::fs::rename(&unfinished, &file).with_context(failed)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use osm_bootstrap::{PodSettings, ProbeKind, ProbeProtocol, ProbeRoute};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        init: InitArgs,
    }

    const POD: [&str; 6] = [
        "init",
        "--pod-name=web-0",
        "--pod-namespace=shop",
        "--pod-uid=7f0c6a52-9a43-4a0c-8f37-6a5b1a2f3c4d",
        "--pod-ip=10.0.0.7,fd00::7",
        "--service-account=api.v1",
    ];

    fn parse(more: &[String]) -> InitArgs {
        Line::parse_from(POD.iter().map(|text| (*text).to_owned()).chain(more.iter().cloned())).init
    }

    #[test]
    fn what_admission_decides_arrives_in_the_bootstrap() {
        let settings = PodSettings {
            control_plane_namespace: "mesh".into(),
            trust_domain: osm_model::TrustDomain::new("mesh.example").unwrap(),
            cluster_domain: "cluster.example".into(),
            tls: TlsParameters {
                minimum: TlsVersion::V1_3,
                maximum: TlsVersion::Auto,
                cipher_suites: vec!["ECDHE-ECDSA-AES128-GCM-SHA256".into(), "AES256-SHA".into()],
                ecdh_curves: vec!["P-256".into()],
            },
            probes: Probes::new(vec![ProbeRoute {
                kind: ProbeKind::Liveness,
                container: "web".into(),
                protocol: ProbeProtocol::Http { path: "/healthz?a=1,2&b=\"x\"".into() },
                port: 8080,
                timeout_seconds: 3,
            }])
            .unwrap(),
        };
        let bootstrap = parse(&settings.arguments()).bootstrap().unwrap();
        assert_eq!(bootstrap.node, "web-0.7f0c6a52-9a43-4a0c-8f37-6a5b1a2f3c4d");
        assert_eq!(bootstrap.workload, Identity::new("shop", "api.v1").unwrap());
        assert_eq!(bootstrap.addresses.len(), 2);
        assert_eq!(bootstrap.control_plane.host, "osm-controller.mesh.svc.cluster.example.");
        assert_eq!(
            (bootstrap.trust_domain, bootstrap.tls, bootstrap.probes),
            (settings.trust_domain, settings.tls, settings.probes)
        );
        assert_eq!(bootstrap.files, PodFiles::default());
    }

    #[test]
    fn the_name_that_the_sidecar_verifies_is_the_one_that_the_control_plane_bears() {
        let envoy = parse(&["--trust-domain=mesh.example".to_owned()]).bootstrap().unwrap().envoy().to_string();
        let trust_domain = TrustDomain::new("mesh.example").unwrap();
        let name = identity::control_plane_identity(&trust_domain, "osm-system").unwrap().ads_dns_name();
        assert!(envoy.contains(&format!("\"exact\":\"{name}\"")), "{name}");
        assert_eq!(names::CONTROL_PLANE_SERVICE, identity::CONTROL_PLANE_SERVICE);
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |argument: &str| {
            let line = POD.iter().copied().chain([argument]);
            Line::try_parse_from(line).unwrap_err().to_string()
        };
        assert!(refused("--tls-min-version=1.2").contains("TLSv1_2"));
        let twice =
            r#"--probes=[{"kind":"liveness","container":"web","protocol":"https","port":0,"timeoutSeconds":1}]"#;
        assert!(refused(twice).contains("port 0"), "{}", refused(twice));
        let error = parse(&["--trust-domain=Not A Domain".to_owned()]).bootstrap().unwrap_err();
        assert!(format!("{error:#}").contains("Not A Domain"), "{error:#}");
    }

    #[test]
    fn files_are_readable_and_replaced_as_a_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for content in [serde_json::json!({ "long": "x".repeat(100) }), serde_json::json!({})] {
            write(folder.path(), "a.json", &content).unwrap();
            let file = folder.path().join("a.json");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content.to_string());
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o444, 0o444);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write(Path::new("/nowhere"), "a.json", &serde_json::json!({})).unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere/a.json"), "{error:#}");
    }
}
