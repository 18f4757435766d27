//! Traces of the control plane's own work, as a collector gets them, and what happens when the collector is not well.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

#[path = "traces/collector.rs"]
mod collector;
#[path = "traces/plane.rs"]
mod plane;

use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use osm_testkit::eventually;
use tonic::Status;

use crate::collector::{Answers, Collector, Deaf, Received, nanoseconds};
use crate::plane::{LIMIT, Plane, Proxy};

/// The parts of a change's trace.
const PARTS: [&str; 3] = ["resolve", "push", "acknowledge"];

/// Waits for the trace of the change of an object.
async fn trace_of(collector: &Collector, object: &str) -> Result<Vec<Received>> {
    eventually("the whole trace arrives", LIMIT, || async {
        let spans = collector.spans();
        let change = spans.iter().find(|span| span.name == "change" && span.text("names") == object);
        let change = change.with_context(|| format!("a change of {object} among {spans:#?}"))?;
        let trace: Vec<Received> = spans.iter().filter(|span| span.trace == change.trace).cloned().collect();
        ensure!(trace.len() > PARTS.len(), "only {trace:#?}");
        Ok(trace)
    })
    .await
}

fn named<'a>(trace: &'a [Received], name: &str) -> &'a Received {
    trace.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {trace:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_one_trace_from_the_objects_to_the_last_acknowledgement() -> Result<()> {
    let collector = Collector::start(Answers::Takes, None).await?;
    let plane = Plane::start(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "100")]).await?;
    let proxy = plane.proxy().await?;

    proxy.hold_acknowledgements();
    plane.grant("first")?;
    proxy.wait_for_unacknowledged().await?;
    let acknowledged_from = nanoseconds(SystemTime::now());
    proxy.acknowledge();

    let trace = trace_of(&collector, "traffictarget/shop/first").await?;
    assert_eq!(trace.len(), 1 + PARTS.len(), "{trace:#?}");
    let change = named(&trace, "change");
    assert_eq!(change.parent, Vec::<u8>::new(), "it starts the trace");
    assert_eq!(change.number("objects"), Some(1));
    for name in PARTS {
        let part = named(&trace, name);
        assert_eq!(part.parent, change.id, "{part:#?}");
        assert!(part.start >= change.start && part.end >= part.start, "{trace:#?}");
    }
    let [resolve, push, acknowledge] = PARTS.map(|name| named(&trace, name));
    assert!(resolve.end <= push.start && push.end <= acknowledge.start, "one after the other: {trace:#?}");
    assert!(push.end <= change.end, "the change goes out within it: {trace:#?}");
    assert!(acknowledge.end >= acknowledged_from, "{acknowledge:#?}");
    assert!(resolve.number("computed") > Some(0) && resolve.number("findings").is_some(), "{resolve:#?}");
    assert!(push.number("resources") > Some(0) && push.number("workloads") > Some(0), "{push:#?}");
    assert!(push.number("epoch") > Some(0) && push.number("epoch") == acknowledge.number("epoch"), "{trace:#?}");
    let of_proxies = ["proxies", "refused", "outstanding"].map(|attribute| acknowledge.number(attribute));
    assert_eq!(of_proxies, [Some(1), Some(0), Some(0)], "{acknowledge:#?}");
    for span in &trace {
        assert_eq!(span.service, "osm-operator");
        assert_eq!(span.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(span.scope, "osm-operator");
    }

    // The log does not hold the spans, and nothing in it complains.
    let log = plane.stop().await?;
    assert!(!log.contains("traces of the control plane") && !log.contains("acknowledge"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_yet_is_sent_at_the_end() -> Result<()> {
    let collector = Collector::start(Answers::Takes, None).await?;
    // Nothing is sent before a day has passed.
    let plane = Plane::start(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "86400000")]).await?;
    let proxy = plane.proxy().await?;
    proxy.hold_acknowledgements();
    plane.grant("last")?;
    proxy.wait_for_unacknowledged().await?;
    assert!(collector.spans().is_empty(), "{:#?}", collector.spans());
    plane.stop().await?;

    // All is here: the process has ended.
    let spans = collector.spans();
    let change = spans.iter().find(|span| span.text("names") == "traffictarget/shop/last");
    let change = change.with_context(|| format!("a change of it among {spans:#?}"))?;
    let trace: Vec<Received> = spans.iter().filter(|span| span.trace == change.trace).cloned().collect();
    assert_eq!(trace.len(), 1 + PARTS.len(), "{trace:#?}");
    assert_eq!(named(&trace, "acknowledge").number("outstanding"), Some(1), "nobody acknowledged it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_said_once_and_so_is_its_return() -> Result<()> {
    let collector = Collector::start(Answers::Refuses(Status::invalid_argument("not today")), None).await?;
    let plane = Plane::start(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "100")]).await?;
    let proxy = plane.proxy().await?;
    for number in 0..3 {
        let requests = collector.requests();
        // Each is acknowledged, whatever the collector says, and gives it something to refuse.
        plane.grant_and_wait(&proxy, &format!("refused-{number}")).await?;
        eventually("the collector is asked again", LIMIT, || async {
            ensure!(collector.requests() > requests, "{} requests", collector.requests());
            Ok(())
        })
        .await?;
    }
    collector.answer(Answers::Takes);
    plane.grant_and_wait(&proxy, "taken").await?;
    trace_of(&collector, "traffictarget/shop/taken").await?;
    let log = plane.stop().await?;
    let said = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((said("cannot be sent"), said("are sent again")), (1, 1), "{log}");
    assert!(log.contains(&collector.url().replace("http://", "")), "it says which: {log}");
    Ok(())
}

