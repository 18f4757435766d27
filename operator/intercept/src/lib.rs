//! Transparent interception: the packet-filter rules that lead a workload's TCP connections through its sidecar proxy.
//!
//! What this is: the program an init container (or a VM's start-up script) runs once, in the workload's own network
//! namespace. It redirects every inbound connection to the proxy's inbound port and every outbound connection to
//! its outbound port, for IPv4 and IPv6, with the exclusions that `MeshConfig` and pod annotations name.
//!
//! What this is not: a firewall. UDP is untouched, and a process that runs with the proxy's user id bypasses the
//! redirection, so no application may run as that user ([`InterceptConfig::proxy_uid`] can be moved out of the way).
//!
//! The path through the crate:
//!
//! 1. [`InterceptConfig`] is made of types that cannot hold a wrong value ([`Port`], [`InterfaceName`], [`IpRanges`]).
//! 2. [`rules`] turns it into a [`RuleSet`]: pure, deterministic, text that can be shown to a user.
//! 3. [`NetworkNamespace::apply`] reads what is there, and replaces our part of the `nat` table in one transaction per
//!    address family; [`NetworkNamespace::remove`] takes it out again.
//!
//! ```
//! use osm_intercept::{InterceptConfig, Port, rules};
//!
//! let mut config = InterceptConfig::default();
//! config.outbound_port_exclusions.insert(Port::try_from(5432)?);
//! let set = rules(&config);
//! assert!(set.ipv4.program().contains("-A OSM_PROXY_OUTBOUND -p tcp -m multiport --dports 5432 -j RETURN"));
//! # Ok::<(), osm_intercept::InvalidValue>(())
//! ```

mod config;
mod namespace;
mod plan;
mod rules;

pub use config::{InterceptConfig, InterfaceName, InvalidValue, IpRanges, LocalProxyMode, Port, ProxyPorts, ProxyUid};
pub use namespace::{Applied, InterceptError, Ipv6Outcome, NetworkNamespace};
pub use rules::{
    CHAIN_INBOUND, CHAIN_INBOUND_REDIRECT, CHAIN_OUTBOUND, CHAIN_OUTBOUND_REDIRECT, Family, FamilyRules, RuleSet, rules,
};
