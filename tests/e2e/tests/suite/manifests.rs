//! Manifests of a small mesh, as text that a user could have written.

use std::fmt::Write as _;

/// The namespace that everything of these tests is in.
pub(crate) const NAMESPACE: &str = "shop";

/// What a port of a Service speaks; the prefix of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Grpc,
    Tcp,
    TcpServerFirst,
}

impl Speaks {
    fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::TcpServerFirst => "tcp-server-first",
        }
    }
}

/// Whether a Service has addresses of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `10.96.0.N` and `fd00:96::N`.
    ClusterIp(u16),
    Headless,
}

/// A port of a Service: its number, the pods' port, and what it speaks.
pub(crate) type PortOf = (u16, u16, Speaks);

/// Who may call whom without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Permissive,
    ByPolicy,
}

/// Documents of one file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Documents(String);

impl Documents {
    /// The namespaces of the mesh.
    pub(crate) fn namespaces() -> Self {
        let label = "labels: { openservicemesh.io/monitored-by: osm }";
        Self::default()
            .add("apiVersion: v1\nkind: Namespace\nmetadata: { name: osm-system }\n")
            .add(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {NAMESPACE}, {label} }}\n"))
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The text in files of 500 documents at most.
    pub(crate) fn files(&self) -> Vec<String> {
        let documents: Vec<&str> = self.0.split_inclusive("---\n").collect();
        documents.chunks(500).map(<[&str]>::concat).collect()
    }

    /// Adds a document.
    pub(crate) fn add(mut self, document: &str) -> Self {
        write!(self.0, "---\n{document}").expect("writing to a String");
        self
    }

    /// Adds a ServiceAccount and a pod that runs as it, both called `name`, at `10.244.0.N` and `fd00:244::N`.
    pub(crate) fn pod(self, name: &str, number: u8, application: &[&str]) -> Self {
        self.account(name).pod_as(name, name, number, application)
    }

    /// Adds a ServiceAccount.
    pub(crate) fn account(self, name: &str) -> Self {
        self.add(&format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{ name: {name}, namespace: {NAMESPACE} }}\n"
        ))
    }

    /// Adds a pod that runs as a ServiceAccount that is there.
    pub(crate) fn pod_as(self, name: &str, account: &str, number: u8, application: &[&str]) -> Self {
        self.add(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec:
  serviceAccountName: {account}
  containers: [{{ name: main, image: osm-bookstore, args: {application:?} }}]
status:
  phase: Running
  podIPs: [{{ ip: 10.244.0.{number} }}, {{ ip: \"fd00:244::{number}\" }}]
"
        ))
    }

    /// Adds a Service and its EndpointSlices for both address families; `pods` are the pods' numbers.
    pub(crate) fn service(self, name: &str, kind: Kind, ports: &[PortOf], pods: &[u8]) -> Self {
        let addresses = match kind {
            Kind::ClusterIp(number) => {
                let (high, low) = (number / 250, number % 250 + 1);
                format!("clusterIP: 10.96.{high}.{low}\n  clusterIPs: [10.96.{high}.{low}, \"fd00:96::{number:x}\"]")
            }
            Kind::Headless => "clusterIP: None\n  clusterIPs: [None]".to_owned(),
        };
        let (mut of_service, mut of_slice) = (String::new(), String::new());
        for (port, target, speaks) in ports {
            let name = format!("{}-{port}", speaks.prefix());
            write!(of_service, "{{ name: {name}, port: {port}, targetPort: {target} }}, ")
                .expect("writing to a String");
            write!(of_slice, "{{ name: {name}, port: {target} }}, ").expect("writing to a String");
        }
        let mut documents = self.add(&format!(
            "apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec:
  {addresses}
  ports: [{of_service}]
"
        ));
        for (family, prefix) in [("IPv4", "10.244.0."), ("IPv6", "fd00:244::")] {
            let endpoints: Vec<String> =
                pods.iter().map(|pod| format!("{{ addresses: [\"{prefix}{pod}\"] }}")).collect();
            documents = documents.add(&format!(
                "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: {name}-{}, namespace: {NAMESPACE}, labels: {{ kubernetes.io/service-name: {name} }} }}
addressType: {family}
ports: [{of_slice}]
endpoints: [{}]
",
                family.to_lowercase(),
                endpoints.join(", ")
            ));
        }
        documents
    }

    /// Adds an HTTPRouteGroup; `matches` are names and path expressions.
    pub(crate) fn route_group(self, name: &str, matches: &[(&str, &str)]) -> Self {
        let matches: Vec<String> = matches
            .iter()
            .map(|(name, path)| format!("{{ name: {name}, pathRegex: '{path}', methods: ['*'] }}"))
            .collect();
        self.add(&format!(
            "apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec: {{ matches: [{}] }}
",
            matches.join(", ")
        ))
    }

    /// Adds a TCPRoute.
    pub(crate) fn tcp_route(self, name: &str, ports: &[u16]) -> Self {
        self.add(&format!(
            "apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec: {{ matches: {{ ports: {ports:?} }} }}
"
        ))
    }

    /// Adds a TrafficTarget that lets `source` call `destination` by the rules of one route object.
    pub(crate) fn grant(self, name: &str, source: &str, destination: &str, rules: (&str, &str)) -> Self {
        let (kind, route) = rules;
        self.add(&format!(
            "apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec:
  destination: {{ kind: ServiceAccount, name: {destination}, namespace: {NAMESPACE} }}
  sources: [{{ kind: ServiceAccount, name: {source}, namespace: {NAMESPACE} }}]
  rules: [{{ kind: {kind}, name: {route} }}]
"
        ))
    }
}

/// The MeshConfig.
pub(crate) fn mesh_config(mode: Mode) -> String {
    format!(
        "apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {{ name: osm-mesh-config, namespace: osm-system }}
spec: {{ traffic: {{ enablePermissiveTrafficPolicyMode: {}, enableEgress: false }} }}
",
        mode == Mode::Permissive
    )
}
