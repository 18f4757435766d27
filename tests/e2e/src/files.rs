//! Manifests as a user changes them, and the status files that answer.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// API groups whose objects get a status.
const GROUPS_WITH_STATUS: [&str; 2] = ["openservicemesh.io/", "smi-spec.io/"];

/// An object by kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Such as `TrafficTarget`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The object `name` of a kind in a namespace.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The name of its status file.
    fn status_file(&self) -> String {
        format!("{}.{}.{}.yaml", self.kind.to_ascii_lowercase(), self.namespace, self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A change of the folder: what to wait for, and since when.
#[derive(Debug, Clone)]
pub struct Applied {
    /// When the files were in place.
    pub at: Instant,
    /// Objects with a status that are new or different, and the generation that their status had before.
    changed: BTreeMap<ObjectKey, i64>,
    /// Objects with a status that are gone.
    removed: Vec<ObjectKey>,
}

/// The objects of a folder that get a status.
pub(crate) type Objects = BTreeMap<ObjectKey, Value>;

/// Reads the objects that get a status.
///
/// # Errors
/// A file cannot be read, or is no YAML.
pub(crate) fn objects(folder: &Path) -> Result<Objects> {
    let mut objects = Objects::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let documents = serde_saphyr::from_multiple::<Value>(&text);
        for document in documents.with_context(|| format!("in {}", path.display()))? {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let version = text(&document["apiVersion"]);
            if !GROUPS_WITH_STATUS.iter().any(|group| version.contains(group)) {
                continue;
            }
            let metadata = &document["metadata"];
            let key = ObjectKey {
                kind: text(&document["kind"]),
                namespace: text(&metadata["namespace"]),
                name: text(&metadata["name"]),
            };
            objects.insert(key, document);
        }
    }
    Ok(objects)
}

impl Applied {
    /// What differs between two states of the folder. `status` is the folder of status files as it was before the change.
    pub(crate) fn between(before: &Objects, after: &Objects, status: &BTreeMap<ObjectKey, i64>) -> Self {
        let changed = after.iter().filter(|(key, object)| before.get(*key) != Some(*object));
        Self {
            at: Instant::now(),
            changed: changed.map(|(key, _)| (key.clone(), status.get(key).copied().unwrap_or_default())).collect(),
            removed: before.keys().filter(|key| !after.contains_key(*key)).cloned().collect(),
        }
    }

    /// Whether the status files in `status` say that every connected proxy runs the change.
    ///
    /// # Errors
    /// Not yet; the message names an object and what its status says.
    pub fn is_programmed(&self, status: &Path) -> Result<()> {
        for (key, generation_before) in &self.changed {
            programmed(status, key, *generation_before)?;
        }
        for key in &self.removed {
            ensure!(!status.join(key.status_file()).exists(), "{key} is removed, but still has a status");
        }
        Ok(())
    }
}

/// The generation that each object's status is about.
pub(crate) fn observed_generations<'a>(
    status: &Path,
    objects: impl IntoIterator<Item = &'a ObjectKey>,
) -> BTreeMap<ObjectKey, i64> {
    let observed = |key: &ObjectKey| read_status(status, key).ok()?["observedGeneration"].as_i64();
    objects.into_iter().filter_map(|key| Some((key.clone(), observed(key)?))).collect()
}

/// The status of one object.
///
/// # Errors
/// There is none, or it cannot be read.
pub(crate) fn read_status(folder: &Path, key: &ObjectKey) -> Result<Value> {
    let text = fs::read_to_string(folder.join(key.status_file())).with_context(|| format!("{key} has no status"))?;
    let document: Value = serde_saphyr::from_str(&text).with_context(|| format!("the status of {key}"))?;
    Ok(document["status"].clone())
}

fn programmed(folder: &Path, key: &ObjectKey, generation_before: i64) -> Result<()> {
    let status = read_status(folder, key)?;
    let generation = status["observedGeneration"].as_i64().unwrap_or_default();
    ensure!(generation > generation_before, "the status of {key} is still about generation {generation}");
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let Some(condition) = conditions.iter().find(|condition| condition["type"] == "Programmed") else {
        bail!("the status of {key} has no condition Programmed");
    };
    ensure!(condition["status"] == "True", "{key}: {}: {}", condition["reason"], condition["message"]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_and_what_is_gone_is_waited_for() {
        let key = |name: &str| ObjectKey::new("TrafficSplit", "shop", name);
        let value = |weight: u32| serde_json::json!({ "spec": { "weight": weight } });
        let before = Objects::from([(key("same"), value(1)), (key("changes"), value(1)), (key("goes"), value(1))]);
        let after = Objects::from([(key("same"), value(1)), (key("changes"), value(2)), (key("comes"), value(1))]);
        let applied = Applied::between(&before, &after, &BTreeMap::from([(key("changes"), 7), (key("same"), 3)]));
        assert_eq!(applied.changed, BTreeMap::from([(key("changes"), 7), (key("comes"), 0)]));
        assert_eq!(applied.removed, [key("goes")]);
    }

    #[test]
    fn an_old_generation_is_not_taken_for_the_new_one() {
        let folder = std::env::temp_dir().join(format!("osm-e2e-status-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = ObjectKey::new("TrafficSplit", "shop", "split");
        let write = |generation: i64, status: &str| {
            let condition =
                serde_json::json!({ "type": "Programmed", "status": status, "reason": "R", "message": "M" });
            let document =
                serde_json::json!({ "status": { "observedGeneration": generation, "conditions": [condition] } });
            fs::write(folder.join("trafficsplit.shop.split.yaml"), document.to_string()).unwrap();
        };
        assert!(programmed(&folder, &key, 0).unwrap_err().to_string().contains("has no status"));
        write(2, "True");
        assert!(programmed(&folder, &key, 2).unwrap_err().to_string().contains("still about generation 2"));
        assert!(programmed(&folder, &key, 1).is_ok());
        write(3, "Unknown");
        assert!(programmed(&folder, &key, 2).unwrap_err().to_string().contains("TrafficSplit shop/split"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
