//! The page for users lists the metrics that there are.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::webhooks::{Outcome, Webhook};

const PAGE: &str = include_str!("../../../docs/metrics.md");

/// Name as it is written out, type, labels.
type Listed = (String, String, BTreeSet<String>);

/// One value of every family, so that it is written out.
fn filled() -> Metrics {
    let metrics = Metrics::default();
    let type_url = osm_xds::TypeUrl::Cluster;
    metrics.responses.get_or_create(&label(&type_url)).inc();
    metrics.sent_resources.get_or_create(&label(&type_url)).inc();
    metrics.acknowledgements.get_or_create(&label(&type_url)).inc();
    metrics.rejections.get_or_create(&label(&type_url)).inc();
    metrics.reconciled(Kind::MeshConfig, Duration::ZERO);
    metrics.reconcile_failed(Kind::MeshConfig);
    metrics.api_write(Kind::MeshConfig);
    metrics.webhooks().answered(Webhook::Mutating, "Pod", Outcome::Injected, Duration::ZERO);
    metrics
}

/// What the registry writes out.
fn exported(text: &str) -> BTreeSet<Listed> {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, kind);
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once(['{', ' ']).unwrap();
            let family = types.keys().filter(|family| name.starts_with(**family)).max_by_key(|family| family.len());
            let family = family.unwrap_or_else(|| panic!("{line}"));
            let pairs = if line.contains('{') { rest.split('}').next().unwrap_or_default() } else { "" };
            let names = pairs.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            labels.entry(family).or_default().extend(names.filter(|name| name != "le"));
        }
    }
    let suffix = |kind: &str| if kind == "counter" { "_total" } else { "" };
    let listed = types.iter().map(|(name, kind)| {
        let labels = labels.get(name).cloned().unwrap_or_default();
        (format!("{name}{}", suffix(kind)), (*kind).to_owned(), labels)
    });
    listed.collect()
}

/// What the page says.
fn listed(page: &str) -> BTreeSet<Listed> {
    let rows = page.lines().filter(|line| line.starts_with("| `osm_"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let metrics = cells.filter(|cells| ["counter", "gauge", "histogram"].contains(&cells[1]));
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    metrics.map(|cells| (cells[0].trim_matches('`').to_owned(), cells[1].to_owned(), quoted(cells[2]))).collect()
}

#[test]
fn the_page_for_users_lists_every_metric_with_its_type_and_labels() {
    let text = filled().text();
    let (exported, listed) = (exported(&text), listed(PAGE));
    assert!(exported.len() > 20, "{text}");
    let (missing, unknown): (Vec<_>, Vec<_>) =
        (exported.difference(&listed).collect(), listed.difference(&exported).collect());
    assert!(missing.is_empty() && unknown.is_empty(), "not on the page: {missing:#?}\nonly there: {unknown:#?}");
}

#[test]
fn what_an_alert_asks_for_is_exported() {
    let text = filled().text();
    let names = PAGE.split(|symbol: char| !(symbol.is_ascii_alphanumeric() || symbol == '_'));
    for name in names.filter(|name| name.starts_with("osm_")) {
        assert!(text.contains(name), "{name}");
    }
}