/// Changes objects until the control plane has said that the collector is not well; every change is acknowledged meanwhile.
async fn change_until_it_is_said(plane: &Plane, proxy: &Proxy) -> Result<()> {
    let mut number = 0;
    while !plane.log().contains("cannot be sent") {
        plane.grant_and_wait(proxy, &format!("before-{number}")).await?;
        number += 1;
    }
    Ok(())
}

async fn stop_and_count_warnings(plane: Plane) -> Result<usize> {
    let log = plane.stop().await?;
    Ok(log.lines().filter(|line| line.contains("cannot be sent")).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nothing_up_and_is_said_once() -> Result<()> {
    let collector = Deaf::closing().await?;
    let plane = Plane::start(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "100")]).await?;
    let proxy = plane.proxy().await?;
    change_until_it_is_said(&plane, &proxy).await?;
    // It is tried again and again, and that is not said.
    for number in 0..3 {
        let connections = collector.connections();
        plane.grant_and_wait(&proxy, &format!("after-{number}")).await?;
        eventually("the collector is tried again", LIMIT, || async {
            ensure!(collector.connections() > connections, "{connections} connections");
            Ok(())
        })
        .await?;
    }
    assert_eq!(stop_and_count_warnings(plane).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_nothing_up_and_is_said_once() -> Result<()> {
    let collector = Deaf::silent().await?;
    let plane = Plane::start(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "100")]).await?;
    let proxy = plane.proxy().await?;
    change_until_it_is_said(&plane, &proxy).await?;
    for number in 0..3 {
        plane.grant_and_wait(&proxy, &format!("after-{number}")).await?;
    }
    // There are spans that cannot be sent, and the end comes all the same.
    assert_eq!(stop_and_count_warnings(plane).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_behind_tls_is_verified_with_what_the_system_trusts() -> Result<()> {
    let authority = osm_xds_test_support::Authority::new("collectors");
    let folder = tempfile::tempdir()?;
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.certificate())?;
    let roots = roots.to_str().context("a path of text")?;
    let collector = Collector::start(Answers::Takes, Some(&authority.issue(&["127.0.0.1"]))).await?;
    let plane = Plane::start(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "100"), ("SSL_CERT_FILE", roots)]).await?;
    let proxy = plane.proxy().await?;
    plane.grant_and_wait(&proxy, "first").await?;
    trace_of(&collector, "traffictarget/shop/first").await?;
    plane.stop().await?;

    let other = osm_xds_test_support::Authority::new("others");
    let collector = Collector::start(Answers::Takes, Some(&other.issue(&["127.0.0.1"]))).await?;
    let plane = Plane::start(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "100"), ("SSL_CERT_FILE", roots)]).await?;
    eventually("it is refused", LIMIT, || async {
        ensure!(plane.log().contains("cannot be sent"), "{}", plane.log());
        Ok(())
    })
    .await?;
    plane.stop().await?;
    assert!(collector.spans().is_empty(), "nothing is sent to a stranger");
    Ok(())
}
