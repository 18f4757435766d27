//! The demo's story in a cluster.

use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use osm_cluster::Lifetime;
use osm_testkit::apps::{Report, TryRequest};
use serde_json::{Value, json};

use super::{ClusterWorld, LIMIT, Programs, manifests};
use crate::demo::{OUTSIDER, Scene, StageRecord, story};
use crate::files::ObjectKey;

/// A change of the cluster's objects.
#[derive(Debug)]
pub struct ClusterApplied {
    at: Instant,
    objects: Vec<ObjectKey>,
}

impl ClusterWorld {
    /// A cluster with the applications of the story's first stage, the outsider, and no mesh.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn without_mesh(name: &str, samples: &Path, programs: &Programs, lifetime: Lifetime) -> Result<Self> {
        let world = Self::empty(name, programs, lifetime).await?;
        let stages = story();
        let base = stages.first().context("a story has a beginning")?;
        world.apply_for_cluster(&samples.join(base.folder)).await?;
        let outside = [
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OUTSIDER } }),
            world.deployment(OUTSIDER, OUTSIDER, "default", &["client", "--name", OUTSIDER]),
        ];
        world.apply_objects(&outside).await?;
        world.applications_are_ready().await?;
        Ok(world)
    }

    /// Waits until every application runs and answers on its control socket.
    ///
    /// # Errors
    /// Not in time.
    pub async fn applications_are_ready(&self) -> Result<()> {
        let deployments = self.deployments().await?;
        try_join_all(deployments.iter().map(async |(namespace, name)| {
            self.rolled_out(namespace, &format!("deployment/{name}")).await?;
            self.control(name).ready(LIMIT).await.map(drop)
        }))
        .await?;
        Ok(())
    }

    /// Starts every application of a meshed namespace anew, so that it gets a proxy.
    ///
    /// # Errors
    /// One is not ready in time, or has no proxy.
    pub async fn inject(&self) -> Result<()> {
        let deployments = self.deployments().await?;
        let meshed: Vec<_> = deployments.iter().filter(|(namespace, _)| namespace != OUTSIDER).collect();
        try_join_all(meshed.iter().map(|(namespace, name)| self.restart(namespace, name))).await?;
        for (namespace, name) in meshed {
            let pods = self.json(&["get", "pods", "-n", namespace]).await?;
            let items = pods["items"].as_array().into_iter().flatten();
            let has_proxy = |pod: &Value| {
                let containers = pod["spec"]["initContainers"].as_array().into_iter().flatten();
                containers.into_iter().any(|container| container["name"] == "envoy")
            };
            let without = items.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && !has_proxy(pod)).count();
            ensure!(without == 0, "{without} pods of {namespace}/{name} have no proxy");
            self.control(name).ready(LIMIT).await?;
        }
        Ok(())
    }

    /// Changes the cluster's objects as a stage of the story says it. What fails in the middle can be done again.
    ///
    /// # Errors
    /// A manifest cannot be read or is refused.
    pub async fn apply_stage(&self, stage: &Path) -> Result<ClusterApplied> {
        let mut objects = Vec::new();
        let mut texts = Vec::new();
        for object in manifests::read(stage)? {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let kind = object["kind"].as_str().unwrap_or_default();
            objects.push(ObjectKey::new(kind, &text("namespace"), &text("name")));
            texts.push(serde_json::to_string(&object)?);
        }
        for entry in std::fs::read_dir(stage)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.applied.lock().unwrap_or_else(PoisonError::into_inner).insert(name, path);
            }
        }
        if !texts.is_empty() {
            self.kubectl().apply(&texts.join("\n---\n")).await?;
        }
        let list = stage.join("REMOVE");
        if list.is_file() {
            for name in std::fs::read_to_string(&list)?.lines().map(str::trim).filter(|name| !name.is_empty()) {
                self.delete_file(name).await?;
            }
        }
        Ok(ClusterApplied { at: Instant::now(), objects })
    }

    async fn delete_file(&self, name: &str) -> Result<()> {
        let file = self.applied.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let file = file.with_context(|| format!("{name} is to be removed and was never applied"))?;
        let arguments = ["delete", "--wait=false", "--ignore-not-found", "-f"];
        self.kubectl().output(&[&arguments[..], &[&file.to_string_lossy()]].concat()).await.map(drop)
    }
}

impl Scene for ClusterWorld {
    type Applied = ClusterApplied;

    async fn join_mesh(&mut self) -> Result<()> {
        self.install().await?;
        self.inject().await
    }

    async fn apply(&mut self, stage: &Path) -> Result<ClusterApplied> {
        self.apply_stage(stage).await
    }

    fn applied_at(applied: &ClusterApplied) -> Instant {
        applied.at
    }

    async fn is_programmed(&self, applied: &ClusterApplied) -> bool {
        for object in &applied.objects {
            let found = self.json(&["get", &object.kind, "-n", &object.namespace, &object.name]).await;
            if !found.is_ok_and(|found| is_true(&found, "Programmed")) {
                return false;
            }
        }
        true
    }

    async fn request(&self, from: &str, request: &TryRequest) -> Result<Report> {
        Self::request(self, from, request).await
    }

    async fn evidence(&mut self, stage: &StageRecord, applied: Option<&ClusterApplied>) -> String {
        let mut text = format!("\nevidence for stage {:?}:\n", stage.name);
        let kubectl = self.kubectl();
        let mut add = async |title: &str, arguments: &[&str]| {
            let said = kubectl.output(arguments).await.unwrap_or_else(|error| format!("{error:#}"));
            text += &format!("  {title}:\n");
            for line in said.lines() {
                text += &format!("    {line}\n");
            }
        };
        add("pods", &["get", "pods", "-A", "-o", "wide"]).await;
        add("snapshots", &["get", "proxysnapshots", "-A"]).await;
        for object in applied.into_iter().flat_map(|applied| &applied.objects) {
            let arguments = ["get", &object.kind, "-n", &object.namespace, &object.name, "-o", "jsonpath={.status}"];
            add(&object.to_string(), &arguments).await;
        }
        let log = ["logs", "-n", "osm-system", "-l", "app=osm-controller", "--prefix", "--tail=15"];
        add("control plane's log", &log).await;
        text
    }
}

/// Whether an object's status is about its present spec and says that the condition is true.
pub(super) fn is_true(object: &Value, type_: &str) -> bool {
    let generation = &object["metadata"]["generation"];
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    object["status"]["observedGeneration"] == *generation
        && conditions.into_iter().any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_about_an_older_spec_does_not_count() {
        let object = |observed: u32, status: &str| {
            json!({ "metadata": { "generation": 2 }, "status": {
                "observedGeneration": observed, "conditions": [{ "type": "Programmed", "status": status }],
            } })
        };
        assert!(is_true(&object(2, "True"), "Programmed"));
        assert!(!is_true(&object(1, "True"), "Programmed"));
        assert!(!is_true(&object(2, "Unknown"), "Programmed"));
        assert!(!is_true(&object(2, "True"), "Ready"));
    }
}
