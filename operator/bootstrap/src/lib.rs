//! The configuration an Envoy starts with, for pods and for machines outside a cluster. Pure.

pub mod names;
mod probe;
mod settings;

pub use probe::{ProbeKind, ProbeProtocol, ProbeRoute, Probes, ProbesError};
pub use settings::{PodSettings, envoy_arguments, parse_tls_version, tls_version};
