//! What every theme needs: a world from documents, and words for what an application saw.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use osm_e2e::World;
use osm_testkit::apps::{FailureKind, GrpcMode, Report, Target, TryRequest};
use osm_testkit::sandbox::STATE_DIRECTORY;
use osm_testkit::{EnvoyBinary, eventually};

use crate::manifests::{Documents, Mode, mesh_config};

/// How long anything may take that has no limit of its own.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Declares a test that runs on every Envoy version that is claimed to work, each in a sandbox of its own.
macro_rules! on_every_envoy {
    ($($(#[$attribute:meta])* async fn $name:ident($envoy:ident) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(clippy::wildcard_imports, reason = "a test's body sees what its theme imports")]
            use super::*;

            async fn check($envoy: osm_testkit::EnvoyBinary) -> anyhow::Result<()> $body

            osm_testkit::sandbox_test! {
                async fn oldest() -> anyhow::Result<()> {
                    check(osm_testkit::EnvoyBinary::find(osm_testkit::OLDEST_ENVOY)?).await
                }
                async fn newest() -> anyhow::Result<()> {
                    check(osm_testkit::EnvoyBinary::find(osm_testkit::NEWEST_ENVOY)?).await
                }
            }
        }
    )+};
}
pub(crate) use on_every_envoy;

/// Writes the documents and the MeshConfig into a folder of their own.
fn base(documents: &Documents, mode: Mode) -> Result<PathBuf> {
    let folder = Path::new(STATE_DIRECTORY).join("tmp/base");
    fs::create_dir_all(&folder)?;
    for (index, file) in documents.files().iter().enumerate() {
        let name = if index == 0 { "base.yaml".to_owned() } else { format!("base-{index}.yaml") };
        fs::write(folder.join(name), file)?;
    }
    fs::write(folder.join("mesh-config.yaml"), mesh_config(mode))?;
    Ok(folder)
}

/// Everything of `documents`, in the mesh and ready.
pub(crate) async fn world(documents: &Documents, mode: Mode, envoy: EnvoyBinary) -> Result<World> {
    World::start(&base(documents, mode)?, envoy).await
}

/// Writes a file of manifests and waits until every proxy runs it.
pub(crate) async fn apply(world: &World, name: &str, text: &str) -> Result<()> {
    let applied = world.write(name, text).await?;
    world.wait_programmed(&applied, LIMIT).await
}

/// Writes a MeshConfig and waits until every proxy runs it.
pub(crate) async fn switch(world: &World, mode: Mode) -> Result<()> {
    apply(world, "mesh-config.yaml", &mesh_config(mode)).await
}

/// Deletes a file of manifests and waits until no object of it is in force.
pub(crate) async fn withdraw(world: &World, name: &str) -> Result<()> {
    let applied = world.remove(name).await?;
    world.wait_programmed(&applied, LIMIT).await
}

/// What one attempt brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// An answer with this status.
    Status(u16),
    /// None.
    Failed(FailureKind),
}

/// What `from` sees in one attempt, and all that is known of it.
pub(crate) async fn attempt(world: &World, from: &str, target: Target) -> Result<(Seen, Report)> {
    let report =
        world.request(from, &TryRequest { timeout_milliseconds: 10_000, ..TryRequest::new(target, 1) }).await?;
    let status = report.statuses.keys().next().copied().map(Seen::Status);
    let failure = report.failures.keys().next().copied().map(Seen::Failed);
    let seen = status.or(failure).context("an attempt without an outcome")?;
    Ok((seen, report))
}

/// Expects one attempt to be answered with `status` by `identity`.
pub(crate) async fn answered_by(world: &World, from: &str, target: Target, identity: &str) -> Result<Report> {
    let (seen, report) = attempt(world, from, target.clone()).await?;
    ensure!(
        seen == Seen::Status(200) && report.identities.contains_key(identity),
        "{from} should have reached {identity} by {target:?}, but: {report:?}"
    );
    Ok(report)
}

/// Expects one attempt to bring exactly this.
pub(crate) async fn sees(world: &World, from: &str, target: Target, expected: Seen) -> Result<Report> {
    let (seen, report) = attempt(world, from, target.clone()).await?;
    ensure!(seen == expected, "{from} by {target:?}: expected {expected:?}, but: {report:?}");
    Ok(report)
}

/// Expects that one attempt gets no connection: closed or reset before any byte of an answer, never a timeout.
///
/// A sidecar has accepted the connection before it knows where it goes, so that an application sees it end at once.
pub(crate) async fn gets_no_connection(world: &World, from: &str, target: Target) -> Result<Report> {
    let (seen, report) = attempt(world, from, target.clone()).await?;
    let kinds = [FailureKind::ConnectionRefused, FailureKind::ConnectionReset, FailureKind::Closed];
    ensure!(
        kinds.iter().any(|kind| seen == Seen::Failed(*kind)),
        "{from} by {target:?}: expected no connection, but: {report:?}"
    );
    Ok(report)
}

/// Waits until attempts bring exactly this.
pub(crate) async fn comes_to_see(world: &World, from: &str, target: Target, expected: Seen) -> Result<()> {
    eventually(&format!("{from} sees {expected:?} by {target:?}"), LIMIT, || async {
        sees(world, from, target.clone(), expected).await.map(drop)
    })
    .await
}

pub(crate) fn get(url: impl Into<String>) -> Target {
    Target::get(url)
}

/// A GET of another version of HTTP, or with another Host.
pub(crate) fn get_with(
    url: impl Into<String>,
    change: impl FnOnce(&mut bool, &mut std::collections::BTreeMap<String, String>),
) -> Target {
    let mut target = Target::get(url);
    if let Target::Http { http2, headers, .. } = &mut target {
        change(http2, headers);
    }
    target
}

pub(crate) fn http2(url: impl Into<String>) -> Target {
    get_with(url, |http2, _| *http2 = true)
}

pub(crate) fn with_host(url: impl Into<String>, host: &str) -> Target {
    get_with(url, |_, headers| {
        headers.insert("host".to_owned(), host.to_owned());
    })
}

pub(crate) fn grpc(url: &str, mode: GrpcMode) -> Target {
    Target::Grpc { url: url.to_owned(), mode }
}

pub(crate) fn web_socket(url: &str) -> Target {
    Target::WebSocket { url: url.to_owned(), messages: 20 }
}

pub(crate) fn tcp(address: &str) -> Target {
    Target::Tcp { address: address.to_owned(), greeting: false, send: "hello".to_owned() }
}

/// Both addresses of pod number `number`.
pub(crate) fn pod_addresses(number: u8) -> [IpAddr; 2] {
    [Ipv4Addr::new(10, 244, 0, number).into(), IpAddr::V6(format!("fd00:244::{number}").parse().expect("an address"))]
}

/// Both addresses of Service number `number`.
pub(crate) fn service_addresses(number: u16) -> [IpAddr; 2] {
    let [high, low] = [number / 250, number % 250 + 1].map(|part| u8::try_from(part).expect("a small number"));
    [Ipv4Addr::new(10, 96, high, low).into(), Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, number).into()]
}
