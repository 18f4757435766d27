//! The process: the only crate that knows all the others.
//!
//! The path of a change: a source (`osm-source`) yields objects → [`Driver`] updates the engine (`osm-engine`), hands changed
//! resources to [`Publisher`], which encodes each once and publishes snapshots → the xDS server (`osm-xds`) streams them →
//! what proxies answer comes back to the driver as events → [`Progress`] counts per object → `status` turns findings and
//! counts into conditions. Certificates come from `osm-issuer` by a path of their own and reach proxies by SDS alone.

mod account;
mod admin;
mod bootstrap;
mod cli;
mod commands;
mod driver;
mod gateway;
mod healthcheck;
mod identity;
mod identity_endpoint;
mod init;
mod intercept;
mod labels;
mod leading;
mod listing;
mod logging;
mod mesh;
mod metrics;
mod progress;
mod proxies;
mod publish;
mod reconcile;
mod render;
mod replicas;
mod roots;
mod run;
mod standalone;
mod status;
mod status_folder;
mod trust_bundles;
mod webhooks;
mod written_roots;

use std::io::Write;
use std::process::ExitCode;

pub use account::{Account, ObjectAccount, WorkloadAccount};
pub use admin::{Admin, Phase, Question, Readiness};
pub use bootstrap::{Bootstrap, renew, write_certificates};
pub use cli::Cli;
pub use driver::{Concerned, Driver, Dump, Effects, Known, KnownPods, Report, Reports, StatusDocument, Synced};
pub use gateway::GatewayNews;
pub use identity::{
    CONTROL_PLANE_SERVICE, ServerTls, control_plane_identity, leaf_policy, open_store, workload_identity,
};
pub use identity_endpoint::{IdentityEndpoint, IdentityEndpointSettings};
pub use metrics::Metrics;
pub use progress::{ObjectCounts, Progress, Proxies, ProxyState};
pub use proxies::{ProxyEvent, ProxyPolicy};
pub use publish::{Publisher, snapshot_key, type_url};
pub use render::{Outcome, Output, Selection, Type, document, render, resources};
pub use roots::{RootStatus, Timing};
pub use standalone::{Standalone, run};
pub use status::WorkloadCounts;
pub use trust_bundles::{MeshNamespaces, Namespaces, TrustBundles};
pub use webhooks::{
    MAX_REQUEST_BYTES, MUTATING_PATH, VALIDATING_PATH, WebhookArgs, WebhookMetrics, WebhookTls, Webhooks,
    ca_bundle_apply, serve as serve_webhooks,
};
pub use written_roots::WrittenRoots;

/// Prints the result of a command; a reader that went away is no error.
pub(crate) fn print(text: &str, code: ExitCode) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

/// Prints why a command has no result.
pub(crate) fn print_to_stderr(text: &str, code: ExitCode) -> ExitCode {
    let _ = std::io::stderr().write_all(text.as_bytes());
    code
}

/// Prints an error with everything that led to it.
pub(crate) fn print_error(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
}

/// Sends logs to standard error as JSON lines; `RUST_LOG` chooses what is logged.
pub(crate) fn log_to_stderr() {
    // Fails only for a collector of traces, and there is none.
    let _ = logging::start(logging::LogFormat::Json, None);
}
