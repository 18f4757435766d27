//! The first MeshConfig: made once by the holder of the Lease from what the chart was given, and never changed by us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use osm_api::{Kind, ObjectRef};
use osm_engine::MESH_CONFIG_NAME;
use osm_kubernetes::{Created, Leadership, RequestError, StoredObjects, Target, Writer};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::labels;

/// Key of the ConfigMap that holds the first settings as JSON (OSM's).
const PRESET_KEY: &str = "preset-mesh-config.json";
/// How long to wait after a failure, and for the first list.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where the first settings come from and go to.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// Name of the ConfigMap.
    pub(crate) preset: String,
    /// Label of what is made.
    pub(crate) mesh_name: String,
    /// Whether there has been a MeshConfig since this process started: then its being gone is somebody's doing.
    pub(crate) seen: Arc<AtomicBool>,
}

impl Seed {
    /// Makes the MeshConfig if there is none, once this replica holds the Lease.
    pub(crate) async fn sow(self, writer: Writer, mut leadership: watch::Receiver<Leadership>) {
        loop {
            if leadership.wait_for(|held| *held == Leadership::Leader).await.is_err() {
                return;
            }
            match self.try_once(&writer).await {
                Ok(Some(())) => return,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "cannot make the first MeshConfig; trying again"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn try_once(&self, writer: &Writer) -> Result<Option<()>, RequestError> {
        match self.is_wanted(writer.stored()) {
            Some(true) => {}
            Some(false) => return Ok(Some(())),
            None => return Ok(None),
        }
        let Some(preset) = writer.get(&Target::config_map(&self.namespace, &self.preset)).await? else {
            tracing::warn!(
                config_map = self.preset,
                "there is neither a MeshConfig {MESH_CONFIG_NAME} nor a ConfigMap to make it from; create the MeshConfig"
            );
            return Ok(Some(()));
        };
        let manifest = match self.manifest(&preset) {
            Ok(manifest) => manifest,
            Err(words) => {
                tracing::error!(config_map = self.preset, "{words}");
                return Ok(Some(()));
            }
        };
        if writer.create_if_absent(&manifest).await? == Created::Created {
            tracing::info!("made the MeshConfig {MESH_CONFIG_NAME}; change it there from now on");
        }
        Ok(Some(()))
    }

    /// `None` while that is not known.
    fn is_wanted(&self, stored: &StoredObjects) -> Option<bool> {
        let name = ObjectRef::new(Kind::MeshConfig, &*self.namespace, MESH_CONFIG_NAME);
        if !stored.is_listed(Kind::MeshConfig) {
            return None;
        }
        Some(stored.get(&name).is_none() && !self.seen.load(Ordering::Relaxed))
    }

    fn manifest(&self, preset: &Value) -> Result<Value, String> {
        let text = preset["data"][PRESET_KEY].as_str();
        let text = text.ok_or_else(|| format!("the ConfigMap has no key {PRESET_KEY:?}"))?;
        let spec: Value =
            serde_json::from_str(text).map_err(|error| format!("its key {PRESET_KEY:?} is no JSON: {error}"))?;
        Ok(json!({
            "apiVersion": Kind::MeshConfig.api_version(),
            "kind": Kind::MeshConfig.as_str(),
            "metadata": {
                "namespace": self.namespace,
                "name": MESH_CONFIG_NAME,
                "labels": labels::of_mesh(&self.mesh_name),
            },
            "spec": spec,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_becomes_the_spec() {
        let seed = Seed {
            namespace: "osm-system".to_owned(),
            preset: "preset-mesh-config".to_owned(),
            mesh_name: "osm".to_owned(),
            seen: Arc::default(),
        };
        let preset = json!({ "data": { PRESET_KEY: "{\"traffic\": {\"enableEgress\": true}}" } });
        let manifest = seed.manifest(&preset).unwrap();
        assert_eq!(manifest["spec"]["traffic"]["enableEgress"], true);
        assert_eq!(manifest["metadata"]["name"], MESH_CONFIG_NAME);
        assert!(seed.manifest(&json!({ "data": {} })).unwrap_err().contains(PRESET_KEY));
        assert!(seed.manifest(&json!({ "data": { PRESET_KEY: "no" } })).unwrap_err().contains("JSON"));
        assert_eq!(seed.is_wanted(&StoredObjects::default()), None, "not before MeshConfigs are listed");
    }
}
