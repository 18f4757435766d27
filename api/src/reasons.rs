//! The reasons that conditions give, one enum per kind.

/// Defines an enum of reasons; every kind has the common ones and its own.
macro_rules! reasons {
    ($(
        $(#[$attribute:meta])*
        $name:ident { $( $(#[$variant_attribute:meta])* $variant:ident, )* }
    )+) => {
        $(
            $(#[$attribute])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub enum $name {
                /// The object makes sense by itself (`Accepted` is true).
                Accepted,
                /// Everything it refers to exists (`ResolvedRefs` is true).
                ResolvedRefs,
                /// Every proxy it concerns has acknowledged it (`Programmed` is true).
                Programmed,
                /// Nothing is known yet.
                Pending,
                /// Some proxies have not answered yet.
                WaitingForProxies,
                /// Some proxies have refused what came of it.
                RefusedByProxies,
                /// It concerns no connected proxy.
                NoProxies,
                /// Its namespace is not part of the mesh.
                NamespaceNotInMesh,
                /// The object could not be read.
                Undecodable,
                /// A field has a value that cannot be used.
                InvalidField,
                $( $(#[$variant_attribute])* $variant, )*
            }

            impl $name {
                /// The reasons that this kind has beside the common ones.
                pub const OWN: &[Self] = &[$( Self::$variant, )*];

                /// The reasons that every kind has.
                pub const COMMON: &[Self] = &[
                    Self::Accepted,
                    Self::ResolvedRefs,
                    Self::Programmed,
                    Self::Pending,
                    Self::WaitingForProxies,
                    Self::RefusedByProxies,
                    Self::NoProxies,
                    Self::NamespaceNotInMesh,
                    Self::Undecodable,
                    Self::InvalidField,
                ];

                /// The reason as a condition holds it.
                pub const fn as_str(self) -> &'static str {
                    match self {
                        Self::Accepted => "Accepted",
                        Self::ResolvedRefs => "ResolvedRefs",
                        Self::Programmed => "Programmed",
                        Self::Pending => "Pending",
                        Self::WaitingForProxies => "WaitingForProxies",
                        Self::RefusedByProxies => "RefusedByProxies",
                        Self::NoProxies => "NoProxies",
                        Self::NamespaceNotInMesh => "NamespaceNotInMesh",
                        Self::Undecodable => "Undecodable",
                        Self::InvalidField => "InvalidField",
                        $( Self::$variant => stringify!($variant), )*
                    }
                }
            }

            impl From<$name> for &'static str {
                fn from(reason: $name) -> Self {
                    reason.as_str()
                }
            }
        )+
    };
}

reasons! {
    /// Reasons on a MeshConfig.
    MeshConfigReason {
        /// The mesh reads another object, by name or namespace.
        NotInUse,
        /// A value is out of range; another is used in its place.
        ValueReplaced,
        /// The lowest TLS version is above the highest.
        TlsVersionsConflict,
        /// A field asks for something that the mesh does not do.
        NoEffect,
        /// The Secret of the ingress gateway cannot be read or written.
        SecretNotWritten,
        /// The Secret of the ingress gateway is somebody else's.
        SecretNotOurs,
        /// No certificate is issued for the ingress gateway.
        CertificateNotIssued,
    }

    /// Reasons on a MeshRootCertificate.
    MeshRootCertificateReason {
        /// Another authority signs.
        NotInUse,
        /// No provider is set, or more than one.
        InvalidProvider,
        /// A Secret that it names does not exist.
        SecretNotFound,
        /// A Secret that it names does not hold what it should.
        InvalidSecret,
        /// The provider does not answer.
        ProviderUnavailable,
        /// The provider refuses to issue.
        ProviderRefused,
        /// The provider answers what cannot be used, or issues another certificate than it was asked for.
        InvalidAnswer,
        /// The roles of all roots together are not a step of a rotation.
        InvalidRoles,
        /// A step of a rotation is under way.
        Rotating,
        /// The root certificate has ended.
        Expired,
        /// Its trust domain is not the mesh's.
        TrustDomainMismatch,
        /// Its key may be in other hands; it was removed at once, as asked for.
        Removed,
    }

    /// Reasons on a TrafficTarget.
    TrafficTargetReason {
        /// Its namespace is not the destination's.
        NamespaceMismatch,
        /// An identity is of a kind other than ServiceAccount.
        UnsupportedIdentityKind,
        /// A rule is of a kind that the mesh does not handle.
        UnsupportedRuleKind,
        /// It has no rules.
        NoRules,
        /// It has no sources.
        NoSources,
        /// A route object that it names does not exist.
        RouteNotFound,
        /// A match that it names is not in the HTTPRouteGroup.
        MatchNotFound,
        /// A ServiceAccount that it names does not exist.
        ServiceAccountNotFound,
    }

    /// Reasons on an HTTPRouteGroup.
    HttpRouteGroupReason {
        /// It has no matches.
        NoMatches,
        /// Two matches have the same name.
        DuplicateMatch,
        /// A regular expression cannot be read.
        InvalidRegex,
        /// A header name is none.
        InvalidHeaderName,
    }

    /// Reasons on a TCPRoute.
    TcpRouteReason {
        /// A number is no port.
        InvalidPort,
    }

    /// Reasons on a TrafficSplit.
    TrafficSplitReason {
        /// A service that it names is of another namespace.
        NamespaceMismatch,
        /// Another, older split divides the same service.
        Conflict,
        /// It has no backends.
        NoBackends,
        /// A weight is not a whole number from 0.
        InvalidWeight,
        /// All weights are 0.
        NoWeight,
        /// Two backends are the same service.
        DuplicateBackend,
        /// A backend is itself divided in a way that comes back to this split.
        Cycle,
        /// A backend is itself divided, which is not followed.
        BackendIsDivided,
        /// The service that it divides does not exist.
        ServiceNotFound,
        /// A backend service does not exist.
        BackendNotFound,
        /// A backend service has no port of the divided service.
        PortMismatch,
        /// An HTTPRouteGroup that it names does not exist.
        RouteNotFound,
    }

    /// Reasons on a Namespace. It has no status of ours, so they are only told.
    NamespaceReason {
    }

    /// Reasons on a Service. It has no status of ours, so they are only told.
    ServiceReason {
        /// It has no ClusterIP.
        NoClusterIp,
        /// A text is no address.
        InvalidAddress,
        /// A number is no port.
        InvalidPort,
        /// `appProtocol` names a protocol that the mesh does not know.
        UnknownProtocol,
        /// Another Service answers on one of its addresses.
        AddressTaken,
    }

    /// Reasons on an EndpointSlice. It has no status of ours, so they are only told.
    EndpointSliceReason {
        /// A text is no address.
        InvalidAddress,
        /// A number is no port.
        InvalidPort,
    }

    /// Reasons on a Pod. It has no status of ours, so they are only told.
    PodReason {}

    /// Reasons on a ProxySnapshot.
    ProxySnapshotReason {}
}
