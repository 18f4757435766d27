//! What the control plane and the sidecars say when a stage was not observed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::record::StageRecord;
use crate::files::Applied;
use crate::world::World;

const LOG_LINES: usize = 6;
/// Longer lines, such as those of an access log, are cut.
const WIDTH: usize = 400;

/// A report for people. What cannot be asked any more is said so in its place.
pub(super) async fn evidence(world: &mut World, stage: &StageRecord, applied: Option<&Applied>) -> String {
    let mut text = format!("\nevidence for stage {:?}:\n", stage.name);
    if let Some(Err(error)) = applied.map(|applied| applied.is_programmed(&world.status_folder())) {
        add(&mut text, "status", &format!("{error:#}"));
    }
    if let Ok(operator) = world.operator() {
        for page in ["problems", "findings"] {
            let answer = operator.debug(page).await;
            add(&mut text, page, &answer.map_or_else(|error| format!("{error:#}"), |value| value.to_string()));
        }
        add(&mut text, "control plane's log", &operator.log_tail(LOG_LINES));
    }
    let wrong = stage.flows.iter().filter(|flow| !flow.ok);
    // The service bookstore is two pods.
    let pods_of = |name: &String| [name.clone(), format!("{name}-v1"), format!("{name}-v2")];
    let pods: BTreeSet<String> = wrong.flat_map(|flow| [&flow.from, &flow.to]).flat_map(pods_of).collect();
    for pod in pods {
        let Ok(envoy) = world.envoy(&pod) else { continue };
        let dump = match envoy.config_dump().await {
            Ok(dump) => excerpt(&dump),
            Err(error) => format!("{error:#}"),
        };
        add(&mut text, &format!("what the sidecar of {pod} has"), &dump);
        add(&mut text, &format!("log of the sidecar of {pod}"), &envoy.process().log_tail(LOG_LINES));
    }
    text
}

fn add(text: &mut String, title: &str, content: &str) {
    writeln!(text, "  {title}:").expect("writing to a String");
    for line in content.lines() {
        let cut: String = line.chars().take(WIDTH).collect();
        let more = if cut.len() < line.len() { " …" } else { "" };
        writeln!(text, "    {cut}{more}").expect("writing to a String");
    }
}

/// Names of the resources of a configuration dump, one line per kind, and everything that was refused in full.
fn excerpt(dump: &Value) -> String {
    let mut lines = String::new();
    for section in dump["configs"].as_array().into_iter().flatten() {
        let kind = section["@type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default();
        let mut names = BTreeSet::new();
        collect(section, &mut names, &mut lines);
        if !names.is_empty() {
            let names: Vec<&str> = names.into_iter().collect();
            writeln!(lines, "{kind}: {}", names.join(", ")).expect("writing to a String");
        }
    }
    lines
}

/// Resources are the members of the section's dynamic lists; their names are theirs or one level down.
fn collect<'a>(section: &'a Value, names: &mut BTreeSet<&'a str>, lines: &mut String) {
    let lists = section.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("dynamic_"));
    for resource in lists.flat_map(|(_, list)| list.as_array().into_iter().flatten()) {
        let inner = ["cluster", "route_config", "endpoint_config"];
        let below = inner.iter().find_map(|key| {
            let object = &resource[*key];
            object["name"].as_str().or_else(|| object["cluster_name"].as_str())
        });
        names.extend(resource["name"].as_str().or(below));
        if !resource["error_state"].is_null() {
            writeln!(lines, "refused: {}", resource["error_state"]["details"]).expect("writing to a String");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_refusals_are_in_the_excerpt() {
        let dump = json!({ "configs": [
            { "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
              "dynamic_active_clusters": [{ "cluster": { "name": "shop/web|80" } }] },
            { "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
              "dynamic_listeners": [{ "name": "inbound", "error_state": { "details": "bad port" } }] },
        ] });
        let text = excerpt(&dump);
        assert!(text.contains("ClustersConfigDump: shop/web|80"), "{text}");
        assert!(text.contains("refused: \"bad port\"") && text.contains("ListenersConfigDump: inbound"), "{text}");
    }
}
