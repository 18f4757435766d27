//! Rotations while the control plane dies and proxies are out of reach.

use anyhow::{Context as _, Result, ensure};
use osm_e2e::World;
use osm_testkit::{ProcessSpec, eventually};
use serde_json::Value;

use crate::mesh::{URL, constant_handshakes, constant_load, nothing_failed};
use crate::roots::{agreed, mesh, mesh_with, names, page, set_roots, signing, status};
use crate::support::{LIMIT, answered_by, get, on_every_envoy};

/// Waits until the control plane says this of its roots.
async fn reaches(world: &mut World, what: &str, reached: impl Fn(&Value) -> bool) -> Result<()> {
    let world = tokio::sync::Mutex::new(world);
    eventually(what, LIMIT, || async {
        let page = page(*world.lock().await).await?;
        ensure!(reached(&page), "{page}");
        Ok(())
    })
    .await
}

/// Lets or keeps the sidecar of a workload from reaching the control plane.
async fn cut_off(world: &World, workload: &str, change: &str) -> Result<()> {
    let pod = world.member(workload)?.pod();
    let rule = ["OUTPUT", "-p", "tcp", "--dport", "15128", "-j", "REJECT", "--reject-with", "tcp-reset"];
    let spec = ProcessSpec::new("iptables", "/usr/sbin/iptables").arguments([change]).arguments(rule);
    let output = pod.run(&spec, LIMIT).await?;
    ensure!(output.status.success(), "iptables: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

on_every_envoy! {
    /// The control plane is killed in every step of a rotation, as soon as the step is taken, and goes on from there.
    async fn the_control_plane_is_killed_in_every_step(envoy) {
        let mut world = mesh(envoy).await?;
        let (load, handshakes) = (constant_load(&world).await?, constant_handshakes(&world).await?);
        set_roots(&world, &[("second", "active")]).await?;
        reaches(&mut world, "both are trusted", |page| names(&page["trusted"]).contains("second")).await?;
        world.operator_restart().await.context("after both were trusted")?;
        reaches(&mut world, "the second signs", |page| signing(page) == "second").await?;
        world.operator_restart().await.context("after the second signed")?;
        reaches(&mut world, "the first is trusted no longer", |page| !names(&page["trusted"]).contains("first")).await?;
        world.operator_restart().await.context("after the first was retired")?;
        agreed(&mut world, "second", &["second"]).await?;
        // And in the middle of a step back.
        set_roots(&world, &[("second", "passive"), ("third", "active")]).await?;
        reaches(&mut world, "the third signs", |page| signing(page) == "third").await?;
        set_roots(&world, &[("second", "active"), ("third", "passive")]).await?;
        world.operator_restart().await.context("in the middle of a rollback")?;
        agreed(&mut world, "second", &["second", "third"]).await?;
        nothing_failed(load).await?;
        nothing_failed(handshakes).await?;
        Ok(())
    }

    /// A proxy that cannot reach the control plane holds the rotation, is named, and goes on when it is back.
    async fn a_proxy_out_of_reach_is_waited_for(envoy) {
        let mut world = mesh_with(envoy, &["--trust-bundle-delay", "0.2", "--proxy-grace", "3600"]).await?;
        let load = constant_load(&world).await?;
        cut_off(&world, "web", "-I").await?;
        set_roots(&world, &[("second", "active")]).await?;
        eventually("the status names who is missing", LIMIT, || async {
            let status = status(&world, "second")?;
            let waits = status["waitsFor"].to_string();
            ensure!(waits.contains("shop/web/web") && status["waitsForCount"].as_u64() > Some(0), "{status}");
            ensure!(status["usage"] == "validating", "{status}");
            Ok(())
        })
        .await?;
        ensure!(signing(&page(&mut world).await?) == "first", "it went on without the proxy");
        cut_off(&world, "web", "-D").await?;
        agreed(&mut world, "second", &["second"]).await?;
        nothing_failed(load).await?;
        Ok(())
    }

    /// A proxy that is out of reach for too long is left behind, and recovers by itself when it is back.
    async fn a_proxy_left_behind_recovers(envoy) {
        let mut world = mesh_with(envoy, &["--trust-bundle-delay", "0.2", "--proxy-grace", "0.5"]).await?;
        cut_off(&world, "web", "-I").await?;
        set_roots(&world, &[("second", "active")]).await?;
        reaches(&mut world, "the rotation goes on without it", |page| {
            signing(page) == "second" && names(&page["trusted"]).len() == 1 && page["complete"] == true
        })
        .await?;
        cut_off(&world, "web", "-D").await?;
        agreed(&mut world, "second", &["second"]).await?;
        let world = world;
        eventually("requests reach it again", LIMIT, || answered_by(&world, "client", get(URL), "web")).await?;
        Ok(())
    }
}
