//! Health probes: the kubelet has no certificate of the mesh, so its probes go to ports of the sidecar that are not redirected.

use std::collections::BTreeSet;

use osm_api::k8s_openapi::api::core::v1::{
    Container, ContainerPort, GRPCAction, HTTPGetAction, Probe, TCPSocketAction,
};
use osm_api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use osm_bootstrap::{ProbeKind, ProbeProtocol, ProbeRoute, names};
use serde_json::{Map, Value, json};

use super::names::is_own_container;

/// Who answers the rewritten probes.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// Probes that Envoy passes on.
    pub(super) routes: Vec<ProbeRoute>,
    /// Ports that the container has to ask which speaks TCP, gRPC and HTTPS for the kubelet; none if it is not needed.
    pub(super) health_check_ports: BTreeSet<u16>,
    /// Probes that stay as they are although they cannot succeed, in words.
    pub(super) warnings: Vec<String>,
}

fn field(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Liveness => "livenessProbe",
        ProbeKind::Readiness => "readinessProbe",
        ProbeKind::Startup => "startupProbe",
    }
}

fn probe(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Startup => container.startup_probe.as_ref(),
    }
}

/// Rewrites the probes of `containers`, of which `written` is the JSON. `former` are routes of an earlier injection: a probe
/// that goes to one of them already stays as it is.
pub(super) fn rewrite(containers: &[Container], written: &mut [Value], former: &[ProbeRoute], result: &mut Rewritten) {
    for (container, written) in containers.iter().zip(written) {
        if is_own_container(&container.name) {
            continue;
        }
        for kind in ProbeKind::ALL {
            let Some(probe) = probe(container, kind) else { continue };
            let Some(written) = written.get_mut(field(kind)).and_then(Value::as_object_mut) else { continue };
            let ports = container.ports.as_deref().unwrap_or_default();
            let target = Target { kind, container: &container.name, ports, timeout: timeout(probe) };
            if let Some(http) = &probe.http_get {
                target.http(http, written, former, result);
            } else if let Some(tcp) = &probe.tcp_socket {
                target.tcp(tcp, written, result);
            } else if let Some(grpc) = &probe.grpc {
                target.grpc(grpc, written, result);
            }
        }
        warn_of_hooks(container, result);
    }
}

/// The API server's default is 1 second.
fn timeout(probe: &Probe) -> u32 {
    probe.timeout_seconds.and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| *seconds > 0).unwrap_or(1)
}

/// One probe of one container.
struct Target<'a> {
    kind: ProbeKind,
    container: &'a str,
    ports: &'a [ContainerPort],
    timeout: u32,
}

