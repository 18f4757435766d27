//! Probes that the kubelet sends to the sidecar in the application's stead, so that they need no mesh certificate.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::names;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeKind {
    /// `livenessProbe`
    Liveness,
    /// `readinessProbe`
    Readiness,
    /// `startupProbe`
    Startup,
}

impl ProbeKind {
    /// All, in the order of their ports.
    pub const ALL: [Self; 3] = [Self::Liveness, Self::Readiness, Self::Startup];

    /// The sidecar's port for probes of this kind.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Liveness => names::LIVENESS_PORT,
            Self::Readiness => names::READINESS_PORT,
            Self::Startup => names::STARTUP_PORT,
        }
    }

    /// The kind in names of ports, listeners and clusters: `liveness`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }
}

/// How the probe speaks to the application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeProtocol {
    /// Plain HTTP: the sidecar routes by path.
    Http {
        /// Path of the application, with its query if there is one.
        path: String,
    },
    /// HTTPS: the sidecar passes the connection on, so path and scheme of the probe stay what they are. The application
    /// of one container per kind can be reached so.
    Https,
}

/// A probe as the sidecar passes it on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeRoute {
    /// Which probe of the container.
    pub kind: ProbeKind,
    /// Name of the container.
    pub container: String,
    /// How the application is asked.
    pub protocol: ProbeProtocol,
    /// Port of the application.
    pub port: u16,
    /// The probe's own limit (`timeoutSeconds`), in seconds.
    pub timeout_seconds: u32,
}

impl ProbeRoute {
    /// The path that the kubelet asks the sidecar for in place of an HTTP probe's own: `/osm-liveness-probe/<container>`.
    #[must_use]
    pub fn sidecar_path(&self) -> String {
        format!("/osm-{}-probe/{}", self.kind.name(), self.container)
    }
}

/// The probes of a pod, as the sidecar can serve them: one of each kind per container, and one by HTTPS per kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ProbeRoute>", into = "Vec<ProbeRoute>")]
pub struct Probes(Vec<ProbeRoute>);

/// Probes that cannot be served together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbesError {
    /// Two routes for the same probe.
    #[error("container {container:?} has two {kind} probes, give one")]
    Twice {
        /// The container.
        container: String,
        /// Which probe.
        kind: &'static str,
    },
    /// A connection by HTTPS names no container, so there can be one.
    #[error(
        "containers {first:?} and {second:?} both have a {kind} probe by HTTPS, of which the sidecar can serve one; send the other to {}",
        names::HEALTH_CHECK_CONTAINER
    )]
    SecondHttps {
        /// The first container.
        first: String,
        /// The other.
        second: String,
        /// Which probe.
        kind: &'static str,
    },
    /// A field holds what no probe can have.
    #[error("the {kind} probe of container {container:?}: {problem}")]
    Invalid {
        /// The container.
        container: String,
        /// Which probe.
        kind: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Probes {
    /// Checks that the sidecar can serve `routes` together, and brings them into order.
    ///
    /// # Errors
    /// [`ProbesError`], naming the container and the kind.
    pub fn new(mut routes: Vec<ProbeRoute>) -> Result<Self, ProbesError> {
        routes.sort();
        let mut seen = BTreeSet::new();
        for route in &routes {
            if let Some(problem) = problem(route) {
                return Err(ProbesError::Invalid {
                    container: route.container.clone(),
                    kind: route.kind.name(),
                    problem,
                });
            }
            if !seen.insert((route.kind, route.container.as_str())) {
                return Err(ProbesError::Twice { container: route.container.clone(), kind: route.kind.name() });
            }
        }
        for kind in ProbeKind::ALL {
            let mut https = routes.iter().filter(|route| route.kind == kind && route.protocol == ProbeProtocol::Https);
            if let (Some(first), Some(second)) = (https.next(), https.next()) {
                let (first, second) = (first.container.clone(), second.container.clone());
                return Err(ProbesError::SecondHttps { first, second, kind: kind.name() });
            }
        }
        Ok(Self(routes))
    }

    /// The routes, by kind, then container.
    #[must_use]
    pub fn routes(&self) -> &[ProbeRoute] {
        &self.0
    }

    /// The routes of one kind, by container.
    pub(crate) fn of(&self, kind: ProbeKind) -> impl Iterator<Item = &ProbeRoute> {
        self.0.iter().filter(move |route| route.kind == kind)
    }
}

fn problem(route: &ProbeRoute) -> Option<&'static str> {
    let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if route.container.is_empty() || !route.container.bytes().all(is_label) {
        return Some("the container's name is not a DNS label");
    }
    if route.port == 0 {
        return Some("port 0 is none");
    }
    if route.timeout_seconds == 0 {
        return Some("a timeout of 0 seconds can never be kept; give at least 1");
    }
    match &route.protocol {
        ProbeProtocol::Http { path } if !path.starts_with('/') => Some("the path does not start with '/'"),
        ProbeProtocol::Http { path } if !path.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some("the path holds characters that a request line cannot; escape them as %20 and so on")
        }
        ProbeProtocol::Http { .. } | ProbeProtocol::Https => None,
    }
}

