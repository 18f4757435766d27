//! Roots and certificates are replaced, again and again.

use anyhow::{Context as _, Result, ensure};
use osm_e2e::World;

use crate::mesh::{all_are_synced, constant_handshakes, constant_load, nothing_failed, sent, shape};
use crate::roots::{WORKLOADS, agreed, comes_to, mesh, set_roots};
use crate::support::on_every_envoy;

/// Roots that take another's place.
const ROTATIONS: usize = 20;
/// Of those, every so many go through each role by itself, as `kubectl edit` does; the others name only what is wanted in the end.
const STEP_BY_STEP: usize = 5;
/// Rounds in which every workload's certificate is replaced: 1,000 in all and a few more.
const LEAF_ROUNDS: usize = 334;

fn name(number: usize) -> String {
    if number == 0 { "first".to_owned() } else { format!("root-{number}") }
}

/// From one root to the next by every role, in OSM's order.
async fn step_by_step(world: &mut World, old: &str, new: &str) -> Result<()> {
    set_roots(world, &[(old, "active"), (new, "passive")]).await?;
    agreed(world, old, &[old, new]).await?;
    set_roots(world, &[(old, "active"), (new, "active")]).await?;
    agreed(world, old, &[old, new]).await?;
    set_roots(world, &[(old, "passive"), (new, "active")]).await?;
    agreed(world, new, &[old, new]).await?;
    comes_to(world, new, "active").await?;
    comes_to(world, old, "validatingRollout").await?;
    set_roots(world, &[(old, "inactive"), (new, "active")]).await?;
    agreed(world, new, &[new]).await?;
    comes_to(world, old, "inactive").await?;
    set_roots(world, &[(new, "active")]).await
}

/// From `old` towards `new` up to a step, and back.
async fn back_from(world: &mut World, step: usize, old: &str, new: &str) -> Result<()> {
    set_roots(world, &[(old, "active"), (new, "passive")]).await?;
    if step > 0 {
        agreed(world, old, &[old, new]).await?;
        set_roots(world, &[(old, "passive"), (new, "active")]).await?;
    }
    if step > 1 {
        agreed(world, new, &[old, new]).await?;
    }
    if step > 2 {
        set_roots(world, &[(old, "inactive"), (new, "active")]).await?;
        agreed(world, new, &[new]).await?;
        set_roots(world, &[(old, "passive"), (new, "active")]).await?;
        agreed(world, new, &[old, new]).await?;
    }
    // Back, without waiting for anything that may be under way.
    set_roots(world, &[(old, "active"), (new, "passive")]).await?;
    agreed(world, old, &[old, new]).await?;
    set_roots(world, &[(old, "active"), (new, "inactive")]).await?;
    agreed(world, old, &[old]).await
}

on_every_envoy! {
    /// 20 roots take each other's place, and 4 rotations are rolled back, each from another step.
    async fn twenty_rotations_and_four_rollbacks(envoy) {
        let mut world = mesh(envoy).await?;
        let before = sent(world.operator()?).await?;
        let (load, handshakes) = (constant_load(&world).await?, constant_handshakes(&world).await?);
        for rotation in 0..ROTATIONS {
            let (old, new) = (name(rotation), name(rotation + 1));
            let rotated = async {
                if rotation % STEP_BY_STEP == 0 {
                    back_from(&mut world, rotation / STEP_BY_STEP, &old, &format!("tried-{rotation}")).await?;
                    step_by_step(&mut world, &old, &new).await?;
                } else {
                    set_roots(&world, &[(&new, "active")]).await?;
                }
                agreed(&mut world, &new, &[&new]).await
            };
            rotated.await.with_context(|| format!("rotation {rotation}"))?;
        }
        nothing_failed(load).await?;
        nothing_failed(handshakes).await?;
        let after = sent(world.operator()?).await?;
        ensure!(shape(&after) == shape(&before), "sent {before:?} before and {after:?} after");
        for workload in WORKLOADS {
            let status = world.envoy(workload)?.process().try_wait()?;
            ensure!(status.is_none(), "the sidecar of {workload} ended: {status:?}");
        }
        Ok(())
    }

    /// Every workload's certificate is replaced over and over.
    async fn a_thousand_certificates(envoy) {
        let mut world = mesh(envoy).await?;
        let before = sent(world.operator()?).await?;
        let (load, handshakes) = (constant_load(&world).await?, constant_handshakes(&world).await?);
        for round in 0..LEAF_ROUNDS {
            let (status, answer) = world.operator()?.admin_post("/certificates/rotate").await?;
            ensure!(status == 200, "round {round}: {status}: {answer}");
            let answer: serde_json::Value = serde_json::from_str(&answer)?;
            ensure!(answer["renewed"] == WORKLOADS.len(), "round {round}: {answer}");
        }
        all_are_synced(world.operator()?, WORKLOADS.len()).await?;
        nothing_failed(load).await?;
        nothing_failed(handshakes).await?;
        let after = sent(world.operator()?).await?;
        ensure!(shape(&after) == shape(&before), "sent {before:?} before and {after:?} after");
        Ok(())
    }
}
