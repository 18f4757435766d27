//! The admission webhooks: requests of the API server in, decisions of `osm-admission` out.
//!
//! Any replica answers, from what it has in memory: no request to the API server, no key and no certificate is made on the
//! way. What is wrong with a request is said in words that reach whoever runs `kubectl`: as a denial where the object is to
//! blame, as an HTTP status where the request is.

mod args;
mod configuration;
mod handlers;
mod metrics;
mod review;
mod server;

pub use args::WebhookArgs;
pub use configuration::{MUTATING_PATH, VALIDATING_PATH, ca_bundle_apply};
pub use handlers::{MAX_REQUEST_BYTES, Webhooks};
pub use metrics::WebhookMetrics;
#[cfg(test)]
pub(crate) use metrics::{Outcome, Webhook};
pub use server::{WebhookTls, serve};
