//! An object that Envoy refuses: only its own effect is held back, its status says who refuses it in whose words, and it heals.

use anyhow::{Context as _, Result, ensure};
use osm_e2e::{ObjectKey, World};
use osm_testkit::eventually;
use serde_json::Value;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::support::{LIMIT, Seen, apply, comes_to_see, get, gets_no_connection, on_every_envoy, sees, world};

/// Fine for the control plane; its compiled form is larger than the bootstrap allows Envoy's expressions to be.
const TOO_LARGE: &str = "/reports/.{1,1000}";
/// What it should have been.
const GOOD: &str = "/reports/.{1,10}";

/// One server on one port, and two clients with a grant each: the bad one is the second's.
fn two_clients() -> Documents {
    Documents::namespaces()
        .pod("first", 11, &["client"])
        .pod("second", 12, &["client"])
        .pod("web", 13, &["http-echo", "--listen", "[::]:8080", "--name", "web"])
        .service("web", Kind::ClusterIp(13), &[(80, 8080, Speaks::Http)], &[13])
}

fn pages(path: &str) -> Documents {
    Documents::default().route_group("pages", &[("page", path)]).grant(
        "pages",
        "first",
        "web",
        ("HTTPRouteGroup", "pages"),
    )
}

fn reports(path: &str) -> Documents {
    Documents::default().route_group("reports", &[("report", path)]).grant(
        "reports",
        "second",
        "web",
        ("HTTPRouteGroup", "reports"),
    )
}

fn condition<'a>(status: &'a Value, kind: &str) -> Result<&'a Value> {
    let conditions = status["conditions"].as_array().context("a status without conditions")?;
    conditions.iter().find(|condition| condition["type"] == kind).with_context(|| format!("no {kind} in {status}"))
}

/// Waits until the status of the bad object says that the sidecar of `web` refuses it, in Envoy's words.
async fn refusal_is_reported(world: &World) -> Result<()> {
    let group = ObjectKey::new("HTTPRouteGroup", "shop", "reports");
    eventually("the status names the proxy that refuses", LIMIT, || async {
        let status = world.status(&group)?;
        let programmed = condition(&status, "Programmed")?;
        ensure!(programmed["status"] == "False" && programmed["reason"] == "RefusedByProxies", "{status}");
        let message = programmed["message"].as_str().unwrap_or_default();
        // Envoy's own words for it.
        ensure!(message.contains("shop/web/web") && message.contains("program size"), "{message}");
        ensure!(condition(&status, "Accepted")?["status"] == "True", "{status}");
        let refusal = &status["propagation"]["refusals"][0];
        ensure!(refusal["proxy"] == "shop/web/web", "{status}");
        Ok(())
    })
    .await?;
    eventually("the snapshot of the workload tells it, too", LIMIT, || async {
        let snapshot = world.status(&ObjectKey::new("ProxySnapshot", "shop", "web"))?;
        ensure!(snapshot["proxies"]["rejected"] == 1, "{snapshot}");
        Ok(())
    })
    .await
}

/// Waits until the status of the other objects says that every proxy runs them.
async fn others_are_programmed(world: &World) -> Result<()> {
    eventually("the other objects are programmed", LIMIT, || async {
        for (kind, name) in [("HTTPRouteGroup", "pages"), ("TrafficTarget", "pages")] {
            let status = world.status(&ObjectKey::new(kind, "shop", name))?;
            ensure!(condition(&status, "Programmed")?["status"] == "True", "{kind} {name}: {status}");
        }
        Ok(())
    })
    .await
}

/// Traffic of the good object flows, and changes of it take effect on the port that the bad object is about, too.
async fn neighbours_go_on(world: &World) -> Result<()> {
    sees(world, "first", get("http://web.shop/pages"), Seen::Status(200)).await?;
    others_are_programmed(world).await?;
    apply(world, "pages.yaml", pages("/changed").text()).await?;
    sees(world, "first", get("http://web.shop/changed"), Seen::Status(200)).await?;
    sees(world, "first", get("http://web.shop/pages"), Seen::Status(404)).await?;
    refusal_is_reported(world).await?;
    apply(world, "pages.yaml", pages("/pages").text()).await?;
    sees(world, "first", get("http://web.shop/pages"), Seen::Status(200)).await?;
    refusal_is_reported(world).await
}

