//! The manifests of the pages for users, as an API server takes them.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::blocks::{blocks, pages};
use crate::world::World;

/// Whatever schemas, rules and validation of fields say.
#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_of_the_pages_for_users_are_accepted() -> Result<()> {
    let world = World::start().await?;
    let kubectl = world.server.kubectl();
    let manifests: Vec<(String, String)> = pages()
        .into_iter()
        .flat_map(|(page, text)| blocks(&text, "yaml").into_iter().map(move |block| (page.clone(), block)))
        .collect();
    ensure!(manifests.len() > 10, "{manifests:?}");
    // Nothing is made by a dry run, not even the namespace of what follows.
    let mut namespaces = BTreeSet::new();
    for (_, block) in &manifests {
        for document in block.split("\n---\n") {
            let document: Value = serde_saphyr::from_str(document)?;
            namespaces.extend(document["metadata"]["namespace"].as_str().map(str::to_owned));
        }
    }
    for name in namespaces {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        world.apply(&namespace.to_string()).await?;
        let account =
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": name, "name": "api" } });
        world.apply(&account.to_string()).await?;
    }
    let apply =
        ["apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server", "--filename=-"];
    for (page, block) in manifests {
        let output = kubectl.run_with_input(&apply, &block).await?;
        ensure!(output.status.success(), "{page}: {}\n{block}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
