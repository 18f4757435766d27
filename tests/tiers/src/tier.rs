//! Which tests belong together, by what is real in them.

use crate::build::Program;

/// A group of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Unit, property and golden tests.
    Pure,
    /// The xDS library and its clients.
    Stream,
    /// Certificates and who signs them.
    Issuers,
    /// Network namespaces, Envoys, applications.
    DataPath,
    /// A real API server.
    ApiServer,
    /// A whole Kubernetes cluster.
    Cluster,
}

impl Tier {
    /// In the order in which they run: what is quick and finds most comes first.
    pub(crate) const ALL: [Self; 6] =
        [Self::Pure, Self::Stream, Self::Issuers, Self::DataPath, Self::ApiServer, Self::Cluster];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Stream => "stream",
            Self::Issuers => "issuers",
            Self::DataPath => "data-path",
            Self::ApiServer => "api-server",
            Self::Cluster => "cluster",
        }
    }

    /// What is real in it.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Pure => "unit, property and golden tests; Envoy validates what is made for it",
            Self::Stream => "xDS over real connections, with real Envoys",
            Self::Issuers => "certificates and who signs them, real servers where they answer as the test needs",
            Self::DataPath => "a network namespace for each workload, real Envoys and applications",
            Self::ApiServer => "a real kube-apiserver with etcd",
            Self::Cluster => "a whole Kubernetes cluster",
        }
    }

    /// How many tests of a program run at the same time for each core. Tests that wait for other programs most of the time leave
    /// room for each other; those that put Envoys under load do not.
    pub(crate) fn tests_per_core(self, program: &Program) -> usize {
        match self {
            Self::Issuers | Self::ApiServer => 2,
            // Each step of a rotation waits.
            Self::DataPath if program.target == "rotation" => 2,
            Self::Pure | Self::Stream | Self::DataPath | Self::Cluster => 1,
        }
    }

    /// The tier of this name.
    ///
    /// # Errors
    /// There is none; the message lists them.
    pub(crate) fn of_name(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|tier| tier.name() == name)
            .ok_or_else(|| format!("there is no tier {name:?}; choose from {}", names()))
    }

    /// Where a test program belongs. Unit tests of any crate are pure; what needs real parts is a file of `tests/` whose name, or
    /// whose package, says so.
    pub(crate) fn of(program: &Program) -> Self {
        let Program { package, target, integration, .. } = program;
        match package.as_str() {
            "osm-xds" | "osm-xds-test-support" => Self::Stream,
            "osm-issuer" | "osm-key-vault-double" => Self::Issuers,
            "osm-operator" if target == "bad_roots" => Self::Issuers,
            "osm-e2e" if target.starts_with("cluster") => Self::Cluster,
            "osm-e2e" | "osm-testkit" | "osm-intercept" if *integration => Self::DataPath,
            "osm-cluster" if target.starts_with("cluster") && *integration => Self::Cluster,
            _ if *integration && target.starts_with("api_server") => Self::ApiServer,
            _ => Self::Pure,
        }
    }
}
