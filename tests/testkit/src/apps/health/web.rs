//! Checks by HTTP and HTTPS: each is a path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::apps::checks::Checks;

/// Answers `/CHECK` with 200 or 503, after as long as the query's `delay-milliseconds` says.
fn router(checks: Checks) -> Router {
    Router::new().route("/{check}", get(answer)).with_state(checks)
}

async fn answer(
    State(checks): State<Checks>,
    Path(check): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> (StatusCode, String) {
    if let Some(delay) = query.get("delay-milliseconds").and_then(|delay| delay.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    if checks.ask(&check).await {
        (StatusCode::OK, format!("{check} passes\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{check} fails\n"))
    }
}

pub(super) async fn http(listener: TcpListener, checks: Checks) -> Result<()> {
    axum::serve(listener, router(checks)).await?;
    Ok(())
}

/// With a certificate of its own making, as applications have it that are asked by probes alone.
pub(super) async fn https(listener: TcpListener, checks: Checks) -> Result<()> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).context("making a certificate")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;
    let (acceptor, router) = (TlsAcceptor::from(Arc::new(config)), router(checks));
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            // Whoever gives up in the middle is of no interest.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let serving = hyper::server::conn::http1::Builder::new();
            let _ = serving.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
        });
    }
}
