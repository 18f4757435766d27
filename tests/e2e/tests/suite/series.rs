//! How many series of statistics a proxy keeps: what dashboards need, and no more with more routes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use osm_e2e::World;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::support::{Seen, apply, get, on_every_envoy, sees, world};

const ROUTES: usize = 50;
/// Set to 1 to write what is seen instead of comparing it.
const UPDATE: &str = "UPDATE_GOLDEN";

fn documents() -> Documents {
    Documents::namespaces()
        .pod("client", 11, &["client"])
        .pod("stranger", 12, &["client"])
        .pod("web", 13, &["http-echo", "--listen", "[::]:8080", "--name", "web"])
        .pod("bytes", 14, &["tcp-echo", "--listen", "[::]:9000", "--name", "bytes"])
        .service("web", Kind::ClusterIp(13), &[(80, 8080, Speaks::Http)], &[13])
        .service("bytes", Kind::ClusterIp(14), &[(9000, 9000, Speaks::Tcp)], &[14])
        .tcp_route("bytes", &[9000])
        .grant("bytes", "client", "bytes", ("TCPRoute", "bytes"))
        .route_group("all", &[("page-0", "/pages/0")])
        .grant("stranger", "stranger", "web", ("HTTPRouteGroup", "all"))
}

fn grants(routes: usize) -> Documents {
    let matches: Vec<(String, String)> =
        (0..routes).map(|number| (format!("page-{number}"), format!("/pages/{number}"))).collect();
    let matches: Vec<(&str, &str)> = matches.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
    Documents::default().route_group("pages", &matches).grant("pages", "client", "web", ("HTTPRouteGroup", "pages"))
}

/// Answers of every kind that routes can give.
async fn traffic(world: &World, routes: usize) -> Result<()> {
    for number in 0..routes {
        sees(world, "client", get(format!("http://web.shop/pages/{number}")), Seen::Status(200)).await?;
    }
    sees(world, "client", get("http://web.shop/pages/0?status=500"), Seen::Status(500)).await?;
    sees(world, "client", get("http://web.shop/other"), Seen::Status(404)).await?;
    sees(world, "client", crate::support::tcp("bytes.shop:9000"), Seen::Status(200)).await?;
    Ok(())
}

/// Names of a proxy's series with how many of each there are; names of clusters and tables count as one.
async fn series(world: &mut World, workload: &str) -> Result<BTreeMap<String, usize>> {
    let text = world.envoy_admin(workload, "/stats").await?;
    let mut patterns = BTreeMap::new();
    for line in text.lines() {
        let (name, _) = line.split_once(": ").with_context(|| format!("{line:?} is no series"))?;
        *patterns.entry(pattern(name)).or_default() += 1;
    }
    Ok(patterns)
}

/// `cluster.shop/web|8080.upstream_rq_total` is one of `cluster.*.upstream_rq_total`.
fn pattern(name: &str) -> String {
    for scope in ["cluster.", "listener.", "http.", "tcp."] {
        if let Some((of_scope, rest)) = name.strip_prefix(scope).and_then(|rest| split_name(rest)) {
            let _ = of_scope;
            return format!("{scope}*.{rest}");
        }
    }
    name.to_owned()
}

/// Names hold dots: what is Envoy's begins where only its own words follow.
fn split_name(text: &str) -> Option<(&str, &str)> {
    let own = ["upstream_", "downstream_", "membership_", "health_check.", "ssl.", "rbac."];
    let position = own.iter().filter_map(|word| text.find(&format!(".{word}"))).min()?;
    Some((&text[..position], &text[position + 1..]))
}

fn golden(workload: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/series").join(format!("{workload}.txt"))
}

fn written(series: &BTreeMap<String, usize>) -> String {
    let mut text = format!("{} series\n", series.values().sum::<usize>());
    for (pattern, count) in series {
        writeln!(text, "{count} {pattern}").expect("writing to a String");
    }
    text
}

fn compare(workload: &str, series: &BTreeMap<String, usize>) -> Result<()> {
    let (path, seen) = (golden(workload), written(series));
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        return Ok(fs::write(&path, seen)?);
    }
    let expected =
        fs::read_to_string(&path).with_context(|| format!("reading {}; {UPDATE}=1 writes it", path.display()))?;
    ensure!(
        seen == expected,
        "the series of {workload} are not those of {} ({UPDATE}=1 writes them):\n{seen}",
        path.display()
    );
    Ok(())
}

on_every_envoy! {
    /// As many series with 50 more routes as before them, on both ends; and the list of them is the one that was agreed.
    async fn routes_add_no_series(envoy) {
        let mut world = world(&documents(), Mode::ByPolicy, envoy).await?;
        apply(&world, "pages.yaml", grants(1).text()).await?;
        traffic(&world, 1).await?;
        let mut before = Vec::new();
        for workload in ["client", "web"] {
            let series = series(&mut world, workload).await?;
            compare(workload, &series)?;
            before.push(series);
        }
        apply(&world, "pages.yaml", grants(1 + ROUTES).text()).await?;
        traffic(&world, 1 + ROUTES).await?;
        for (workload, before) in ["client", "web"].into_iter().zip(before) {
            let after = series(&mut world, workload).await?;
            ensure!(after == before, "{workload} has other series than before:\n{}\n{}", written(&before), written(&after));
        }
        Ok(())
    }
}
