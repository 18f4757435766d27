//! A compromised root goes at once.

use anyhow::{Context as _, ensure};
use osm_testkit::eventually;

use crate::mesh::URL;
use crate::roots::{agreed, comes_to, mesh, names, page, root, set_roots, signing, status};
use crate::support::{LIMIT, answered_by, get, on_every_envoy};

on_every_envoy! {
    /// A root is removed by its annotation: nothing is waited for, the other root signs, and the mesh recovers by itself.
    async fn a_compromised_root_is_removed_at_once(envoy) {
        let mut world = mesh(envoy).await?;
        set_roots(&world, &[("first", "active"), ("second", "passive")]).await?;
        agreed(&mut world, "first", &["first", "second"]).await?;
        // A word that does not say what happens does nothing but warn.
        let annotated = |value: &str| {
            let annotation = format!("openservicemesh.io/remove-root-now: {value}");
            format!("{}---\n{}", root("first", "active", &annotation), root("second", "passive", ""))
        };
        world.write("roots.yaml", &annotated("please")).await?;
        eventually("the status says what to write", LIMIT, || async {
            let status = status(&world, "first")?;
            ensure!(status["conditions"].to_string().contains("breaks-traffic"), "{status}");
            Ok(())
        })
        .await?;
        ensure!(names(&page(&mut world).await?["trusted"]).contains("first"), "it was removed without consent");

        world.write("roots.yaml", &annotated("breaks-traffic")).await?;
        agreed(&mut world, "second", &["second"]).await?;
        eventually("the status says that it is removed", LIMIT, || async {
            let first = status(&world, "first")?;
            ensure!(first["usage"] == "unused" && first["conditions"].to_string().contains("Removed"), "{first}");
            Ok(())
        })
        .await?;
        eventually("requests are answered", LIMIT, || answered_by(&world, "client", get(URL), "web")).await?;
        // The object goes, another takes its place in peace.
        set_roots(&world, &[("second", "active")]).await?;
        comes_to(&world, "second", "active").await?;
        set_roots(&world, &[("third", "active")]).await?;
        agreed(&mut world, "third", &["third"]).await.context("the rotation after the removal")?;
        ensure!(signing(&page(&mut world).await?) == "third", "another signs");
        Ok(())
    }
}
