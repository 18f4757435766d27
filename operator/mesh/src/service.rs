//! Services: addresses, ports and what the ports speak.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use osm_api::ServiceReason;
use osm_model::{Addressing, MeshPort, MeshService, Protocol, ServiceId};

use crate::endpoint_slice::SliceFacts;
use crate::parsed::{Parsed, Report};

/// A Service as written, before its endpoints are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Which Service.
    pub id: ServiceId,
    /// How it is addressed.
    pub addressing: Addressing,
    /// Its TCP ports, ordered by number.
    pub ports: Vec<PortFacts>,
}

/// A TCP port of a Service as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    /// `name`; empty if it has none, as in EndpointSlices.
    pub name: Arc<str>,
    /// `port`.
    pub port: u16,
    /// `targetPort` if it is a number, else `port`: what counts while no EndpointSlice says better.
    pub target_port: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Reads a Service. No value for ExternalName Services, for headless ones without ports, and for malformed ones.
pub fn service(object: &Service) -> Parsed<ServiceFacts> {
    let mut report = Report::of(object);
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let id = match ServiceId::new(namespace, name) {
        Ok(id) => id,
        Err(error) => {
            report.refuse("metadata.name", ServiceReason::InvalidField, error.to_string(), "rename the Service");
            return report.finish(None);
        }
    };
    let Some(spec) = &object.spec else { return report.finish(None) };
    if spec.type_.as_deref() == Some("ExternalName") {
        return report.finish(None);
    }
    let addressing = addressing(object, &mut report);
    let mut ports: Vec<PortFacts> = spec
        .ports
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, port)| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .filter_map(|(index, port)| port_facts(index, port, &mut report))
        .collect();
    ports.sort_by_key(|port| port.port);
    ports.dedup_by_key(|port| port.port);
    let value = addressing.map(|addressing| ServiceFacts { id, addressing, ports });
    report.finish(value)
}

fn addressing(object: &Service, report: &mut Report) -> Option<Addressing> {
    let spec = object.spec.as_ref()?;
    let texts = spec.cluster_ips.clone().filter(|ips| !ips.is_empty()).or(spec.cluster_ip.clone().map(|ip| vec![ip]));
    let texts = texts.unwrap_or_default();
    if texts.iter().any(|text| text == "None") {
        return Some(Addressing::Headless);
    }
    let mut addresses = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Ok(address) => addresses.push(address),
            Err(_) => report.refuse(
                "spec.clusterIPs",
                ServiceReason::InvalidAddress,
                format!("{text:?} is not an IP address"),
                "let the API server assign the ClusterIP, or write an address",
            ),
        }
    }
    addresses.sort();
    addresses.dedup();
    if texts.iter().all(String::is_empty) {
        report.warn(
            "spec.clusterIP",
            ServiceReason::NoClusterIp,
            "the Service has no ClusterIP yet, so no client can address it",
            "give it a clusterIP, or None for a headless Service",
        );
    }
    (!addresses.is_empty()).then_some(Addressing::ClusterIp(addresses))
}

fn port_facts(index: usize, port: &ServicePort, report: &mut Report) -> Option<PortFacts> {
    let field = format!("spec.ports[{index}]");
    let number = port_number(&format!("{field}.port"), port.port, report)?;
    let target_port = match &port.target_port {
        Some(IntOrString::Int(target)) => port_number(&format!("{field}.targetPort"), *target, report)?,
        Some(IntOrString::String(_)) | None => number,
    };
    let protocol = protocol(&field, port, report);
    Some(PortFacts { name: port.name.as_deref().unwrap_or_default().into(), port: number, target_port, protocol })
}

fn port_number(field: &str, value: i32, report: &mut Report) -> Option<u16> {
    let number = u16::try_from(value).ok().filter(|number| *number > 0);
    if number.is_none() {
        let message = format!("{value} is not a port number");
        report.refuse(field, ServiceReason::InvalidPort, message, "use a number from 1 to 65535");
    }
    number
}

/// `appProtocol` first, then the prefix of the port's name, then HTTP (OSM's rules). A protocol that is not known is
/// carried as bytes rather than dropped.
fn protocol(field: &str, port: &ServicePort, report: &mut Report) -> Protocol {
    if let Some(value) = port.app_protocol.as_deref() {
        return app_protocol(value).unwrap_or_else(|| {
            report.warn(
                format!("{field}.appProtocol"),
                ServiceReason::UnknownProtocol,
                format!("{value:?} is not a protocol the mesh understands, the port is carried as tcp"),
                "use http, grpc, tcp or tcp-server-first",
            );
            Protocol::Tcp
        });
    }
    let name = port.name.as_deref().unwrap_or_default();
    let prefix = |word: &str| name == word || name.strip_prefix(word).is_some_and(|rest| rest.starts_with('-'));
    // The longest prefix first: `tcp-server-first` is also a `tcp-` name.
    [("tcp-server-first", Protocol::TcpServerFirst), ("grpc", Protocol::Grpc), ("tcp", Protocol::Tcp)]
        .into_iter()
        .find_map(|(word, protocol)| prefix(word).then_some(protocol))
        .unwrap_or(Protocol::Http)
}