/// The object is fixed: it takes effect, its status says so, and nothing is left of the refusal.
async fn it_heals(world: &World) -> Result<()> {
    apply(world, "reports.yaml", reports(GOOD).text()).await?;
    sees(world, "second", get("http://web.shop/reports/x"), Seen::Status(200)).await?;
    sees(world, "second", get("http://web.shop/pages"), Seen::Status(403)).await?;
    sees(world, "first", get("http://web.shop/pages"), Seen::Status(200)).await?;
    let status = world.status(&ObjectKey::new("HTTPRouteGroup", "shop", "reports"))?;
    ensure!(status["propagation"]["refused"] == 0, "{status}");
    eventually("the snapshot of the workload is clean", LIMIT, || async {
        let snapshot = world.status(&ObjectKey::new("ProxySnapshot", "shop", "web"))?;
        ensure!(snapshot["proxies"]["rejected"] == 0 && snapshot["proxies"]["synced"] == 1, "{snapshot}");
        Ok(())
    })
    .await
}

on_every_envoy! {
    /// The bad object comes into a mesh that runs, and grows bad after it was good.
    async fn into_a_running_mesh(envoy) {
        let world = world(&two_clients(), Mode::ByPolicy, envoy).await?;
        apply(&world, "pages.yaml", pages("/pages").text()).await?;
        world.write("reports.yaml", reports(TOO_LARGE).text()).await?;
        refusal_is_reported(&world).await?;
        neighbours_go_on(&world).await?;
        // It is outbound only that the second client got.
        sees(&world, "second", get("http://web.shop/reports/x"), Seen::Status(404)).await?;
        it_heals(&world).await?;

        world.write("reports.yaml", reports(TOO_LARGE).text()).await?;
        refusal_is_reported(&world).await?;
        neighbours_go_on(&world).await?;
        let removed = world.remove("reports.yaml").await?;
        world.wait_programmed(&removed, LIMIT).await?;
        gets_no_connection(&world, "second", get("http://web.shop/reports/x")).await?;
        sees(&world, "first", get("http://web.shop/pages"), Seen::Status(200)).await?;
        Ok(())
    }

    /// The bad object is there before the proxy is, so that its very first configuration is refused.
    async fn at_first_connect(envoy) {
        let documents = two_clients()
            .route_group("pages", &[("page", "/pages")])
            .grant("pages", "first", "web", ("HTTPRouteGroup", "pages"))
            .route_group("reports", &[("report", TOO_LARGE)])
            .grant("reports", "second", "web", ("HTTPRouteGroup", "reports"));
        let world = world(&documents, Mode::ByPolicy, envoy).await?;
        refusal_is_reported(&world).await?;
        comes_to_see(&world, "first", get("http://web.shop/pages"), Seen::Status(200)).await?;
        others_are_programmed(&world).await?;
        let fixed = two_clients()
            .route_group("pages", &[("page", "/pages")])
            .grant("pages", "first", "web", ("HTTPRouteGroup", "pages"))
            .route_group("reports", &[("report", GOOD)])
            .grant("reports", "second", "web", ("HTTPRouteGroup", "reports"));
        apply(&world, "base.yaml", fixed.text()).await?;
        sees(&world, "second", get("http://web.shop/reports/x"), Seen::Status(200)).await?;
        sees(&world, "first", get("http://web.shop/pages"), Seen::Status(200)).await?;
        Ok(())
    }

    /// The bad object comes in one change with good ones about the same port.
    async fn next_to_good_ones(envoy) {
        let world = world(&two_clients(), Mode::ByPolicy, envoy).await?;
        let both = |path: &str| {
            Documents::default()
                .route_group("pages", &[("page", "/pages")])
                .grant("pages", "first", "web", ("HTTPRouteGroup", "pages"))
                .route_group("reports", &[("report", path)])
                .grant("reports", "second", "web", ("HTTPRouteGroup", "reports"))
        };
        world.write("both.yaml", both(TOO_LARGE).text()).await?;
        refusal_is_reported(&world).await?;
        comes_to_see(&world, "first", get("http://web.shop/pages"), Seen::Status(200)).await?;
        others_are_programmed(&world).await?;
        apply(&world, "both.yaml", both(GOOD).text()).await?;
        sees(&world, "second", get("http://web.shop/reports/x"), Seen::Status(200)).await?;
        sees(&world, "first", get("http://web.shop/pages"), Seen::Status(200)).await?;
        Ok(())
    }
}