impl TryFrom<Vec<ProbeRoute>> for Probes {
    type Error = ProbesError;

    fn try_from(routes: Vec<ProbeRoute>) -> Result<Self, ProbesError> {
        Self::new(routes)
    }
}

impl From<Probes> for Vec<ProbeRoute> {
    fn from(probes: Probes) -> Self {
        probes.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(kind: ProbeKind, container: &str, protocol: ProbeProtocol) -> ProbeRoute {
        ProbeRoute { kind, container: container.into(), protocol, port: 8080, timeout_seconds: 1 }
    }

    fn http(path: &str) -> ProbeProtocol {
        ProbeProtocol::Http { path: path.into() }
    }

    #[test]
    fn routes_survive_their_journey_from_admission_to_the_init_container() {
        let probes = Probes::new(vec![
            route(ProbeKind::Startup, "web", ProbeProtocol::Https),
            route(ProbeKind::Liveness, "web", http("/healthz?deep=1")),
        ])
        .unwrap();
        let text = serde_json::to_string(&probes).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"[{"kind":"liveness","container":"web","protocol":{"http":{"path":"/healthz?deep=1"}},"port":8080,"timeoutSeconds":1},"#,
                r#"{"kind":"startup","container":"web","protocol":"https","port":8080,"timeoutSeconds":1}]"#
            )
        );
        assert_eq!(serde_json::from_str::<Probes>(&text).unwrap(), probes);
        assert_eq!(probes.routes()[0].sidecar_path(), "/osm-liveness-probe/web");
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let refused = |routes: Vec<ProbeRoute>| Probes::new(routes).unwrap_err().to_string();
        let twice = vec![route(ProbeKind::Liveness, "web", http("/a")), route(ProbeKind::Liveness, "web", http("/b"))];
        assert!(refused(twice).contains("two liveness probes"));
        let https = ["a", "b"].map(|name| route(ProbeKind::Readiness, name, ProbeProtocol::Https)).to_vec();
        let message = refused(https);
        assert!(message.contains(r#""a" and "b""#) && message.contains("osm-healthcheck"), "{message}");
        assert!(refused(vec![route(ProbeKind::Startup, "web", http("healthz"))]).contains("start with '/'"));
        assert!(refused(vec![route(ProbeKind::Startup, "web", http("/a b"))]).contains("%20"));
        assert!(refused(vec![route(ProbeKind::Startup, "We b", http("/"))]).contains("DNS label"));
        assert!(
            refused(vec![ProbeRoute { port: 0, ..route(ProbeKind::Startup, "web", http("/")) }]).contains("port 0")
        );
        let never = ProbeRoute { timeout_seconds: 0, ..route(ProbeKind::Startup, "web", http("/")) };
        assert!(refused(vec![never]).contains("at least 1"));
    }
}
