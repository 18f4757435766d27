//! A folder and an API server that hold the same objects give the same bytes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use osm_testkit::eventually;
use serde_json::{Map, Value};

use crate::world::{LIMIT, Operator, SHOP, World};

/// Versions (hashes of the bytes) of all resources but secrets, which hold the keys of another authority.
async fn versions(operator: &Operator) -> Result<BTreeMap<String, Map<String, Value>>> {
    let mut snapshots: BTreeMap<String, Map<String, Value>> =
        serde_json::from_value(operator.json("/debug/snapshots").await?)?;
    for types in snapshots.values_mut() {
        types.remove("Secret");
    }
    Ok(snapshots)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_and_an_api_server_with_equal_objects_give_equal_bytes() -> Result<()> {
    let world = World::start().await?;
    world.apply(SHOP).await?;
    let from_api = world.operator("a", &["--service-cidr", "10.96.0.0/16"]).await?;

    let manifests = tempfile::tempdir()?;
    // What the API server adds by itself: its own namespaces are in no mesh and make nothing.
    std::fs::write(manifests.path().join("shop.yaml"), SHOP)?;
    let state = tempfile::tempdir()?;
    let [manifests, state] = [&manifests, &state].map(|folder| folder.path().to_str().context("text"));
    let arguments = [
        "standalone",
        manifests?,
        "--state-dir",
        state?,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--service-cidr",
        "10.96.0.0/16",
    ];
    let from_folder = Operator::start(world.folder.path(), "standalone", &arguments).await?;
    from_folder.wait_until_ready().await?;
    eventually("both say the same", LIMIT, || async {
        let (api, folder) = (versions(&from_api).await?, versions(&from_folder).await?);
        ensure!(api == folder, "from the API server {api:#?}\nfrom the folder {folder:#?}");
        ensure!(api.get("shop/api").is_some_and(|types| types.len() >= 3), "there is something to compare: {api:#?}");
        Ok(())
    })
    .await?;
    from_folder.stop().await?;
    from_api.stop().await
}
