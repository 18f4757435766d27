//! Small meshes on loopback addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier};
use envoy_types::pb::envoy::config::listener::v3::{AdditionalAddress, Listener};
use osm_model::{
    AccessLog, Addressing, Backend, Destination, DestinationRoutes, Egress, Endpoint, EndpointReadiness,
    ExternalAuthorization, HttpMatch, HttpRule, Identity, InboundPolicy, InboundPort, InboundView, LocalProxyMode,
    MeshPort, MeshService, MeshSettings, Method, ObjectId, Origin, PathMatch, Principals, Protocol, Reachable,
    ServiceId, SplitRule, TcpRule, TlsParameters, TlsVersion, Tracing, TrafficRouting, TrustDomain,
};
use osm_translate::{Resource, ResourceKind};
use prost::Message as _;

/// OSM's defaults, permissive, on loopback addresses.
pub(crate) fn settings() -> MeshSettings {
    MeshSettings {
        trust_domain: TrustDomain::new("mesh.example").unwrap(),
        cluster_domain: "cluster.local".into(),
        permissive: true,
        egress: Egress::Allow,
        local_proxy_mode: LocalProxyMode::Localhost,
        tls: TlsParameters {
            minimum: TlsVersion::V1_2,
            maximum: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
            ecdh_curves: Vec::new(),
        },
        tracing: None,
        external_authorization: None,
        access_log: AccessLog::Stdout,
        service_ranges: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
    }
}

/// Every choice but egress made differently.
pub(crate) fn everything_switched_on() -> MeshSettings {
    let mut settings = settings();
    settings.permissive = false;
    settings.local_proxy_mode = LocalProxyMode::PodIp;
    settings.tls.minimum = TlsVersion::V1_2;
    settings.tls.cipher_suites = vec!["ECDHE-ECDSA-AES128-GCM-SHA256".into(), "ECDHE-RSA-AES128-GCM-SHA256".into()];
    settings.tls.ecdh_curves = vec!["X25519".into(), "P-256".into()];
    settings.tracing =
        Some(Tracing { address: "jaeger.osm.svc.cluster.local".into(), port: 9411, endpoint: "/api/v2/spans".into() });
    settings.external_authorization = Some(ExternalAuthorization {
        address: "authorizer.osm.svc.cluster.local".into(),
        port: 9191,
        stat_prefix: "inboundExtAuthz".into(),
        timeout: Duration::from_secs(1),
        failure_mode_allow: true,
    });
    settings
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity::new("shop", name).unwrap()
}

pub(crate) fn identities(names: &[&str]) -> Principals {
    names.iter().map(|name| identity(name)).collect()
}

/// A loopback address that nobody else in this process uses.
pub(crate) fn loopback() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low).into()
}

/// A port that is free on all loopback addresses, as far as the kernel knows.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// A service with one port, whose pods use the same number.
pub(crate) fn service(name: &str, addressing: Addressing, port: u16, protocol: Protocol) -> Arc<MeshService> {
    let ports = vec![MeshPort { port, target_port: port, protocol }];
    Arc::new(MeshService { id: ServiceId::new("shop", name).unwrap(), addressing, ports })
}

/// `service` as seen by clients that may reach all of `behind`.
pub(crate) fn destination(service: &Arc<MeshService>, behind: &[&str]) -> Destination {
    Destination {
        service: service.clone(),
        port: service.ports[0].clone(),
        reachable: Reachable::All,
        identities: identities(behind),
    }
}

pub(crate) fn routes(service: &Arc<MeshService>, routing: TrafficRouting) -> DestinationRoutes {
    DestinationRoutes { service: service.clone(), port: service.ports[0].clone(), routing }
}

pub(crate) fn ready(address: SocketAddr, name: &str) -> Endpoint {
    Endpoint {
        address: address.ip(),
        port: address.port(),
        readiness: EndpointReadiness::Ready,
        identity: Some(identity(name)),
    }
}

/// A split without conditions.
pub(crate) fn split(name: &str, backends: &[(&Arc<MeshService>, u32)]) -> SplitRule {
    let backend = |(service, weight): &(&Arc<MeshService>, u32)| Backend {
        service: service.id.clone(),
        port: service.ports[0].clone(),
        weight: *weight,
    };
    SplitRule {
        matches: Vec::new(),
        backends: backends.iter().map(backend).collect(),
        origin: origin("TrafficSplit", name),
    }
}

pub(crate) fn origin(kind: &str, name: &str) -> Origin {
    Origin { object: ObjectId::new(kind, "shop", name), field: "spec".into(), generation: 1 }
}

/// What one workload serves on one port.
pub(crate) fn view(name: &str, target_port: u16, protocol: Protocol, policy: InboundPolicy) -> InboundView {
    let services = [(ServiceId::new("shop", "bookstore").unwrap(), target_port)].into();
    InboundView { identity: identity(name), ports: vec![InboundPort { target_port, protocol, services, policy }] }
}

pub(crate) fn http_match(path: PathMatch, methods: &[&str]) -> HttpMatch {
    let methods: BTreeSet<Method> = methods.iter().map(|method| Method::new(method).unwrap()).collect();
    HttpMatch { path, methods, headers: Vec::new() }
}

/// A grant of `target` to `callers` for requests that `matches`.
pub(crate) fn http_rule(target: &str, group: &str, matches: HttpMatch, callers: &[&str]) -> HttpRule {
    HttpRule {
        matches,
        route: format!("httproutegroup/shop/{group}/match").into(),
        principals: identities(callers),
        origins: vec![origin("TrafficTarget", target), origin("HTTPRouteGroup", group)],
    }
}

pub(crate) fn tcp_rule(target: &str, callers: &[&str]) -> TcpRule {
    TcpRule {
        principals: identities(callers),
        origins: vec![origin("TrafficTarget", target), origin("TCPRoute", "tcp")],
    }
}

/// The HTTP policy of these rules, in their order.
pub(crate) fn http_policy(mut rules: Vec<HttpRule>) -> InboundPolicy {
    rules.sort_by(|a, b| (&a.matches, &a.route).cmp(&(&b.matches, &b.route)));
    InboundPolicy::Http(rules.into())
}

/// A listener with sockets of its own on `addresses`, which nothing has to be redirected to; otherwise as translated.
pub(crate) fn moved(resource: &Resource, addresses: &[SocketAddr]) -> Resource {
    assert_eq!(resource.kind, ResourceKind::Listener);
    let mut listener = Listener::decode(resource.body.clone()).unwrap();
    let mut addresses = addresses.iter().map(|address| Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..Default::default()
        })),
    });
    listener.address = addresses.next();
    listener.additional_addresses =
        addresses.map(|address| AdditionalAddress { address: Some(address), ..Default::default() }).collect();
    listener.bind_to_port = None;
    Resource { body: listener.encode_to_vec().into(), ..resource.clone() }
}

/// What a server's sidecar is given, with its inbound listener moved to `address` and without the metrics listener,
/// whose port is the same for all.
pub(crate) fn inbound_at(address: SocketAddr, view: &InboundView, settings: &MeshSettings) -> Vec<Resource> {
    osm_translate::inbound(view, settings)
        .into_iter()
        .filter(|resource| &*resource.name != osm_translate::naming::METRICS_LISTENER)
        .map(|resource| if resource.kind == ResourceKind::Listener { moved(&resource, &[address]) } else { resource })
        .collect()
}
