//! What of a Pod's traffic is left alone, and who its sidecar runs as: MeshConfig and the Pod's annotations together.

use std::collections::{BTreeMap, BTreeSet};

use osm_api::k8s_openapi::api::core::v1::{Container, PodSpec};
use osm_intercept::{InterceptConfig, InvalidValue, IpRanges, Port, ProxyUid};
use osm_model::LocalProxyMode;

use super::PodName;
use super::names::is_own_container;
use super::refusal::Refusal;
use crate::annotation::{
    INBOUND_PORT_EXCLUSIONS, OUTBOUND_PORT_EXCLUSIONS, OUTBOUND_RANGE_EXCLUSIONS, OUTBOUND_RANGE_INCLUSIONS,
    PROXY_UID_ANNOTATION, entries,
};

const PORTS_REMEDY: &str = "write a comma-separated list such as 5432,6379";
const RANGES_REMEDY: &str = "write a comma-separated list such as 10.0.0.0/8,fd00::/8";

/// Adds what the annotations of a Pod say to what MeshConfig says of all.
///
/// # Errors
/// A value of an annotation cannot be used.
pub(super) fn merged(
    name: &PodName,
    annotations: &BTreeMap<String, String>,
    mesh: &InterceptConfig,
) -> Result<InterceptConfig, Refusal> {
    let mut config = mesh.clone();
    let refuse = |annotation, remedy| {
        move |error: InvalidValue| Refusal::Annotation {
            pod: name.clone(),
            annotation,
            problem: error.to_string(),
            remedy,
        }
    };
    let ports = |annotation: &'static str, ports: &mut BTreeSet<Port>| {
        let text = annotations.get(annotation).map_or("", String::as_str);
        for entry in entries(text) {
            ports.insert(entry.parse().map_err(refuse(annotation, PORTS_REMEDY))?);
        }
        Ok(())
    };
    ports(INBOUND_PORT_EXCLUSIONS, &mut config.inbound_port_exclusions)?;
    ports(OUTBOUND_PORT_EXCLUSIONS, &mut config.outbound_port_exclusions)?;
    let ranges = |annotation: &'static str, ranges: &mut IpRanges| {
        let text = annotations.get(annotation).map_or("", String::as_str);
        let more = IpRanges::parse(entries(text)).map_err(refuse(annotation, RANGES_REMEDY))?;
        ranges.ipv4.extend(more.ipv4);
        ranges.ipv6.extend(more.ipv6);
        Ok(())
    };
    ranges(OUTBOUND_RANGE_EXCLUSIONS, &mut config.outbound_range_exclusions)?;
    ranges(OUTBOUND_RANGE_INCLUSIONS, &mut config.outbound_range_inclusions)?;
    if let Some(text) = annotations.get(PROXY_UID_ANNOTATION) {
        let remedy = "write the number of a user that no container of the Pod runs as";
        config.proxy_uid = text.parse().map_err(refuse(PROXY_UID_ANNOTATION, remedy))?;
    }
    Ok(config)
}

/// Refuses a Pod of which a container is known to run as the sidecar's user. A user that an image names cannot be seen here.
///
/// # Errors
/// Names the first such container.
pub(super) fn refuse_uid_clash(name: &PodName, spec: &PodSpec, proxy: ProxyUid) -> Result<(), Refusal> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let user =
        |container: &Container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut clashing = containers
        .filter(|container| !is_own_container(&container.name))
        .filter(|container| user(container) == Some(i64::from(proxy.get())));
    match clashing.next() {
        None => Ok(()),
        Some(container) => {
            Err(Refusal::ProxyUid { pod: name.clone(), container: container.name.clone(), uid: proxy.get() })
        }
    }
}

/// The options of `osm-operator init` that say so; only what differs from the defaults.
pub(super) fn arguments(config: &InterceptConfig, mode: LocalProxyMode) -> Vec<String> {
    let mut arguments = Vec::new();
    if config.proxy_uid != InterceptConfig::default().proxy_uid {
        arguments.push(format!("--proxy-uid={}", config.proxy_uid));
    }
    let mut list = |flag: &str, values: Vec<String>| {
        if !values.is_empty() {
            arguments.push(format!("--{flag}={}", values.join(",")));
        }
    };
    let ports = |ports: &BTreeSet<Port>| ports.iter().map(ToString::to_string).collect();
    let ranges = |ranges: &IpRanges| {
        let ipv4 = ranges.ipv4.iter().map(ToString::to_string);
        ipv4.chain(ranges.ipv6.iter().map(ToString::to_string)).collect()
    };
    list("inbound-port-exclusion", ports(&config.inbound_port_exclusions));
    list("outbound-port-exclusion", ports(&config.outbound_port_exclusions));
    list("outbound-ip-range-exclusion", ranges(&config.outbound_range_exclusions));
    list("outbound-ip-range-inclusion", ranges(&config.outbound_range_inclusions));
    list("network-interface-exclusion", config.interface_exclusions.iter().map(ToString::to_string).collect());
    match mode {
        LocalProxyMode::Localhost => {}
        LocalProxyMode::PodIp => arguments.push("--local-proxy-mode=pod-ip".to_owned()),
    }
    arguments
}
