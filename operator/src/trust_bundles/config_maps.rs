//! What is in the ConfigMaps, and what has to be written.

use std::collections::{BTreeMap, BTreeSet};

use osm_api::k8s_openapi::api::core::v1::ConfigMap;
use osm_bootstrap::names;
use serde_json::{Value, json};

/// What is in a ConfigMap of our name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) data: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// What is known of the ConfigMap of a namespace: the newest that was seen or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// `metadata.resourceVersion`, which grows with every change.
    pub(super) version: u64,
    /// `None` when it was deleted at that version or after.
    pub(super) present: Option<Present>,
}

/// The ConfigMaps of our name, by namespace.
#[derive(Debug, Default)]
pub(super) struct Everywhere(BTreeMap<String, Known>);

impl Everywhere {
    /// Takes news in; of something older than what is known, as an echo of an earlier write is, nothing.
    pub(super) fn learn(&mut self, namespace: String, news: Known) {
        let is_news = self.0.get(&namespace).is_none_or(|known| known.version < news.version);
        if is_news {
            self.0.insert(namespace, news);
        }
    }

    /// We have deleted it: until something newer is heard of it, it is not there.
    pub(super) fn deleted(&mut self, namespace: &str) {
        if let Some(known) = self.0.get_mut(namespace) {
            known.present = None;
        }
    }

    /// The roots that the ConfigMap of a namespace holds, PEM; `None` if there is no ConfigMap.
    pub(super) fn roots(&self, namespace: &str) -> Option<&str> {
        let present = self.get(namespace)?;
        Some(present.data.get(names::TRUST_BUNDLE_KEY).map_or("", String::as_str))
    }

    fn present(&self) -> impl Iterator<Item = (&String, &Present)> {
        self.0.iter().filter_map(|(namespace, known)| Some((namespace, known.present.as_ref()?)))
    }

    /// The ConfigMap of a namespace.
    pub(super) fn get(&self, namespace: &str) -> Option<&Present> {
        self.0.get(namespace)?.present.as_ref()
    }
}

/// The version that a text is, which orders what is heard of one object.
pub(super) fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl Present {
    pub(super) fn of(object: ConfigMap) -> Self {
        Self { data: object.data.unwrap_or_default(), labels: object.metadata.labels.unwrap_or_default() }
    }

    fn has_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

/// What shall be in every namespace of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    /// The roots, PEM.
    pub(super) pem: String,
    /// Labels by which our ConfigMaps are known, those of this mesh alone.
    pub(super) labels: BTreeMap<String, String>,
}

impl Bundle {
    /// The ConfigMap of a namespace.
    pub(super) fn manifest(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": names::TRUST_BUNDLE_CONFIG_MAP, "namespace": namespace, "labels": self.labels },
            "data": { names::TRUST_BUNDLE_KEY: self.pem },
        })
    }

    /// What others add to it is theirs.
    pub(super) fn is_in(&self, present: &Present) -> bool {
        present.data.get(names::TRUST_BUNDLE_KEY) == Some(&self.pem) && present.has_labels(&self.labels)
    }
}

/// A write that is due, of the ConfigMap of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Apply(String),
    Delete(String),
}

/// What has to be written so that exactly `namespaces` have `bundle`. ConfigMaps of others are never deleted.
pub(super) fn due(bundle: &Bundle, namespaces: &BTreeSet<String>, everywhere: &Everywhere) -> Vec<Due> {
    let is_good = |namespace: &&String| everywhere.get(namespace).is_some_and(|present| bundle.is_in(present));
    let apply = namespaces.iter().filter(|namespace| !is_good(namespace)).cloned().map(Due::Apply);
    let is_left = |(namespace, present): &(&String, &Present)| {
        !namespaces.contains(*namespace) && present.has_labels(&bundle.labels)
    };
    let delete = everywhere.present().filter(is_left).map(|(namespace, _)| Due::Delete(namespace.clone()));
    apply.chain(delete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn bundle() -> Bundle {
        Bundle { pem: "roots".into(), labels: texts(&[("app.kubernetes.io/instance", "osm")]) }
    }

    fn good() -> Present {
        Present {
            data: texts(&[("ca.crt", "roots")]),
            labels: texts(&[("app.kubernetes.io/instance", "osm"), ("another", "label")]),
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn all_due(namespaces: &[&str], present: &[(&str, Present)]) -> Vec<Due> {
        let known = |present: &Present| Known { version: 1, present: Some(present.clone()) };
        let everywhere = present.iter().map(|(name, present)| ((*name).to_owned(), known(present))).collect();
        due(&bundle(), &set(namespaces), &Everywhere(everywhere))
    }

    #[test]
    fn only_what_differs_is_written() {
        assert_eq!(all_due(&["a"], &[("a", good())]), []);
        let more = Present { data: texts(&[("ca.crt", "roots"), ("more", "")]), ..good() };
        assert_eq!(all_due(&["a"], &[("a", more)]), [], "what others add is theirs");
        assert_eq!(all_due(&["a", "b"], &[("a", good())]), [Due::Apply("b".into())]);
        let changed =
            [Present { data: texts(&[("ca.crt", "others")]), ..good() }, Present { labels: BTreeMap::new(), ..good() }];
        for present in changed {
            assert_eq!(all_due(&["a"], &[("a", present)]), [Due::Apply("a".into())]);
        }
    }

    #[test]
    fn a_namespace_that_left_loses_ours_and_keeps_what_is_not_ours() {
        let anothers = Present { labels: texts(&[("app.kubernetes.io/instance", "another-mesh")]), ..good() };
        let present = [("a", good()), ("b", good()), ("c", anothers)];
        assert_eq!(all_due(&["a"], &present), [Due::Delete("b".into())]);
    }

    #[test]
    fn late_news_of_earlier_writes_change_nothing() {
        let mut everywhere = Everywhere::default();
        let known = |version, present| Known { version, present };
        everywhere.learn("a".into(), known(5, Some(good())));
        everywhere.learn("a".into(), known(4, Some(Present::default())));
        everywhere.learn("a".into(), known(4, None));
        assert_eq!(due(&bundle(), &set(&["a"]), &everywhere), []);
        // Deleted by us: an echo of what we wrote before does not bring it back, a newer one does.
        everywhere.deleted("a");
        everywhere.learn("a".into(), known(5, Some(good())));
        assert_eq!(due(&bundle(), &set(&[]), &everywhere), []);
        assert_eq!(due(&bundle(), &set(&["a"]), &everywhere), [Due::Apply("a".into())]);
        everywhere.learn("a".into(), known(7, Some(good())));
        assert_eq!(due(&bundle(), &set(&[]), &everywhere), [Due::Delete("a".into())]);
        everywhere.learn("a".into(), known(8, None));
        assert_eq!(due(&bundle(), &set(&["a"]), &everywhere), [Due::Apply("a".into())]);
    }

    #[test]
    fn the_config_map_is_what_pods_mount() {
        let manifest = bundle().manifest("shop");
        assert_eq!(manifest["metadata"]["name"], names::TRUST_BUNDLE_CONFIG_MAP);
        assert_eq!(manifest["data"][names::TRUST_BUNDLE_KEY], "roots");
        let object: ConfigMap = serde_json::from_value(manifest).unwrap();
        assert!(bundle().is_in(&Present::of(object)));
    }
}
