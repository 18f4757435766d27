//! A small mesh with MeshRootCertificates, and words for what its rotation has come to.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use osm_e2e::World;
use osm_testkit::{EnvoyBinary, eventually};
use serde_json::Value;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::mesh::{TCP, URL, all_are_synced};
use crate::support::{LIMIT, Seen, answered_by, get, sees, tcp, world};

/// Workloads with a sidecar.
pub(crate) const WORKLOADS: [&str; 3] = ["client", "web", "bytes"];

/// What the control plane is started with: files are followed at once here, and nobody has to be waited for who is gone.
const QUICK: [&str; 4] = ["--trust-bundle-delay", "1", "--proxy-grace", "20"];

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

/// The mesh with one root, `first`, on which all agree.
pub(crate) async fn mesh(envoy: EnvoyBinary) -> Result<World> {
    mesh_with(envoy, &QUICK).await
}

/// Likewise, with other waits.
pub(crate) async fn mesh_with(envoy: EnvoyBinary, arguments: &[&str]) -> Result<World> {
    let mut world = world(&documents(), Mode::ByPolicy, envoy).await?;
    world.keep_certificates()?;
    set_roots(&world, &[("first", "active")]).await?;
    world.operator()?.restart_with(arguments).await?;
    all_are_synced(world.operator()?, WORKLOADS.len()).await?;
    agreed(&mut world, "first", &["first"]).await?;
    answered_by(&world, "client", get(URL), "web").await?;
    sees(&world, "client", tcp(TCP), Seen::Status(200)).await?;
    Ok(world)
}

/// The MeshRootCertificates that there are from now on, with their roles.
pub(crate) async fn set_roots(world: &World, roots: &[(&str, &str)]) -> Result<()> {
    let documents: Vec<String> = roots.iter().map(|(name, role)| root(name, role, "")).collect();
    world.write("roots.yaml", &documents.join("---\n")).await?;
    Ok(())
}

/// A MeshRootCertificate whose authority is in a Secret of its name.
pub(crate) fn root(name: &str, role: &str, annotations: &str) -> String {
    format!(
        "apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshRootCertificate
metadata: {{ name: {name}, namespace: osm-system, annotations: {{ {annotations} }} }}
spec:
  role: {role}
  provider: {{ tresor: {{ ca: {{ secretRef: {{ name: {name}, namespace: osm-system }} }} }} }}
"
    )
}

/// What the control plane says of its roots.
pub(crate) async fn page(world: &mut World) -> Result<Value> {
    world.operator()?.debug("roots").await
}

/// Names in a list of the page, without the namespace.
pub(crate) fn names(list: &Value) -> BTreeSet<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(|text| text.trim_start_matches("osm-system/").to_owned()).collect()
}

pub(crate) fn signing(page: &Value) -> &str {
    page["signing"].as_str().unwrap_or_default().trim_start_matches("osm-system/")
}

/// Waits until `signer` signs, exactly `trusted` are trusted, and everybody does as was decided.
pub(crate) async fn agreed(world: &mut World, signer: &str, trusted: &[&str]) -> Result<()> {
    let expected: BTreeSet<String> = trusted.iter().map(|name| (*name).to_owned()).collect();
    let shows = BTreeSet::from([signer.to_owned()]);
    let world = tokio::sync::Mutex::new(world);
    eventually(&format!("everybody agrees that {signer} signs and {trusted:?} are trusted"), LIMIT, || async {
        let page = page(*world.lock().await).await?;
        ensure!(page["complete"] == true && signing(&page) == signer && names(&page["trusted"]) == expected, "{page}");
        let participants = page["participants"].as_array().context("no participants")?;
        let proxies =
            participants.iter().filter(|one| one["participant"].as_str().is_some_and(|name| name.starts_with("proxy")));
        let mut connected = 0;
        for proxy in proxies {
            connected += 1;
            let settled = names(&proxy["trusts"]) == expected && names(&proxy["mayTrust"]) == expected;
            ensure!(settled && names(&proxy["mayShow"]) == shows, "{proxy}");
        }
        ensure!(connected == WORKLOADS.len(), "{connected} proxies are connected");
        Ok(())
    })
    .await
}

/// The `status` of a MeshRootCertificate.
pub(crate) fn status(world: &World, name: &str) -> Result<Value> {
    world.status(&osm_e2e::ObjectKey::new("MeshRootCertificate", "osm-system", name))
}

/// Waits until the status of a root says that it is in this state, and ready.
pub(crate) async fn comes_to(world: &World, name: &str, state: &str) -> Result<()> {
    eventually(&format!("{name} is {state}"), LIMIT, || async {
        let status = status(world, name)?;
        let conditions = status["conditions"].as_array().context("no conditions")?;
        let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        ensure!(status["state"] == state && ready, "{status}");
        Ok(())
    })
    .await
}
