//! Translates what the mesh is (`osm-model`) into what an Envoy is given: listeners, routes, clusters, endpoints and
//! secrets as finished bytes. Pure: no I/O, no clock, no randomness, no Kubernetes types. Equal inputs give equal bytes.
//!
//! It does not decide who gets what. A caller (the engine) picks the destinations that an identity may reach and collects
//! the resources below into that identity's snapshot.
//!
//! # The path of a request
//!
//! 1. The application connects to `10.96.0.5:14001`; the pod's rules redirect the connection to [`outbound_listener`].
//! 2. That hands it to the listener of the exact address if there is one ([`exact_listener`]: TCP and headless services),
//!    else to that of the port number ([`outbound_http_listener`]), else to the outside.
//! 3. The HTTP listener writes the original destination into a header. The scope of that destination ([`scopes`]) selects
//!    the route table: [`shared_route_table`], which sends the request to the cluster named `10.96.0.5:14001`, or the
//!    destination's own ([`route_table`]) if it has rules.
//! 4. The cluster ([`clusters`], fetched on first use where it was not sent ahead) connects to an endpoint ([`endpoints`])
//!    with the workload's certificate and accepts only the identities behind the service.
//! 5. The server's sidecar ([`inbound`]) requires a workload certificate, finds the rule and its callers, and passes the
//!    request to its application.
//!
//! # What is shared by whom
//!
//! | resource | depends on | so one copy serves |
//! |---|---|---|
//! | outbound listener, HTTP listeners, shared route table | settings | every proxy |
//! | clusters, endpoints, exact listeners of a destination | the service, and which identities behind it may be reached | every client with equal rights |
//! | scopes, own route table | the service and its splits | every client |
//! | inbound resources | one identity | its replicas |
//! | secrets | one proxy's identity, the trust bundle | its replicas |
//!
//! Nothing depends on the individual client: certificates and bundles are referred to by generic SDS names
//! ([`naming::SERVICE_CERTIFICATE_SECRET`], [`naming::TRUST_BUNDLE_SECRET`]) that the control plane resolves by who asks.
//!
//! # What refers to what
//!
//! | this | names | which comes from |
//! |---|---|---|
//! | every outbound listener, when egress is allowed | [`naming::PASSTHROUGH_CLUSTER`] | [`passthrough_cluster`] |
//! | every listener with a connection manager, when tracing | [`naming::TRACING_CLUSTER`] | [`tracing_cluster`] |
//! | inbound listener, when authorizing externally | [`naming::EXTERNAL_AUTHORIZATION_CLUSTER`] | [`external_authorization_cluster`] |
//! | scope | shared or own route table, or that of the outside | [`shared_route_table`], [`route_table`], [`outside_route_table`] |
//! | shared route table | the destination's cluster, by header | [`clusters`] `by_address`, ahead or on demand |
//! | own route table, TCP listener | clusters of split backends and of the service | [`clusters`] `by_name` or `by_original_destination` |
//! | headless HTTP listener | own route table | [`route_table`] |
//! | service cluster | endpoints, both secrets | [`endpoints`], [`secret_service_certificate`], [`secret_trust_bundle`] |
//! | inbound listener | inbound route tables, local clusters, both secrets | [`inbound`] |
//!
//! # What others must see to
//!
//! - Whoever builds a snapshot: no two listeners on one address and port. They can meet where two headless services have
//!   the same pods ([`exact_listener`]), and where a Service has the number of [`naming::OUTBOUND_PORT`],
//!   [`naming::INBOUND_PORT`] or [`naming::METRICS_PORT`].
//! - Whoever serves it: a cluster that is sent is followed by its endpoints even if the proxy has them, because the clusters
//!   of a destination share one assignment and Envoy asks for it once.
//! - Whoever validates policies: expressions are legal RE2. A wrong one makes Envoy refuse the whole table.
//! - The bootstrap: its runtime sets `re2.max_program_size.error_level` far above Envoy's default of 100, which a few
//!   alternatives in an expression exceed.
//! - The pod's redirect rules: in `PodIp` mode they turn what Envoy sends to loopback towards the pod's address, except to
//!   [`naming::ADMIN_PORT`], where the metrics listener finds Envoy itself.

mod access_log;
mod cluster;
mod connection_manager;
mod deterministic;
mod endpoint;
mod filters;
mod listener;
mod message;
pub mod naming;
mod rbac;
mod resource;
mod route;
mod secrets;
mod tls;

pub use cluster::{
    ClusterResources, clusters, external_authorization_cluster, passthrough_cluster, tracing_cluster,
    unreachable_cluster,
};
pub use endpoint::endpoints;
pub use listener::{
    exact_listener, exact_listener_at, exact_listener_ports, inbound, outbound_http_listener, outbound_listener,
    outside_listener,
};
pub use resource::{Resource, ResourceKind};
pub use route::{outside_route_table, outside_scopes, route_table, scopes, shared_route_table};
pub use secrets::{
    PrivateKeyPem, SecretResource, secret_proxy_certificate, secret_service_certificate, secret_trust_bundle,
};
