//! What injection is told: by flags of the control plane, and by MeshConfig.

use std::sync::Arc;

use osm_api::{MeshConfig, ResourceRequirements, SidecarLogLevel};
use osm_intercept::{InterceptConfig, InterfaceName, IpRanges, Port};
use osm_model::{LocalProxyMode, TlsParameters, TrustDomain};

/// What the control plane was started with.
#[derive(Debug, Clone, PartialEq)]
pub struct InjectorDefaults {
    /// Namespace of the control plane.
    pub control_plane_namespace: Arc<str>,
    /// Trust domain of certificates.
    pub trust_domain: TrustDomain,
    /// DNS suffix of the cluster.
    pub cluster_domain: Arc<str>,
    /// Image of Envoy, unless MeshConfig `spec.sidecar.envoyImage` names one.
    pub envoy_image: String,
    /// Image of the init container, unless MeshConfig `spec.sidecar.initContainerImage` names one.
    pub init_image: String,
    /// Image of the container that answers TCP, gRPC and further HTTPS probes.
    pub health_check_image: String,
    /// When images are pulled.
    pub pull_policy: PullPolicy,
    /// Compute resources of the init container.
    pub init_resources: ResourceRequirements,
    /// Compute resources of the container that answers probes.
    pub health_check_resources: ResourceRequirements,
}

/// `imagePullPolicy` of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Kubernetes' and say it all")]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The policy as a container has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl std::str::FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Always, Self::IfNotPresent, Self::Never]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no pull policy; use Always, IfNotPresent or Never"))
    }
}

/// How much privilege the init container has (MeshConfig `spec.sidecar.enablePrivilegedInitContainer`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InitPrivilege {
    /// The capabilities it needs and no others.
    #[default]
    Capabilities,
    /// All there is.
    Privileged,
}

/// Everything that decides how a Pod is injected, beside the Pod and its Namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct InjectorConfig {
    /// What the control plane was started with; images are those in force.
    pub defaults: InjectorDefaults,
    /// Envoy's log level.
    pub log_level: SidecarLogLevel,
    /// Compute resources of Envoy.
    pub resources: ResourceRequirements,
    /// TLS between sidecar and control plane.
    pub tls: TlsParameters,
    /// Privilege of the init container.
    pub init_privilege: InitPrivilege,
    /// Where the sidecar finds the application.
    pub local_proxy_mode: LocalProxyMode,
    /// What all Pods leave out of interception. The mode of the local proxy is not set here: it needs the Pod's address.
    pub interception: InterceptConfig,
    /// Values of MeshConfig that cannot be used, in words.
    pub warnings: Vec<String>,
}

impl InjectorConfig {
    /// The configuration that follows. Without a MeshConfig every setting has its default.
    #[must_use]
    pub fn new(mut defaults: InjectorDefaults, mesh_config: Option<&MeshConfig>) -> Self {
        let facts = mesh_config.and_then(|config| osm_mesh::mesh_config(config).value);
        let (trust_domain, cluster_domain) = (defaults.trust_domain.clone(), defaults.cluster_domain.clone());
        let settings = osm_mesh::settings(facts.as_ref(), trust_domain, cluster_domain, Vec::new());
        let spec = mesh_config.map(|config| config.spec.clone()).unwrap_or_default();
        let sidecar = &spec.sidecar;
        if let Some(image) = sidecar.envoy_image() {
            image.clone_into(&mut defaults.envoy_image);
        }
        if let Some(image) = sidecar.init_container_image() {
            image.clone_into(&mut defaults.init_image);
        }
        let mut warnings = Vec::new();
        let init_privilege = match sidecar.enable_privileged_init_container() {
            true => InitPrivilege::Privileged,
            false => InitPrivilege::Capabilities,
        };
        Self {
            log_level: sidecar.log_level(),
            resources: sidecar.resources.clone(),
            tls: settings.tls,
            init_privilege,
            local_proxy_mode: settings.local_proxy_mode,
            interception: interception(&spec.traffic, &mut warnings),
            warnings,
            defaults,
        }
    }
}

/// The lists of MeshConfig. A bad entry costs only itself: it would otherwise keep every new Pod of the mesh from starting.
pub(crate) fn interception(traffic: &osm_api::TrafficSpec, warnings: &mut Vec<String>) -> InterceptConfig {
    let mut bad = |list: &str, error: osm_intercept::InvalidValue| {
        warnings.push(format!("MeshConfig spec.traffic.{list}: {error}; the entry is ignored"));
    };
    let mut ranges = |list: &str, texts: &[String]| {
        let mut ranges = IpRanges::default();
        for text in texts {
            match IpRanges::parse([text.as_str()]) {
                Ok(one) => {
                    ranges.ipv4.extend(one.ipv4);
                    ranges.ipv6.extend(one.ipv6);
                }
                Err(error) => bad(list, error),
            }
        }
        ranges
    };
    let outbound_range_exclusions = ranges("outboundIPRangeExclusionList", &traffic.outbound_ip_range_exclusion_list);
    let outbound_range_inclusions = ranges("outboundIPRangeInclusionList", &traffic.outbound_ip_range_inclusion_list);
    let ports = |ports: &[osm_api::Port]| ports.iter().filter_map(|port| Port::try_from(port.get()).ok()).collect();
    let mut interface_exclusions = std::collections::BTreeSet::<InterfaceName>::new();
    for text in &traffic.network_interface_exclusion_list {
        match text.parse() {
            Ok(name) => drop(interface_exclusions.insert(name)),
            Err(error) => bad("networkInterfaceExclusionList", error),
        }
    }
    InterceptConfig {
        inbound_port_exclusions: ports(&traffic.inbound_port_exclusion_list),
        outbound_port_exclusions: ports(&traffic.outbound_port_exclusion_list),
        outbound_range_exclusions,
        outbound_range_inclusions,
        interface_exclusions,
        ..InterceptConfig::default()
    }
}
