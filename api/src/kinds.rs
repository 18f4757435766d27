//! The one list of all kinds that the mesh reads, and what follows from it.
//!
//! Everything that has to exist once per kind is made from [`for_each_kind!`](crate::for_each_kind): the enums [`Kind`] and
//! [`Object`](crate::Object), decoding, the list of CRDs, and in other crates input slots, watches and RBAC rules. A new kind is
//! one more entry here.

use std::fmt;

/// Calls the macro `$callback` with all kinds, after the tokens given as further arguments, if any.
///
/// Each kind is one entry in braces:
///
/// | key | meaning |
/// |---|---|
/// | `kind` | variant of [`Kind`](crate::Kind) and of [`Object`](crate::Object) |
/// | `name` | the kind as `kind:` in a manifest has it |
/// | `slot` | plural name for fields and functions |
/// | `object` | Rust type of an object |
/// | `group` | API group, empty for the core group |
/// | `versions` | versions that are served and decoded; the first is the one to store and to watch |
/// | `plural` | plural resource name of the API |
/// | `scope` | `Namespaced` or `Cluster` |
/// | `ownership` | `Own`: we define the kind and write its status; `Read`: it belongs to Kubernetes and we only read it |
///
/// ```
/// macro_rules! count {
///     ($({ kind: $kind:ident, $($rest:tt)* })*) => { [$(stringify!($kind)),*].len() };
/// }
/// assert_eq!(osm_api::for_each_kind!(count), osm_api::Kind::ALL.len());
/// ```
#[macro_export]
macro_rules! for_each_kind {
    ($callback:ident $(, $($argument:tt)*)?) => {
        $callback! {
            $($($argument)*)?
            { kind: MeshConfig, name: "MeshConfig", slot: mesh_configs, object: $crate::MeshConfig,
              group: "config.openservicemesh.io", versions: ["v1alpha2", "v1alpha1"], plural: "meshconfigs",
              scope: Namespaced, ownership: Own, }
            { kind: MeshRootCertificate, name: "MeshRootCertificate", slot: mesh_root_certificates, object: $crate::MeshRootCertificate,
              group: "config.openservicemesh.io", versions: ["v1alpha2"], plural: "meshrootcertificates",
              scope: Namespaced, ownership: Own, }
            { kind: TrafficTarget, name: "TrafficTarget", slot: traffic_targets, object: $crate::TrafficTarget,
              group: "access.smi-spec.io", versions: ["v1alpha3"], plural: "traffictargets",
              scope: Namespaced, ownership: Own, }
            { kind: HttpRouteGroup, name: "HTTPRouteGroup", slot: http_route_groups, object: $crate::HttpRouteGroup,
              group: "specs.smi-spec.io", versions: ["v1alpha4"], plural: "httproutegroups",
              scope: Namespaced, ownership: Own, }
            { kind: TcpRoute, name: "TCPRoute", slot: tcp_routes, object: $crate::TcpRoute,
              group: "specs.smi-spec.io", versions: ["v1alpha4"], plural: "tcproutes",
              scope: Namespaced, ownership: Own, }
            { kind: TrafficSplit, name: "TrafficSplit", slot: traffic_splits, object: $crate::TrafficSplit,
              group: "split.smi-spec.io", versions: ["v1alpha2", "v1alpha4"], plural: "trafficsplits",
              scope: Namespaced, ownership: Own, }
            { kind: ProxySnapshot, name: "ProxySnapshot", slot: proxy_snapshots, object: $crate::ProxySnapshot,
              group: "snapshot.openservicemesh.io", versions: ["v1alpha1"], plural: "proxysnapshots",
              scope: Namespaced, ownership: Own, }
            { kind: Namespace, name: "Namespace", slot: namespaces, object: $crate::k8s_openapi::api::core::v1::Namespace,
              group: "", versions: ["v1"], plural: "namespaces",
              scope: Cluster, ownership: Read, }
            { kind: Service, name: "Service", slot: services, object: $crate::k8s_openapi::api::core::v1::Service,
              group: "", versions: ["v1"], plural: "services",
              scope: Namespaced, ownership: Read, }
            { kind: EndpointSlice, name: "EndpointSlice", slot: endpoint_slices, object: $crate::k8s_openapi::api::discovery::v1::EndpointSlice,
              group: "discovery.k8s.io", versions: ["v1"], plural: "endpointslices",
              scope: Namespaced, ownership: Read, }
            { kind: Pod, name: "Pod", slot: pods, object: $crate::k8s_openapi::api::core::v1::Pod,
              group: "", versions: ["v1"], plural: "pods",
              scope: Namespaced, ownership: Read, }
            { kind: ServiceAccount, name: "ServiceAccount", slot: service_accounts, object: $crate::k8s_openapi::api::core::v1::ServiceAccount,
              group: "", versions: ["v1"], plural: "serviceaccounts",
              scope: Namespaced, ownership: Read, }
        }
    };
}

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In none.
    Cluster,
}

/// Whose a kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ownership {
    /// Ours: we define it by a CRD, decode it strictly from files and write its status.
    Own,
    /// Kubernetes': we read it, leniently, and never write it.
    Read,
}

macro_rules! define_kind {
    ($({
        kind: $kind:ident, name: $name:literal, slot: $slot:ident, object: $object:path, group: $group:literal,
        versions: [$($version:literal),+], plural: $plural:literal, scope: $scope:ident, ownership: $ownership:ident,
    })+) => {
        /// The kinds of objects that the mesh reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "` of group `", $group, "`.")] $kind,)+
        }

        impl Kind {
            /// All kinds, ours first.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// The kind as a manifest has it, for example `HTTPRouteGroup`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// The API group; empty for the core group.
            pub const fn group(self) -> &'static str {
                match self { $(Self::$kind => $group,)+ }
            }

            /// The versions that are served and decoded; the first is the one that is stored and watched.
            pub const fn versions(self) -> &'static [&'static str] {
                match self { $(Self::$kind => &[$($version),+],)+ }
            }

            /// The plural resource name, for example `httproutegroups`.
            pub const fn plural(self) -> &'static str {
                match self { $(Self::$kind => $plural,)+ }
            }

            /// Whether objects live in a namespace.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$kind => Scope::$scope,)+ }
            }

            /// Whose the kind is.
            pub const fn ownership(self) -> Ownership {
                match self { $(Self::$kind => Ownership::$ownership,)+ }
            }
        }
    };
}

for_each_kind!(define_kind);

impl Kind {
    /// The kind of this name in this group.
    pub fn of(group: &str, name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.group() == group && kind.as_str() == name)
    }

    /// The version that is stored and watched.
    pub fn storage_version(self) -> &'static str {
        self.versions()[0]
    }

    /// `apiVersion` of the version that is stored and watched.
    pub fn api_version(self) -> String {
        api_version(self.group(), self.storage_version())
    }

    /// The kinds that we define.
    pub fn own() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|kind| kind.ownership() == Ownership::Own)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
