//! An application that is asked how it is, by every protocol that a probe may have.

mod grpc;
mod web;

use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use futures::future::{BoxFuture, FutureExt as _, try_join_all};
use tokio::net::TcpListener;

use super::checks::{Checks, Health};

/// Where to answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct HealthOptions {
    /// By HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// By HTTPS.
    pub(crate) https: Option<SocketAddr>,
    /// By gRPC.
    pub(crate) grpc: Option<SocketAddr>,
    /// By TCP.
    pub(crate) tcp: Vec<TcpCheck>,
}

/// A check that is a port: open while it passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcpCheck {
    check: String,
    address: SocketAddr,
}

impl FromStr for TcpCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (check, address) = text.split_once('=').ok_or("not of the form CHECK=ADDRESS:PORT")?;
        let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { check: check.to_owned(), address })
    }
}

/// Listens, and gives what serves until it fails.
///
/// # Errors
/// A port cannot be listened on.
pub(crate) async fn listen(options: HealthOptions, checks: Checks) -> Result<impl Future<Output = Result<()>> + Send> {
    let mut servers: Vec<BoxFuture<'static, Result<()>>> = Vec::new();
    if let Some(address) = options.http {
        servers.push(web::http(bind(address).await?, checks.clone()).boxed());
    }
    if let Some(address) = options.https {
        servers.push(web::https(bind(address).await?, checks.clone()).boxed());
    }
    if let Some(address) = options.grpc {
        servers.push(grpc::serve(bind(address).await?, checks.clone()).boxed());
    }
    for TcpCheck { check, address } in options.tcp {
        servers.push(tcp(check, address, checks.clone()).boxed());
    }
    Ok(async { try_join_all(servers).await.map(drop) })
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Nobody learns by TCP why: the port is there or not.
async fn tcp(check: String, address: SocketAddr, checks: Checks) -> Result<()> {
    loop {
        checks.wait_for(&check, |health| health == Health::Passing).await;
        let listener = bind(address).await?;
        tokio::select! {
            failed = accept(&listener) => return failed,
            _ = checks.wait_for(&check, |health| health != Health::Passing) => {}
        }
    }
}

async fn accept(listener: &TcpListener) -> Result<()> {
    loop {
        drop(listener.accept().await.context("accepting a connection")?);
    }
}

#[cfg(test)]
mod tests;
