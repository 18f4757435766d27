//! Permissive mode: a sidecar knows a service only once it is used, and the first request is answered like any other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use osm_e2e::World;
use osm_testkit::apps::{Target, TryRequest};
use osm_testkit::eventually;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::support::{LIMIT, Seen, answered_by, attempt, comes_to_see, get, on_every_envoy, world};

/// Services whose first use is at the same moment.
const SERVICES: u16 = 500;
/// How long an application may be kept waiting for a clear answer, also when 500 wait together.
const CLEAR_ANSWER: Duration = Duration::from_secs(6);
/// What counts as at once, on a machine that does other things, too.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A client, a server, and `services` HTTP Services in front of it, numbered from 1; Service 900 has no endpoints.
fn documents(services: u16) -> Documents {
    let documents = Documents::namespaces()
        .pod("client", 11, &["client"])
        .pod("web", 12, &["http-echo", "--listen", "[::]:8080", "--name", "web"])
        .service("empty", Kind::ClusterIp(900), &[(80, 8080, Speaks::Http)], &[]);
    (1..=services).fold(documents, |documents, number| {
        let name = format!("web-{number}");
        documents.service(&name, Kind::ClusterIp(number), &[(80, 8080, Speaks::Http)], &[12])
    })
}

fn service(number: u16) -> String {
    format!("http://web-{number}.shop/")
}

/// One attempt; what it saw and how long it took.
async fn timed(world: &World, from: &str, target: Target) -> Result<(Seen, Duration)> {
    let started = Instant::now();
    let (seen, _) = attempt(world, from, target).await?;
    Ok((seen, started.elapsed()))
}

/// Expects an error status of a proxy's within `limit`.
async fn clear_status(world: &World, from: &str, url: &str, limit: Duration) -> Result<()> {
    let (seen, took) = timed(world, from, get(url)).await?;
    let clear = matches!(seen, Seen::Status(500..=504 | 404));
    ensure!(clear && took < limit, "{url}: {seen:?} after {took:?}, expected an error status within {limit:?}");
    Ok(())
}

on_every_envoy! {
    /// The first requests to 500 services at once, each on a connection of its own: each is answered, by the service or by a
    /// proxy that gives up in time, none hangs; and all services answer from then on, without the control plane, too.
    async fn five_hundred_services_at_once(envoy) {
        let mut world = world(&documents(SERVICES), Mode::Permissive, envoy).await?;
        let seen = every_service(&world).await?;
        let answered = ["200 by web", "503 by a proxy"].iter().filter_map(|answer| seen.get(*answer)).sum::<usize>();
        ensure!(answered == usize::from(SERVICES), "not every first request was answered: {seen:?}");
        eventually("all services answer", LIMIT, || async {
            let seen = every_service(&world).await?;
            ensure!(seen == all_answer(), "{seen:?}");
            Ok(())
        })
        .await?;
        world.operator()?.kill().await?;
        let seen = every_service(&world).await?;
        ensure!(seen == all_answer(), "without the control plane: {seen:?}");
        Ok(())
    }

    /// What does not exist is answered at once, every time: a Service without endpoints, an address of no Service, and a
    /// Service that came to be after it was asked for.
    async fn what_does_not_exist(envoy) {
        let world = world(&documents(1), Mode::Permissive, envoy).await?;
        answered_by(&world, "client", get(service(1)), "web").await?;
        for _ in 0..3 {
            clear_status(&world, "client", "http://empty.shop/", AT_ONCE).await?;
            // Service 700 is not there (yet).
            clear_status(&world, "client", "http://10.96.2.201/", AT_ONCE).await?;
            clear_status(&world, "client", "http://[fd00:96::2bc]/", AT_ONCE).await?;
        }
        let late = Documents::default().service("late", Kind::ClusterIp(700), &[(80, 8080, Speaks::Http)], &[12]);
        world.write("late.yaml", late.text()).await?;
        comes_to_see(&world, "client", get("http://10.96.2.201/"), Seen::Status(200)).await?;
        comes_to_see(&world, "client", get("http://[fd00:96::2bc]/"), Seen::Status(200)).await?;
        let filled = documents(1).text().replace(
            "labels: { kubernetes.io/service-name: empty } }\naddressType: IPv4\nports: [{ name: http-80, port: 8080 }, ]\nendpoints: []",
            "labels: { kubernetes.io/service-name: empty } }\naddressType: IPv4\nports: [{ name: http-80, port: 8080 }, ]\nendpoints: [{ addresses: [\"10.244.0.12\"] }]",
        );
        ensure!(filled != documents(1).text(), "the text of an EndpointSlice is not what this test expects");
        world.write("base.yaml", &filled).await?;
        comes_to_see(&world, "client", get("http://empty.shop/"), Seen::Status(200)).await
    }

    /// First use while the control plane is down: a clear status in time, and an answer when it is back.
    async fn while_the_control_plane_is_down(envoy) {
        let mut world = world(&documents(4), Mode::Permissive, envoy).await?;
        answered_by(&world, "client", get(service(1)), "web").await?;
        world.operator()?.kill().await?;
        // What was used goes on; what was not is refused in time. Several at once, as an application does.
        answered_by(&world, "client", get(service(1)), "web").await?;
        let (second, third) = (service(2), service(3));
        let both = [&second, &third].map(|url| clear_status(&world, "client", url, CLEAR_ANSWER));
        try_join_all(both).await?;
        answered_by(&world, "client", get(service(1)), "web").await?;
        world.operator()?.start_again().await?;
        for number in 1..=4 {
            comes_to_see(&world, "client", get(service(number)), Seen::Status(200)).await?;
        }
        Ok(())
    }
}

fn all_answer() -> BTreeMap<String, usize> {
    BTreeMap::from([("200 by web".to_owned(), usize::from(SERVICES))])
}

/// One request to every service, all at once; how often each outcome was seen.
async fn every_service(world: &World) -> Result<BTreeMap<String, usize>> {
    let mut seen = BTreeMap::new();
    for answer in try_join_all((1..=SERVICES).map(|number| request(world, number))).await? {
        *seen.entry(answer).or_default() += 1;
    }
    Ok(seen)
}

/// What one request to a service brought.
async fn request(world: &World, number: u16) -> Result<String> {
    let limit = u64::try_from(CLEAR_ANSWER.as_millis())?;
    let request = TryRequest { timeout_milliseconds: limit, ..TryRequest::new(get(service(number)), 1) };
    let report = world.request("client", &request).await?;
    let answer = report
        .statuses
        .keys()
        .next()
        .map(|status| format!("{status} by {}", report.identities.keys().next().map_or("a proxy", String::as_str)));
    Ok(answer.unwrap_or_else(|| format!("{:?}", report.samples)))
}
