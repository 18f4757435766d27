//! Who may see the pages below `/debug`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Whether the pages below `/debug` are there for others than this machine (`spec.observability.enableDebugServer`). In a pod
/// this machine is the pod, so a port-forward reaches them whatever is set. A handle: clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct DebugAccess {
    open: Arc<AtomicBool>,
}

impl DebugAccess {
    /// For everybody who reaches the endpoint.
    pub(crate) fn for_all() -> Self {
        Self { open: Arc::new(AtomicBool::new(true)) }
    }

    /// For this machine alone, until told otherwise.
    pub(crate) fn from_loopback() -> Self {
        Self { open: Arc::default() }
    }

    /// Follows a setting.
    pub(crate) fn set(&self, enabled: bool) {
        if self.open.swap(enabled, Ordering::Relaxed) != enabled {
            tracing::info!(enabled, "the pages below /debug for other machines");
        }
    }

    fn allows(&self, path: &str, from: Option<SocketAddr>) -> bool {
        let is_debug = path == "/debug" || path.starts_with("/debug/");
        let is_loopback = || from.is_some_and(|from| from.ip().to_canonical().is_loopback());
        !is_debug || self.open.load(Ordering::Relaxed) || is_loopback()
    }
}

/// Hides the pages where they may not be seen.
pub(super) async fn guard(State(access): State<DebugAccess>, request: Request, next: Next) -> Response {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address);
    if !access.allows(request.uri().path(), from) {
        let hint = "the pages below /debug are off: set spec.observability.enableDebugServer of the MeshConfig to true, or ask \
                    from the pod itself, as kubectl port-forward does\n";
        return (StatusCode::NOT_FOUND, hint).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_pages_are_for_the_pod_alone_until_they_are_enabled() {
        let access = DebugAccess::from_loopback();
        let allows = |path: &str, from: &str| access.allows(path, Some(from.parse().unwrap()));
        for page in ["/debug", "/debug/mesh/shop/api"] {
            assert!(!allows(page, "10.0.0.7:40000") && !access.allows(page, None), "{page}");
            for loopback in ["127.0.0.1:40000", "[::1]:40000", "[::ffff:127.0.0.1]:40000"] {
                assert!(allows(page, loopback), "{page}");
            }
        }
        assert!(allows("/readyz", "10.0.0.7:40000") && allows("/metrics", "10.0.0.7:40000"), "health is for everybody");
        access.set(true);
        assert!(allows("/debug", "10.0.0.7:40000"));
        access.set(false);
        assert!(!allows("/debug", "10.0.0.7:40000"));
    }
}
