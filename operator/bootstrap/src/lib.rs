//! The configuration an Envoy starts with, for pods and for machines outside a cluster. Pure.
//!
//! What this is: bootstraps as JSON, and the vocabulary that the parts around a pod share: paths, ports, names of
//! volumes and containers ([`names`]), the probes that the sidecar passes on ([`Probes`]), and the arguments by which
//! admission hands its decisions to the init container ([`PodSettings`]). What this is not: it writes no file and knows
//! no certificate; what proxies are served later is `osm-translate`'s.
//!
//! The path through the crate, for a pod:
//!
//! 1. Admission makes [`PodSettings`], whose [arguments](PodSettings::arguments) become those of the init container.
//! 2. The init container adds what the pod knows of itself and makes a [`PodBootstrap`].
//! 3. [`PodBootstrap::files`] is what it writes: the bootstrap, and two files that say where token and roots are.
//!
//! A pod's bootstrap has two clusters of the control plane. `osm-identity` shows the pod's projected token as a bearer
//! token and serves a certificate by SDS; `osm-controller` shows that certificate and serves everything else by ADS. No
//! key is ever in a file, and no secret in the pod's specification.
//!
//! Every bootstrap holds a listener, bound to no port, that keeps the subscription to scoped routes alive.

mod common;
pub mod names;
mod pod;
mod probe;
mod scoped_routes;
mod settings;
mod standalone;

pub use pod::{ControlPlaneAddress, PodBootstrap, PodFiles};
pub use probe::{ProbeKind, ProbeProtocol, ProbeRoute, Probes, ProbesError};
pub use settings::{PodSettings, envoy_arguments, parse_tls_version, tls_version};
pub use standalone::{ROOTS_SECRET, STANDALONE_CERTIFICATE_FILE, STANDALONE_ROOTS_FILE, StandaloneBootstrap};
