//! The record of a control plane in a cluster: a ConfigMap in its namespace. The replica that writes replaces it before a step is
//! in force anywhere; the others follow it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use anyhow::Context;
use futures::StreamExt;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use osm_api::k8s_openapi::api::core::v1::ConfigMap;
use osm_kubernetes::{RequestError, Target, Writer};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{RecordDocument, Stored};

/// Name of the ConfigMap.
const CONFIG_MAP: &str = "osm-rotation";
/// Key in it.
const KEY: &str = "record.json";

/// See the module.
#[derive(Debug)]
pub(crate) struct RecordConfigMap {
    writer: Writer,
    namespace: String,
    labels: BTreeMap<String, String>,
    /// The version that the next write takes the place of; `None` if there is no ConfigMap, as far as is known.
    version: Option<String>,
}

impl RecordConfigMap {
    /// The record of the control plane in `namespace`. `labels` are those of what belongs to the mesh.
    pub(crate) fn new(writer: Writer, namespace: String, labels: BTreeMap<String, String>) -> Self {
        Self { writer, namespace, labels, version: None }
    }

    pub(super) async fn read(&mut self) -> anyhow::Result<Stored> {
        let found = self.writer.get(&Target::config_map(self.namespace.as_str(), CONFIG_MAP)).await;
        let found = found.with_context(|| format!("read ConfigMap {}/{CONFIG_MAP}", self.namespace))?;
        self.version =
            found.as_ref().and_then(|found| found["metadata"]["resourceVersion"].as_str().map(str::to_owned));
        let text = found.as_ref().and_then(|found| found["data"][KEY].as_str());
        // What somebody emptied is like what somebody deleted.
        Ok(text.map_or(Stored::Nothing, |text| self.understand(text)))
    }

    fn understand(&self, text: &str) -> Stored {
        let read = serde_json::from_str(text).with_context(|| {
            let place = format!("key {KEY:?} of ConfigMap {}/{CONFIG_MAP}", self.namespace);
            format!("read {place}; restore it, or delete the ConfigMap if no proxy is connected")
        });
        read.map_or_else(Stored::Unreadable, Stored::Document)
    }

    pub(super) async fn write(&mut self, document: &RecordDocument) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(document)?;
        let written = self.writer.apply(&self.manifest(&text)).await;
        if let Err(RequestError::NotFound(_)) = &written {
            // It was deleted: the next attempt makes it.
            self.version = None;
        }
        let stored = written.with_context(|| format!("write ConfigMap {}/{CONFIG_MAP}", self.namespace))?;
        self.version = Some(stored.resource_version);
        Ok(())
    }

    fn manifest(&self, text: &str) -> Value {
        let mut metadata = json!({ "namespace": self.namespace, "name": CONFIG_MAP, "labels": self.labels });
        if let Some(version) = &self.version {
            metadata["resourceVersion"] = json!(version);
        }
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { KEY: text } })
    }

    /// Follows what is written there for ever: `seen` is told whenever that is something else.
    pub(in crate::roots) fn follow(&self, seen: watch::Sender<Seen>) -> impl Future<Output = Infallible> + use<> {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.writer.client(), &self.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        async move {
            let mut events = std::pin::pin!(watcher(config_maps, config).default_backoff());
            let mut listed = Seen::Absent;
            loop {
                match events.next().await {
                    Some(Ok(watcher::Event::Init)) => listed = Seen::Absent,
                    Some(Ok(watcher::Event::InitApply(found))) => listed = Seen::of(found),
                    Some(Ok(watcher::Event::InitDone)) => tell(&seen, std::mem::replace(&mut listed, Seen::Absent)),
                    Some(Ok(watcher::Event::Apply(found))) => tell(&seen, Seen::of(found)),
                    Some(Ok(watcher::Event::Delete(_))) => tell(&seen, Seen::Absent),
                    Some(Err(error)) => tracing::warn!(%error, "cannot watch ConfigMap {CONFIG_MAP}; trying again"),
                    None => return std::future::pending().await,
                }
            }
        }
    }
}

/// What the API server said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::roots) enum Seen {
    /// Nothing yet.
    #[default]
    Unread,
    /// There is no record.
    Absent,
    /// The text of one.
    There(String),
}

impl Seen {
    fn of(found: ConfigMap) -> Self {
        found.data.and_then(|mut data| data.remove(KEY)).map_or(Self::Absent, Self::There)
    }

    /// The document, if there is one that can be understood.
    pub(in crate::roots) fn document(&self) -> Option<RecordDocument> {
        match self {
            Self::There(text) => serde_json::from_str(text).ok(),
            Self::Unread | Self::Absent => None,
        }
    }
}

fn tell(seen: &watch::Sender<Seen>, now: Seen) {
    seen.send_if_modified(|before| {
        let differs = *before != now;
        *before = now;
        differs
    });
}
