//! The ConfigMap with the roots of the mesh, in every namespace of the mesh: what a pod's sidecar verifies the control plane
//! by, before anything else. Kept by the writer among the replicas: put back when somebody changes or deletes it, and
//! taken away when its namespace leaves the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use osm_admission::{Membership, NamespaceSettings};
use osm_api::Object;
use osm_api::k8s_openapi::api::core::v1::ConfigMap;
use osm_bootstrap::names;
use osm_issuer::{CertificateStore, Change};
use osm_kubernetes::{Leadership, RequestError, Target, Writer};
use osm_source::SourceEvent;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How many writes are under way at the same time.
const CONCURRENT_WRITES: usize = 4;
/// How long to wait after a write that failed: the first time, and at the most.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The names of the namespaces of the mesh; `None` until every object was read once.
pub type Namespaces = Option<BTreeSet<String>>;

/// Follows which namespaces are in the mesh.
#[derive(Debug)]
pub struct MeshNamespaces {
    mesh_name: String,
    members: BTreeSet<String>,
    is_synced: bool,
    told: watch::Sender<Namespaces>,
}

impl MeshNamespaces {
    /// Knows of none yet.
    pub fn new(mesh_name: String) -> (Self, watch::Receiver<Namespaces>) {
        let (told, follows) = watch::channel(None);
        (Self { mesh_name, members: BTreeSet::new(), is_synced: false, told }, follows)
    }

    /// Takes an event of the source in.
    pub fn observe(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                for (name, object) in changes {
                    if name.kind != osm_api::Kind::Namespace {
                        continue;
                    }
                    let is_member = object.as_ref().is_some_and(|object| self.is_member(object));
                    match is_member {
                        true => self.members.insert(name.name.to_string()),
                        false => self.members.remove(&*name.name),
                    };
                }
            }
            SourceEvent::Synced => self.is_synced = true,
            SourceEvent::Problems(_) => {}
        }
        if self.is_synced {
            self.told.send_if_modified(|told| {
                let differs = told.as_ref() != Some(&self.members);
                if differs {
                    *told = Some(self.members.clone());
                }
                differs
            });
        }
    }

    /// A namespace that is being deleted takes no new object, and loses those it has by itself.
    fn is_member(&self, object: &Object) -> bool {
        let metadata = object.metadata();
        let settings = NamespaceSettings::read(metadata, &self.mesh_name);
        settings.membership == Membership::Member && metadata.deletion_timestamp.is_none()
    }
}

/// What is in a ConfigMap of our name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Present {
    data: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

/// What is known of the ConfigMap of a namespace: the newest that was seen or written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// `metadata.resourceVersion`, which grows with every change.
    version: u64,
    /// `None` when it was deleted at that version or after.
    present: Option<Present>,
}

/// The ConfigMaps of our name, by namespace.
#[derive(Debug, Default)]
struct Everywhere(BTreeMap<String, Known>);

impl Everywhere {
    /// Takes news in; of something older than what is known, as an echo of an earlier write is, nothing.
    fn learn(&mut self, namespace: String, news: Known) {
        let is_news = self.0.get(&namespace).is_none_or(|known| known.version < news.version);
        if is_news {
            self.0.insert(namespace, news);
        }
    }

    /// We have deleted it: until something newer is heard of it, it is not there.
    fn deleted(&mut self, namespace: &str) {
        if let Some(known) = self.0.get_mut(namespace) {
            known.present = None;
        }
    }

    fn present(&self) -> impl Iterator<Item = (&String, &Present)> {
        self.0.iter().filter_map(|(namespace, known)| Some((namespace, known.present.as_ref()?)))
    }

    fn get(&self, namespace: &str) -> Option<&Present> {
        self.0.get(namespace)?.present.as_ref()
    }
}

fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl Present {
    fn of(object: ConfigMap) -> Self {
        Self { data: object.data.unwrap_or_default(), labels: object.metadata.labels.unwrap_or_default() }
    }

    fn has_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

/// What shall be in every namespace of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bundle {
    /// The roots, PEM.
    pem: String,
    /// Labels by which our ConfigMaps are known, those of this mesh alone.
    labels: BTreeMap<String, String>,
}