impl Target<'_> {
    fn route(&self, protocol: ProbeProtocol, port: u16) -> ProbeRoute {
        let container = self.container.to_owned();
        ProbeRoute { kind: self.kind, container, protocol, port, timeout_seconds: self.timeout }
    }

    fn http(
        &self,
        http: &HTTPGetAction,
        written: &mut Map<String, Value>,
        former: &[ProbeRoute],
        result: &mut Rewritten,
    ) {
        if http.host.as_deref().is_some_and(|host| !host.is_empty()) {
            // It asks somebody else.
            return;
        }
        let port = self.port(&http.port);
        if let Some(route) = self.already(http, port, former) {
            result.routes.push(ProbeRoute { timeout_seconds: self.timeout, ..route.clone() });
            return;
        }
        if port == Some(names::HEALTH_CHECK_PORT) && http.path.as_deref() == Some(names::HEALTH_CHECK_PATH) {
            result.health_check_ports.extend(asked_port(http));
            return;
        }
        let Some(port) = port else { return self.no_port(&http.port, result) };
        let Some(written) = written.get_mut("httpGet").and_then(Value::as_object_mut) else { return };
        let path = path(http.path.as_deref().unwrap_or("/"));
        if http.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            return self.https(&path, port, written, former, result);
        }
        let route = self.route(ProbeProtocol::Http { path }, port);
        written.insert("path".to_owned(), route.sidecar_path().into());
        written.insert("port".to_owned(), self.kind.port().into());
        result.routes.push(route);
    }

    /// The sidecar can tell one HTTPS server per kind of probe; further ones are asked by the health-check container.
    fn https(
        &self,
        path: &str,
        port: u16,
        written: &mut Map<String, Value>,
        former: &[ProbeRoute],
        result: &mut Rewritten,
    ) {
        let other = |route: &&ProbeRoute| {
            route.kind == self.kind && route.protocol == ProbeProtocol::Https && route.container != self.container
        };
        if !result.routes.iter().chain(former).any(|route| other(&route)) {
            written.insert("port".to_owned(), self.kind.port().into());
            result.routes.push(self.route(ProbeProtocol::Https, port));
            return;
        }
        let mut headers = written.get("httpHeaders").and_then(Value::as_array).cloned().unwrap_or_default();
        headers.push(header(names::HTTPS_PORT_HEADER, &port.to_string()));
        headers.push(header(names::HTTPS_PATH_HEADER, path));
        written.insert("httpHeaders".to_owned(), headers.into());
        written.insert("path".to_owned(), names::HEALTH_CHECK_PATH.into());
        written.insert("port".to_owned(), names::HEALTH_CHECK_PORT.into());
        written.insert("scheme".to_owned(), "HTTP".into());
        result.health_check_ports.insert(port);
    }

    /// The route of an earlier injection that this probe goes to.
    fn already<'a>(&self, http: &HTTPGetAction, port: Option<u16>, former: &'a [ProbeRoute]) -> Option<&'a ProbeRoute> {
        let route = former.iter().find(|route| route.kind == self.kind && route.container == self.container)?;
        let goes_there = match route.protocol {
            ProbeProtocol::Http { .. } => http.path.as_deref() == Some(route.sidecar_path().as_str()),
            ProbeProtocol::Https => true,
        };
        (goes_there && port == Some(self.kind.port())).then_some(route)
    }

    fn tcp(&self, tcp: &TCPSocketAction, written: &mut Map<String, Value>, result: &mut Rewritten) {
        if tcp.host.as_deref().is_some_and(|host| !host.is_empty()) {
            return;
        }
        let Some(port) = self.port(&tcp.port) else { return self.no_port(&tcp.port, result) };
        written.remove("tcpSocket");
        ask_health_check(written, &[header(names::TCP_PORT_HEADER, &port.to_string())]);
        result.health_check_ports.insert(port);
    }

    fn grpc(&self, grpc: &GRPCAction, written: &mut Map<String, Value>, result: &mut Rewritten) {
        let Some(port) = u16::try_from(grpc.port).ok().filter(|port| *port > 0) else { return };
        let mut headers = vec![header(names::GRPC_PORT_HEADER, &port.to_string())];
        if let Some(service) = grpc.service.as_deref().filter(|service| !service.is_empty()) {
            headers.push(header(names::GRPC_SERVICE_HEADER, service));
        }
        written.remove("grpc");
        ask_health_check(written, &headers);
        result.health_check_ports.insert(port);
    }

    /// A port by number or by the name of a port of the container, as the kubelet reads it.
    fn port(&self, port: &IntOrString) -> Option<u16> {
        let number = match port {
            IntOrString::Int(number) => *number,
            IntOrString::String(name) => {
                let named = self.ports.iter().find(|port| port.name.as_deref() == Some(name));
                named.map(|port| port.container_port).or_else(|| name.parse().ok())?
            }
        };
        u16::try_from(number).ok().filter(|number| *number > 0)
    }

    fn no_port(&self, port: &IntOrString, result: &mut Rewritten) {
        let value = match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => name.clone(),
        };
        result.warnings.push(format!(
            "{} of container {:?}: {value:?} is no port of the container, so the probe is left as it is and cannot succeed",
            field(self.kind),
            self.container
        ));
    }
}

fn header(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

/// The port that a probe of an earlier injection is about.
fn asked_port(http: &HTTPGetAction) -> Option<u16> {
    let names = [names::TCP_PORT_HEADER, names::GRPC_PORT_HEADER, names::HTTPS_PORT_HEADER];
    let header = http.http_headers.iter().flatten().find(|header| names.contains(&header.name.as_str()))?;
    header.value.parse().ok()
}

/// Sends a probe to the container that speaks for the kubelet.
fn ask_health_check(written: &mut Map<String, Value>, headers: &[Value]) {
    let (path, port) = (names::HEALTH_CHECK_PATH, names::HEALTH_CHECK_PORT);
    let request = json!({ "path": path, "port": port, "scheme": "HTTP", "httpHeaders": headers });
    written.insert("httpGet".to_owned(), request);
}

/// The path as a request line has it: with a slash in front, and nothing that would have to be escaped.
fn path(written: &str) -> String {
    let mut path = String::with_capacity(written.len() + 1);
    if !written.starts_with('/') {
        path.push('/');
    }
    for byte in written.bytes() {
        match byte {
            // A fragment stays with the client.
            b'#' => break,
            byte if byte.is_ascii_graphic() => path.push(char::from(byte)),
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// The kubelet's requests of lifecycle hooks carry no certificate of the mesh either, and are not rewritten.
fn warn_of_hooks(container: &Container, result: &mut Rewritten) {
    let Some(lifecycle) = &container.lifecycle else { return };
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if hook.as_ref().is_some_and(|hook| hook.http_get.is_some() || hook.tcp_socket.is_some()) {
            result.warnings.push(format!(
                "lifecycle.{name} of container {:?} is a request by the kubelet, which the sidecar refuses; use exec or sleep, \
                 or exclude its port by the annotation openservicemesh.io/inbound-port-exclusion-list",
                container.name
            ));
        }
    }
}