fn app_protocol(value: &str) -> Option<Protocol> {
    match value.to_ascii_lowercase().as_str() {
        "http" | "http2" | "h2c" | "ws" | "kubernetes.io/h2c" | "kubernetes.io/ws" => Some(Protocol::Http),
        "grpc" | "kubernetes.io/grpc" => Some(Protocol::Grpc),
        // TLS that the application speaks itself is bytes to the mesh.
        "tcp" | "https" | "tls" | "kubernetes.io/wss" | "redis" | "mongo" => Some(Protocol::Tcp),
        "tcp-server-first" | "mysql" => Some(Protocol::TcpServerFirst),
        _ => None,
    }
}

/// Joins a Service with its EndpointSlices: a port of the slices with the same name says the pods' port number. Where
/// pods differ (named ports), the smallest number names the port and each endpoint keeps its own.
pub fn mesh_service(facts: &ServiceFacts, slices: &[Arc<SliceFacts>]) -> MeshService {
    let target = |port: &PortFacts| {
        slices.iter().filter_map(|slice| slice.ports.get(&port.name).copied()).min().unwrap_or(port.target_port)
    };
    let ports = facts
        .ports
        .iter()
        .map(|port| MeshPort { port: port.port, target_port: target(port), protocol: port.protocol })
        .collect();
    MeshService { id: facts.id.clone(), addressing: facts.addressing.clone(), ports }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, app_protocol: Option<&str>) -> ServicePort {
        ServicePort {
            name: Some(name.into()),
            app_protocol: app_protocol.map(Into::into),
            port: 80,
            ..ServicePort::default()
        }
    }

    fn detect(name: &str, app_protocol: Option<&str>) -> (Protocol, usize) {
        let mut report = Report::of(&object(&[], vec![]));
        let protocol = protocol("spec.ports[0]", &port(name, app_protocol), &mut report);
        (protocol, report.into_findings().len())
    }

    #[test]
    fn the_protocol_comes_from_app_protocol_then_the_name_then_is_http() {
        assert_eq!(detect("grpc-api", Some("tcp")), (Protocol::Tcp, 0));
        assert_eq!(detect("grpc-api", None), (Protocol::Grpc, 0));
        assert_eq!(detect("tcp-db", None), (Protocol::Tcp, 0));
        assert_eq!(detect("tcp-server-first-db", None), (Protocol::TcpServerFirst, 0));
        assert_eq!(detect("http-web", None), (Protocol::Http, 0));
        assert_eq!(detect("web", None), (Protocol::Http, 0));
        assert_eq!(detect("tcpdump", None), (Protocol::Http, 0));
        assert_eq!(detect("web", Some("kubernetes.io/h2c")), (Protocol::Http, 0));
        assert_eq!(detect("web", Some("carrier-pigeon")), (Protocol::Tcp, 1));
    }

    fn object(cluster_ips: &[&str], ports: Vec<ServicePort>) -> Service {
        let mut object = Service::default();
        object.metadata.namespace = Some("shop".into());
        object.metadata.name = Some("a".into());
        let spec = object.spec.get_or_insert_default();
        spec.cluster_ips = Some(cluster_ips.iter().map(|ip| (*ip).to_owned()).collect());
        spec.ports = Some(ports);
        object
    }

    #[test]
    fn addresses_of_both_families_and_headless_are_understood() {
        let read = |ips: &[&str]| service(&object(ips, vec![])).value.map(|facts| facts.addressing);
        let both = Addressing::ClusterIp(vec!["10.96.0.5".parse().unwrap(), "fd00:96::5".parse().unwrap()]);
        assert_eq!(read(&["fd00:96::5", "10.96.0.5"]), Some(both));
        assert_eq!(read(&["None"]), Some(Addressing::Headless));
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_port_out_of_range_costs_only_that_port() {
        let bad = ServicePort { port: 70_000, ..port("http", None) };
        let parsed = service(&object(&["10.96.0.5"], vec![bad, port("http", None)]));
        assert_eq!(parsed.value.unwrap().ports.len(), 1);
        assert!(parsed.findings[0].message.contains("70000"));
    }

    #[test]
    fn udp_ports_are_not_the_mesh_s_business() {
        let udp = ServicePort { protocol: Some("UDP".into()), ..port("dns", None) };
        let parsed = service(&object(&["10.96.0.5"], vec![udp]));
        assert!(parsed.value.unwrap().ports.is_empty() && parsed.findings.is_empty());
    }
}
