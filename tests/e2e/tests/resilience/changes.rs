//! Changes of routes and of endpoints.

use anyhow::{Context as _, Result, ensure};
use osm_e2e::World;
use osm_testkit::eventually;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::mesh::{URL, constant_load, nothing_failed};
use crate::support::{LIMIT, Seen, answered_by, apply, attempt, get, on_every_envoy, world};

const SWAPS: usize = 200;
const REPLACEMENTS: usize = 100;
const HTTP: &[(u16, u16, Speaks)] = &[(80, 8080, Speaks::Http)];

/// One service before two versions of a server.
fn two_versions() -> Documents {
    Documents::namespaces()
        .pod("client", 11, &["client"])
        .pod("v1", 12, &["http-echo", "--listen", "[::]:8080", "--name", "v1"])
        .pod("v2", 13, &["http-echo", "--listen", "[::]:8080", "--name", "v2"])
        .service("web", Kind::ClusterIp(1), HTTP, &[12, 13])
        .service("web-v1", Kind::ClusterIp(2), HTTP, &[12])
        .service("web-v2", Kind::ClusterIp(3), HTTP, &[13])
        .route_group("all", &[("all", ".*")])
        .grant("v1", "client", "v1", ("HTTPRouteGroup", "all"))
        .grant("v2", "client", "v2", ("HTTPRouteGroup", "all"))
}

/// All traffic to one version.
fn all_to(version: &str) -> String {
    let weight = |of: &str| if of == version { 100 } else { 0 };
    format!(
        "apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {{ name: web, namespace: shop }}
spec:
  service: web
  backends: [{{ service: web-v1, weight: {} }}, {{ service: web-v2, weight: {} }}]
",
        weight("v1"),
        weight("v2")
    )
}

/// One service before four pods of one server, of which it names `pods`.
fn replicas(pods: &[u8]) -> Documents {
    let documents = Documents::namespaces().pod("client", 11, &["client"]).account("web");
    let documents = (12..=15).fold(documents, |documents, number| {
        let name = pod(number);
        documents.pod_as(&name, "web", number, &["http-echo", "--listen", "[::]:8080", "--name", &name])
    });
    documents.service("web", Kind::ClusterIp(1), HTTP, pods)
}

fn pod(number: u8) -> String {
    format!("web-{number}")
}

/// Waits until a request is answered by one of these pods.
async fn comes_to_be_answered_by(world: &World, pods: &[u8]) -> Result<()> {
    eventually(&format!("one of the pods {pods:?} answers"), LIMIT, || async {
        let (seen, report) = attempt(world, "client", get(URL)).await?;
        let known = pods.iter().any(|number| report.identities.contains_key(&pod(*number)));
        ensure!(seen == Seen::Status(200) && known, "{report:?}");
        Ok(())
    })
    .await
}

on_every_envoy! {
    /// All traffic moves between two versions, 200 times; each time it has moved once the status says so.
    async fn route_swaps(envoy) {
        let world = world(&two_versions(), Mode::ByPolicy, envoy).await?;
        apply(&world, "split.yaml", &all_to("v1")).await?;
        answered_by(&world, "client", get(URL), "v1").await?;
        let load = constant_load(&world).await?;
        for (swap, version) in ["v2", "v1"].into_iter().cycle().take(SWAPS).enumerate() {
            apply(&world, "split.yaml", &all_to(version)).await.with_context(|| format!("swap {swap}"))?;
            answered_by(&world, "client", get(URL), version).await.with_context(|| format!("swap {swap}"))?;
        }
        let report = nothing_failed(load).await?;
        ensure!(["v1", "v2"].iter().all(|version| report.identities.contains_key(*version)), "{report:?}");
        Ok(())
    }

    /// A service's endpoints are replaced by others, 100 times; those that it had stay alive, as pods do that are being drained.
    async fn endpoint_replacements(envoy) {
        const SETS: [[u8; 2]; 2] = [[12, 13], [14, 15]];
        let world = world(&replicas(&SETS[0]), Mode::Permissive, envoy).await?;
        comes_to_be_answered_by(&world, &SETS[0]).await?;
        let load = constant_load(&world).await?;
        for (replacement, pods) in [SETS[1], SETS[0]].iter().cycle().take(REPLACEMENTS).enumerate() {
            world.write("base.yaml", replicas(pods).text()).await?;
            let moved = comes_to_be_answered_by(&world, pods).await;
            moved.with_context(|| format!("replacement {replacement}"))?;
        }
        let report = nothing_failed(load).await?;
        ensure!((12..=15).all(|number| report.identities.contains_key(&pod(number))), "{report:?}");
        Ok(())
    }
}
