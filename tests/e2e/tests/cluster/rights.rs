//! What the control plane asked of the API server in the whole run, against what its roles grant.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result, ensure};
use osm_e2e::ClusterWorld;
use serde_json::Value;

const ACCOUNT: &str = "osm-controller";
const NAMESPACE: &str = "osm-system";

/// Rights that this run gives no reason to use, each with the reason why they are granted.
const UNUSED_FOR_A_REASON: [(&str, &str); 3] = [
    ("cert-manager.io", "only with certificates of cert-manager"),
    ("meshrootcertificates", "only with roots of the user's own"),
    ("secrets", "the authority is made, read and followed at different times; rotations make more"),
];

/// A verb on a resource, as `verb group/resource`.
type Right = String;

/// Nothing was asked that is not granted; what is granted and was never asked is told.
pub(crate) async fn least(world: &ClusterWorld) -> Result<()> {
    let granted = granted(world).await?;
    let Asked { used, forbidden } = asked(world)?;
    ensure!(used.len() > 20, "the control plane asked for next to nothing: {used:?}");
    // An API server that has just started refuses what it has not read the roles for yet; that is asked again.
    let refused: Vec<_> = forbidden.difference(&granted).collect();
    ensure!(refused.is_empty(), "asked for and granted by no role: {refused:#?}");
    let beyond: Vec<_> = used.difference(&granted).collect();
    ensure!(beyond.is_empty(), "used, but by no role of its own: {beyond:#?}");
    ensure!(!granted.iter().any(|right| right.contains('*')), "a wildcard is granted: {granted:#?}");
    let unused = granted.difference(&used);
    let unused: Vec<_> =
        unused.filter(|right| !UNUSED_FOR_A_REASON.iter().any(|(part, _)| right.contains(part))).collect();
    println!("granted and not used in this run: {unused:?}");
    Ok(())
}

/// Everything that the roles grant which are bound to the control plane's account.
async fn granted(world: &ClusterWorld) -> Result<BTreeSet<Right>> {
    let bindings = world.json(&["get", "clusterrolebindings,rolebindings", "-A"]).await?;
    let is_ours = |subject: &Value| subject["name"] == ACCOUNT && subject["namespace"] == NAMESPACE;
    let ours = items(&bindings).filter(|binding| binding["subjects"].as_array().into_iter().flatten().any(is_ours));
    let mut granted = BTreeSet::new();
    for binding in ours {
        let namespace = binding["metadata"]["namespace"].as_str().unwrap_or("default");
        let kind = binding["roleRef"]["kind"].as_str().context("a binding is to a role")?;
        let name = binding["roleRef"]["name"].as_str().context("a binding is to a role")?;
        let role = world.json(&["get", kind, name, "-n", namespace]).await?;
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    granted.extend(texts(&rule["verbs"]).map(|verb| right(verb, group, resource)));
                }
            }
        }
    }
    Ok(granted)
}

#[derive(Debug, Default)]
struct Asked {
    used: BTreeSet<Right>,
    forbidden: BTreeSet<Right>,
}

fn asked(world: &ClusterWorld) -> Result<Asked> {
    let account = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let mut asked = Asked::default();
    for line in BufReader::new(File::open(world.cluster().audit_log())?).lines() {
        let line = line?;
        if !line.contains(&account) {
            continue;
        }
        let event: Value = serde_json::from_str(&line).context("a line of the audit log")?;
        let object = &event["objectRef"];
        // Discovery and health are no resources.
        let (Some(resource), true) = (object["resource"].as_str(), event["user"]["username"] == account.as_str())
        else {
            continue;
        };
        let resource = match object["subresource"].as_str() {
            Some(subresource) => format!("{resource}/{subresource}"),
            None => resource.to_owned(),
        };
        let right = right(
            event["verb"].as_str().unwrap_or_default(),
            object["apiGroup"].as_str().unwrap_or_default(),
            &resource,
        );
        if event["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            asked.forbidden.insert(right);
        } else {
            asked.used.insert(right);
        }
    }
    Ok(asked)
}

fn right(verb: &str, group: &str, resource: &str) -> Right {
    format!("{verb} {group}/{resource}")
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn texts(list: &Value) -> impl Iterator<Item = &str> + Clone {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().into_iter()
}