impl Bundle {
    /// The ConfigMap of a namespace.
    fn manifest(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": names::TRUST_BUNDLE_CONFIG_MAP, "namespace": namespace, "labels": self.labels },
            "data": { names::TRUST_BUNDLE_KEY: self.pem },
        })
    }

    fn is_in(&self, present: &Present) -> bool {
        let data = [(names::TRUST_BUNDLE_KEY.to_owned(), self.pem.clone())].into();
        present.data == data && present.has_labels(&self.labels)
    }
}

/// A write that is due, of the ConfigMap of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Apply(String),
    Delete(String),
}

/// What has to be written so that exactly `namespaces` have `bundle`. ConfigMaps of others are never deleted.
fn due(bundle: &Bundle, namespaces: &BTreeSet<String>, everywhere: &Everywhere) -> Vec<Due> {
    let is_good = |namespace: &&String| everywhere.get(namespace).is_some_and(|present| bundle.is_in(present));
    let apply = namespaces.iter().filter(|namespace| !is_good(namespace)).cloned().map(Due::Apply);
    let is_left = |(namespace, present): &(&String, &Present)| {
        !namespaces.contains(*namespace) && present.has_labels(&bundle.labels)
    };
    let delete = everywhere.present().filter(is_left).map(|(namespace, _)| Due::Delete(namespace.clone()));
    apply.chain(delete).collect()
}

/// Keeps the ConfigMaps, whenever this replica is the writer.
#[derive(Debug)]
pub struct TrustBundles {
    /// Writes.
    pub writer: Writer,
    /// Labels of what belongs to this mesh; at least one.
    pub labels: BTreeMap<String, String>,
    /// Where the roots come from.
    pub store: Arc<CertificateStore>,
    /// Which namespaces.
    pub namespaces: watch::Receiver<Namespaces>,
}

impl TrustBundles {
    /// Runs for ever.
    pub async fn run(mut self, client: Client, mut leadership: watch::Receiver<Leadership>) -> Infallible {
        loop {
            // An error means that nobody leads any more, and then nothing more is to be written.
            if leadership.wait_for(|leadership| *leadership == Leadership::Leader).await.is_err() {
                return std::future::pending().await;
            }
            let mut lost = leadership.clone();
            tokio::select! {
                _ = lost.wait_for(|leadership| *leadership != Leadership::Leader) => {}
                never = self.keep(&client) => match never {},
            }
        }
    }

    async fn keep(&mut self, client: &Client) -> Infallible {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", names::TRUST_BUNDLE_CONFIG_MAP));
        let events = watcher(Api::<ConfigMap>::all(client.clone()), config).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut changes = self.store.subscribe();
        let (mut everywhere, mut listing) = (Everywhere::default(), Everywhere::default());
        let mut is_listed = false;
        let mut retry_after = RETRY_AFTER.0;
        loop {
            let mut retry = None;
            if is_listed && !self.write(&mut everywhere).await {
                retry = Some(retry_after);
                retry_after = (retry_after * 2).min(RETRY_AFTER.1);
            } else {
                retry_after = RETRY_AFTER.0;
            }
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(watcher::Event::Init)) => listing = Everywhere::default(),
                    Ok(Some(watcher::Event::InitApply(object))) => enter(&mut listing, object, Presence::There),
                    Ok(Some(watcher::Event::InitDone)) => {
                        everywhere = std::mem::take(&mut listing);
                        is_listed = true;
                    }
                    Ok(Some(watcher::Event::Apply(object))) => enter(&mut everywhere, object, Presence::There),
                    Ok(Some(watcher::Event::Delete(object))) => enter(&mut everywhere, object, Presence::Gone),
                    Ok(None) => return std::future::pending().await,
                    Err(error) => tracing::warn!(%error, "cannot watch the ConfigMaps of trust bundles; trying again"),
                },
                change = changes.next() => {
                    if change != Change::TrustBundle {
                        continue;
                    }
                }
                changed = self.namespaces.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
                () = wait(retry) => {}
            }
        }
    }

    /// Writes what is due, and says whether nothing is any more.
    async fn write(&mut self, everywhere: &mut Everywhere) -> bool {
        let Some(namespaces) = self.namespaces.borrow_and_update().clone() else { return true };
        let pem = match self.store.trust_bundle().await {
            Ok(bundle) => bundle.pem(),
            Err(error) => {
                tracing::warn!(%error, reason = error.reason(), "trust bundles are not written, the roots are not known");
                return false;
            }
        };
        let bundle = Bundle { pem, labels: self.labels.clone() };
        let writes = futures::stream::iter(due(&bundle, &namespaces, everywhere)).map(|due| {
            let (writer, bundle) = (self.writer.clone(), &bundle);
            async move { (due.clone(), carry_out(&writer, bundle, &due).await) }
        });
        let mut is_done = true;
        let mut writes = std::pin::pin!(writes.buffer_unordered(CONCURRENT_WRITES));
        while let Some((due, outcome)) = writes.next().await {
            match (outcome, due) {
                // The watch will say the same, later.
                (Ok(Some(version)), Due::Apply(namespace)) => {
                    let data = [(names::TRUST_BUNDLE_KEY.to_owned(), bundle.pem.clone())].into();
                    let present = Some(Present { data, labels: bundle.labels.clone() });
                    everywhere.learn(namespace, Known { version, present });
                }
                (Ok(_), Due::Apply(namespace) | Due::Delete(namespace)) => everywhere.deleted(&namespace),
                (Err(error), Due::Apply(namespace) | Due::Delete(namespace)) => {
                    is_done = false;
                    let name = names::TRUST_BUNDLE_CONFIG_MAP;
                    tracing::warn!(%error, %namespace, "cannot write the ConfigMap {name}; trying again");
                }
            }
        }
        is_done
    }
}

