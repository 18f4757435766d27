//! What `osm-operator run` is told. Names are OSM's where they mean the same.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use osm_kubernetes::{LeaseTiming, WebhookConfiguration};

use crate::cli::MeshArgs;
use crate::logging::LogFormat;
use crate::roots::Timing;
use crate::webhooks::WebhookArgs;

/// Shown below the options.
pub(crate) const HELP: &str = "\
Examples:
  osm-operator run
  osm-operator run --kubeconfig ~/.kube/config --mesh-name osm --osm-namespace osm-system

Runs in a pod of the Deployment osm-controller, usually with a second replica beside it. The holder of the Lease writes.
Exit codes: 0 stopped by SIGTERM or SIGINT, 2 could not start or had to give up.";

const fn on_all_addresses(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
    /// Kubeconfig of the API server; in a pod that of the cluster is found by itself
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Address on which xDS is served, by mutual TLS
    #[arg(long, default_value_t = on_all_addresses(15128))]
    pub(crate) listen: SocketAddr,
    /// Address of the admin endpoint: health, metrics, dumps, and what other replicas are told
    #[arg(long, default_value_t = on_all_addresses(9091))]
    pub(crate) admin: SocketAddr,
    /// Address of the endpoint at which proxies of pods trade a token for a certificate
    #[arg(long, default_value_t = on_all_addresses(15129))]
    pub(crate) identity_listen: SocketAddr,
    /// Address of the admission webhooks
    #[arg(long, default_value_t = on_all_addresses(9090))]
    pub(crate) webhook_listen: SocketAddr,
    #[command(flatten)]
    pub(crate) webhooks: WebhookArgs,
    /// MutatingWebhookConfiguration that is made to trust the roots of the mesh; osm-webhook-<mesh name> if not given
    #[arg(long)]
    webhook_config_name: Option<String>,
    /// ValidatingWebhookConfiguration that is made to trust the roots of the mesh; osm-validator-mesh-<mesh name> if not given
    #[arg(long)]
    validator_webhook_config: Option<String>,
    /// Name of this replica: that of its pod
    #[arg(long, env = "POD_NAME", default_value = "osm-controller")]
    pub(crate) replica_name: String,
    /// Secret of the certificate authority, made if it is not there
    #[arg(long, default_value = "osm-ca-bundle")]
    pub(crate) ca_bundle_secret_name: String,
    /// ConfigMap with the settings that the MeshConfig is made of if there is none
    #[arg(long, default_value = "preset-mesh-config")]
    pub(crate) preset_mesh_config_name: String,
    /// Refuse to run beside another mesh in the cluster
    #[arg(long)]
    pub(crate) enforce_single_mesh: bool,
    /// Seconds after which another replica takes over from one that has vanished
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..))]
    lease_duration_seconds: u64,
    /// Seconds after which a proxy is asked to connect again, a tenth more or less, so that replicas share the load
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..))]
    connection_age_seconds: u64,
    /// Seconds over which proxies are sent to other replicas before the end
    #[arg(long, default_value_t = 5)]
    drain_seconds: u64,
    /// Seconds that proxies have to come back after a start, or after a replica came or went, before their number counts as changed
    #[arg(long, default_value_t = 5)]
    settling_seconds: u64,
    /// Seconds after which a ConfigMap that was written is in the volumes of all pods: how long a change of roots waits for that
    #[arg(long, default_value_t = 120)]
    trust_bundle_delay_seconds: u64,
    /// Seconds for which a change of roots waits for a proxy that was connected to come back
    #[arg(long, default_value_t = 60)]
    proxy_grace_seconds: u64,
    /// Seconds after which the providers of roots in use are looked at again, and the Secrets with their credentials
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    provider_check_seconds: u64,
    /// Where traces of the control plane's own work are sent, by OTLP over gRPC
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Form of log lines
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) log_format: LogFormat,
}

impl RunArgs {
    /// What the Lease is held as: no two processes have the same, also where a pod's container starts again.
    pub(crate) fn holder(&self) -> String {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("{}_{}-{:x}", self.replica_name, std::process::id(), since.as_nanos())
    }

    /// The webhook configurations of this mesh.
    pub(crate) fn webhook_configurations(&self, mesh_name: &str) -> [(WebhookConfiguration, String); 2] {
        let or =
            |given: &Option<String>, prefix: &str| given.clone().unwrap_or_else(|| format!("{prefix}-{mesh_name}"));
        [
            (WebhookConfiguration::Mutating, or(&self.webhook_config_name, "osm-webhook")),
            (WebhookConfiguration::Validating, or(&self.validator_webhook_config, "osm-validator-mesh")),
        ]
    }

    /// Times of the election.
    pub(crate) fn lease_timing(&self) -> LeaseTiming {
        let duration = Duration::from_secs(self.lease_duration_seconds);
        let timing = LeaseTiming::default();
        LeaseTiming {
            duration,
            renew_within: duration * 2 / 3,
            renew_every: duration / 3,
            retry_after: timing.retry_after.min(duration / 6),
        }
    }

    /// After how long a connection is closed.
    pub(crate) fn connection_age(&self) -> Duration {
        Duration::from_secs(self.connection_age_seconds)
    }

    /// How long counts may be off after replicas came or went.
    pub(crate) fn settling(&self) -> Duration {
        Duration::from_secs(self.settling_seconds)
    }

    /// How long a change of roots waits for what nothing tells.
    pub(crate) fn roots_timing(&self) -> Timing {
        Timing {
            proxy_grace: Duration::from_secs(self.proxy_grace_seconds),
            trust_bundle_delay: Duration::from_secs(self.trust_bundle_delay_seconds),
            look_every: Duration::from_secs(self.provider_check_seconds),
            ..Timing::CLUSTER
        }
    }

    /// Over how long proxies are sent away.
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
