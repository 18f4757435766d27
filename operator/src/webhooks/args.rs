//! What the command line says about injected containers.

use clap::Args;
use osm_admission::{InjectorDefaults, PullPolicy};
use osm_api::ResourceRequirements;
use osm_engine::Options;

/// Memory and time for setting rules and writing a file.
const INIT_RESOURCES: &str = r#"{"requests":{"cpu":"10m","memory":"32Mi"},"limits":{"cpu":"1","memory":"64Mi"}}"#;
/// Memory and time for a handful of probes a second.
const HEALTH_CHECK_RESOURCES: &str =
    r#"{"requests":{"cpu":"5m","memory":"16Mi"},"limits":{"cpu":"100m","memory":"64Mi"}}"#;

/// What pods are injected with, where MeshConfig does not say otherwise.
#[derive(Debug, Clone, Args)]
pub struct WebhookArgs {
    /// Image of Envoy in pods; spec.sidecar.envoyImage of the MeshConfig goes before it
    #[arg(long, env = "OSM_DEFAULT_ENVOY_IMAGE", default_value = "envoyproxy/envoy:distroless-v1.36.2")]
    envoy_image: String,
    /// Image of the init container in pods; spec.sidecar.initContainerImage of the MeshConfig goes before it
    #[arg(long, env = "OSM_DEFAULT_INIT_CONTAINER_IMAGE", default_value = "osm-operator:latest")]
    init_image: String,
    /// Image of the container in pods that answers TCP, gRPC and some HTTPS probes; the init container's if not given
    #[arg(long, env = "OSM_DEFAULT_HEALTHCHECK_CONTAINER_IMAGE")]
    healthcheck_image: Option<String>,
    /// When the images of injected containers are pulled: Always, IfNotPresent or Never
    #[arg(long, default_value = "IfNotPresent")]
    image_pull_policy: PullPolicy,
    /// Resources of the init container in pods, as JSON
    #[arg(long, default_value = INIT_RESOURCES, value_parser = resources)]
    init_resources: ResourceRequirements,
    /// Resources of the container in pods that answers probes, as JSON
    #[arg(long, default_value = HEALTH_CHECK_RESOURCES, value_parser = resources)]
    healthcheck_resources: ResourceRequirements,
}

fn resources(text: &str) -> Result<ResourceRequirements, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("{error}; write JSON such as {{\"requests\":{{\"cpu\":\"10m\"}},\"limits\":{{\"memory\":\"64Mi\"}}}}")
    })
}

impl WebhookArgs {
    /// What injection is told of the mesh and by these options.
    #[must_use]
    pub fn injector(&self, options: &Options) -> InjectorDefaults {
        InjectorDefaults {
            control_plane_namespace: options.control_plane_namespace.clone(),
            trust_domain: options.trust_domain.clone(),
            cluster_domain: options.cluster_domain.clone(),
            envoy_image: self.envoy_image.clone(),
            init_image: self.init_image.clone(),
            health_check_image: self.healthcheck_image.clone().unwrap_or_else(|| self.init_image.clone()),
            pull_policy: self.image_pull_policy,
            init_resources: self.init_resources.clone(),
            health_check_resources: self.healthcheck_resources.clone(),
        }
    }
}