/// Gives the version of what was applied.
async fn carry_out(writer: &Writer, bundle: &Bundle, due: &Due) -> Result<Option<u64>, RequestError> {
    match due {
        Due::Apply(namespace) => {
            let stored = writer.apply(&bundle.manifest(namespace)).await?;
            Ok(Some(version(Some(&stored.resource_version))))
        }
        Due::Delete(namespace) => {
            writer.delete(&Target::config_map(namespace.as_str(), names::TRUST_BUNDLE_CONFIG_MAP)).await?;
            Ok(None)
        }
    }
}

/// What an event says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Gone,
}

fn enter(everywhere: &mut Everywhere, object: ConfigMap, presence: Presence) {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let version = version(object.metadata.resource_version.as_deref());
    let present = match presence {
        Presence::There => Some(Present::of(object)),
        Presence::Gone => None,
    };
    everywhere.learn(namespace, Known { version, present });
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use osm_api::{Kind, ObjectRef};

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
        assert_eq!(all_due(&["a", "b"], &[("a", good())]), [Due::Apply("b".into())]);
        let changed = [
            Present { data: texts(&[("ca.crt", "others")]), ..good() },
            Present { data: texts(&[("ca.crt", "roots"), ("more", "")]), ..good() },
            Present { labels: BTreeMap::new(), ..good() },
        ];
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

    fn namespace(name: &str, metadata: Value) -> (ObjectRef, Option<Object>) {
        let mut metadata = metadata;
        metadata["name"] = name.into();
        let object = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        (ObjectRef::new(Kind::Namespace, "", name), Some(Object::Namespace(Arc::new(object))))
    }

    #[test]
    fn namespaces_are_told_once_all_are_read_and_then_as_they_change() {
        let (mut namespaces, mut told) = MeshNamespaces::new("osm".into());
        let member = json!({ "labels": { "openservicemesh.io/monitored-by": "osm" } });
        let changes = vec![
            namespace("a", member.clone()),
            namespace("b", json!({ "labels": { "openservicemesh.io/monitored-by": "another" } })),
            namespace(
                "c",
                json!({
                    "labels": { "openservicemesh.io/monitored-by": "osm" }, "deletionTimestamp": "2026-01-01T00:00:00Z",
                }),
            ),
        ];
        namespaces.observe(&SourceEvent::Changes(changes));
        assert!(!told.has_changed().unwrap() && told.borrow().is_none());
        namespaces.observe(&SourceEvent::Synced);
        assert_eq!(*told.borrow_and_update(), Some(set(&["a"])));
        namespaces.observe(&SourceEvent::Changes(vec![namespace("a", member.clone())]));
        assert!(!told.has_changed().unwrap());
        namespaces.observe(&SourceEvent::Changes(vec![namespace("b", member), namespace("a", json!({}))]));
        assert_eq!(*told.borrow_and_update(), Some(set(&["b"])));
        namespaces.observe(&SourceEvent::Changes(vec![(ObjectRef::new(Kind::Namespace, "", "b"), None)]));
        assert_eq!(*told.borrow_and_update(), Some(set(&[])));
    }
}
