//! The control plane comes and goes, and certificates are replaced.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use osm_e2e::World;
use osm_testkit::eventually;
use serde_json::Value;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::mesh::{TCP, URL, all_are_synced, constant_handshakes, constant_load, nothing_failed, sent, shape};
use crate::support::{LIMIT, Seen, answered_by, get, on_every_envoy, sees, tcp, world};

const RESTARTS: usize = 20;
/// Attempts that must have ended before the next restart.
const BETWEEN_RESTARTS: u64 = 100;
const ROTATIONS: usize = 100;
/// Workloads with a sidecar.
const WORKLOADS: [&str; 3] = ["client", "web", "bytes"];

fn documents() -> Documents {
    Documents::namespaces()
        .pod("client", 11, &["client"])
        .pod("web", 12, &["http-echo", "--listen", "[::]:8080", "--name", "web"])
        .service("web", Kind::ClusterIp(1), &[(80, 8080, Speaks::Http)], &[12])
        .pod("bytes", 13, &["tcp-echo", "--listen", "[::]:9000", "--name", "bytes"])
        .service("bytes", Kind::ClusterIp(2), &[(9000, 9000, Speaks::Tcp)], &[13])
        .tcp_route("bytes", &[9000])
        .grant("bytes", "client", "bytes", ("TCPRoute", "bytes"))
        .route_group("all", &[("all", ".*")])
        .grant("web", "client", "web", ("HTTPRouteGroup", "all"))
}

/// Waits until every proxy is connected to the new control plane and runs all it has, its new certificate, too.
async fn all_are_back(world: &mut World) -> Result<()> {
    let operator = world.operator()?;
    eventually("the new control plane has sent certificates", LIMIT, || async {
        let secrets = sent(operator).await?.get("Secret").copied().unwrap_or_default();
        ensure!(secrets >= u64::try_from(WORKLOADS.len())?, "{secrets} secrets are sent");
        Ok(())
    })
    .await?;
    all_are_synced(operator, WORKLOADS.len()).await
}

/// Serial numbers of the certificates that a workload's Envoy shows its peers.
async fn serials(world: &mut World, workload: &str) -> Result<BTreeSet<String>> {
    let page: Value = serde_json::from_str(&world.envoy_admin(workload, "/certs").await?)?;
    let certificates = page["certificates"].as_array().context("/certs lists no certificates")?;
    let chains = certificates.iter().filter_map(|certificate| certificate["cert_chain"].as_array()).flatten();
    let ours = chains.filter(|leaf| {
        let names = leaf["subject_alt_names"].as_array();
        names
            .into_iter()
            .flatten()
            .any(|name| name["uri"].as_str().is_some_and(|uri| uri.ends_with(&format!("/sa/{workload}"))))
    });
    ours.map(|leaf| Ok(leaf["serial_number"].as_str().context("a certificate without a serial number")?.to_owned()))
        .collect()
}

on_every_envoy! {
    /// The control plane is killed and comes back 20 times: proxies keep what they have, and are sent nothing of the mesh's shape
    /// again.
    async fn restarts(envoy) {
        let mut world = world(&documents(), Mode::ByPolicy, envoy).await?;
        answered_by(&world, "client", get(URL), "web").await?;
        sees(&world, "client", tcp(TCP), Seen::Status(200)).await?;
        all_are_synced(world.operator()?, WORKLOADS.len()).await?;
        // What the check below must not see is there to be seen: the first time, all of it was sent.
        let first = sent(world.operator()?).await?;
        ensure!(["Cluster", "Listener"].iter().all(|kind| shape(&first).contains_key(kind)), "{first:?}");
        let (load, handshakes) = (constant_load(&world).await?, constant_handshakes(&world).await?);
        for restart in 0..RESTARTS {
            world.operator_restart().await?;
            let back = all_are_back(&mut world).await;
            back.with_context(|| format!("restart {restart}"))?;
            let attempts = load.report().await?.attempts;
            load.reach(attempts + BETWEEN_RESTARTS, LIMIT).await?;
            let again = sent(world.operator()?).await?;
            ensure!(shape(&again).is_empty(), "restart {restart}: sent again: {again:?}");
        }
        nothing_failed(load).await?;
        nothing_failed(handshakes).await?;
        Ok(())
    }

    /// Every workload's certificate is replaced 100 times: each Envoy uses the new one, and is sent nothing else.
    async fn certificate_rotations(envoy) {
        let mut world = world(&documents(), Mode::ByPolicy, envoy).await?;
        answered_by(&world, "client", get(URL), "web").await?;
        sees(&world, "client", tcp(TCP), Seen::Status(200)).await?;
        all_are_synced(world.operator()?, WORKLOADS.len()).await?;
        let before = sent(world.operator()?).await?;
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for workload in WORKLOADS {
            seen.extend(serials(&mut world, workload).await?);
        }
        ensure!(seen.len() == WORKLOADS.len(), "one certificate per workload: {seen:?}");
        let (load, handshakes) = (constant_load(&world).await?, constant_handshakes(&world).await?);
        for rotation in 0..ROTATIONS {
            let (status, answer) = world.operator()?.admin_post("/certificates/rotate").await?;
            ensure!(status == 200, "rotation {rotation}: {status}: {answer}");
            let answer: Value = serde_json::from_str(&answer)?;
            ensure!(answer["renewed"] == WORKLOADS.len(), "rotation {rotation}: {answer}");
            for workload in WORKLOADS {
                let world = tokio::sync::Mutex::new(&mut world);
                let new = eventually(&format!("{workload} uses a new certificate"), LIMIT, || async {
                    let serials = serials(*world.lock().await, workload).await?;
                    ensure!(serials.len() == 1 && serials.is_disjoint(&seen), "{serials:?}");
                    Ok(serials)
                })
                .await;
                seen.extend(new.with_context(|| format!("rotation {rotation}"))?);
            }
        }
        nothing_failed(load).await?;
        let connections = nothing_failed(handshakes).await?.attempts;
        let stats = world.envoy("bytes")?.stats(r"^listener\..*\.ssl\.handshake$").await?;
        let handshakes = stats.values().sum::<u64>();
        ensure!(handshakes >= connections, "{connections} connections, but only {handshakes} handshakes");
        let after = sent(world.operator()?).await?;
        ensure!(shape(&after) == shape(&before), "sent {before:?} before and {after:?} after");
        Ok(())
    }
}
