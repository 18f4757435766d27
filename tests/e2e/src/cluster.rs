//! A whole Kubernetes cluster with the applications in it, and the mesh installed as a user installs it.

mod install;
mod manifests;
mod scene;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use osm_cluster::images::Image;
use osm_cluster::{Cluster, ClusterOptions, Kubectl, Lifetime, images};
use osm_testkit::apps::{ControlClient, LoadRequest, Report, RunningLoad, TryRequest};
use osm_testkit::eventually;
use serde_json::Value;

pub use install::Helm;
pub use scene::ClusterApplied;

use crate::files::ObjectKey;

/// How long anything may take that has no limit of its own: pods are made on a machine that also builds.
const LIMIT: Duration = Duration::from_secs(180);

/// What runs in a cluster.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `osm-operator`.
    pub operator: PathBuf,
    /// `osm-bookstore`.
    pub bookstore: PathBuf,
    /// Version of Envoy.
    pub envoy: String,
}

impl Programs {
    /// Those that were built with the running program: beside it, or one directory above (tests run from `deps`).
    ///
    /// # Errors
    /// They are not there; the message says how to build them.
    pub fn beside_this_one(envoy: &str) -> Result<Self> {
        let executable = std::env::current_exe()?;
        let find = |name: &str| {
            let found =
                executable.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|file| file.is_file());
            found.with_context(|| {
                format!("{name} is not beside {}: build it with cargo build --workspace", executable.display())
            })
        };
        Ok(Self { operator: find("osm-operator")?, bookstore: find("osm-bookstore")?, envoy: envoy.to_owned() })
    }
}

/// Images of the programs.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    pub(crate) operator: Image,
    pub(crate) bookstore: Image,
    pub(crate) envoy: Image,
}

impl Images {
    async fn of(programs: &Programs) -> Result<Self> {
        let Programs { operator, bookstore, envoy } = programs.clone();
        let made = tokio::task::spawn_blocking(move || {
            anyhow::Ok(Self {
                operator: images::operator(&operator)?,
                bookstore: images::bookstore(&bookstore)?,
                envoy: images::envoy(&envoy)?,
            })
        });
        made.await.context("making images does not panic")?
    }

    fn all(&self) -> [&Image; 3] {
        [&self.operator, &self.bookstore, &self.envoy]
    }
}

/// See the module. The cluster ends when this is dropped.
#[derive(Debug)]
pub struct ClusterWorld {
    cluster: Cluster,
    images: Images,
    helm: Helm,
    /// With which the mesh is installed, as `key=value`.
    values: Vec<String>,
    /// Folder on the node that every application has its control socket in.
    control: PathBuf,
    /// Where the manifest of each file name was last applied from.
    applied: Mutex<BTreeMap<String, PathBuf>>,
}

impl ClusterWorld {
    /// A cluster with the images of `programs` and no mesh.
    ///
    /// # Errors
    /// The cluster does not start.
    pub async fn empty(name: &str, programs: &Programs, lifetime: Lifetime) -> Result<Self> {
        let images = Images::of(programs).await?;
        let cluster = Cluster::up(ClusterOptions { lifetime, ..ClusterOptions::new(name) }).await?;
        for image in images.all() {
            cluster.load_image(image)?;
        }
        let control = cluster.folder().join("control");
        std::fs::create_dir_all(&control)?;
        // Applications run as users of their own.
        std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o777))?;
        let helm = Helm::new(&cluster).await?;
        Ok(Self { cluster, images, helm, values: Vec::new(), control, applied: Mutex::default() })
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// kubectl for it.
    pub fn kubectl(&self) -> &Kubectl {
        self.cluster.kubectl()
    }

    /// Applies manifests as they are written for a folder: a Pod becomes a Deployment of that name with the image that was made
    /// here, and what a cluster makes by itself is left out.
    ///
    /// # Errors
    /// A manifest cannot be read or is refused.
    pub async fn apply_for_cluster(&self, folder: &Path) -> Result<()> {
        let objects = manifests::for_cluster(folder, self.images.bookstore.reference(), &self.control)?;
        self.apply_objects(&objects).await
    }

    /// Applies objects.
    ///
    /// # Errors
    /// One is refused.
    pub async fn apply_objects(&self, objects: &[Value]) -> Result<()> {
        let texts = objects.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        self.kubectl().apply(&texts.join("\n---\n")).await.map(drop)
    }

    /// An application of `osm-bookstore` as a Deployment: see `manifests::deployment`.
    pub fn deployment(&self, namespace: &str, name: &str, account: &str, arguments: &[&str]) -> Value {
        manifests::deployment(namespace, name, account, arguments, self.images.bookstore.reference(), &self.control)
    }

    /// Sets further values of the chart, as `key=value`, for whenever the mesh is installed from now on.
    pub fn set_values(&mut self, values: Vec<String>) {
        self.values = values;
    }

    /// Installs CRDs and control plane by helm, and waits until they are ready.
    ///
    /// # Errors
    /// helm fails; the message has its words and the control plane's.
    pub async fn install(&self) -> Result<()> {
        let installed = self.helm.install(&self.images, &self.values).await;
        match installed {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(self.control_plane_log(40).await)),
        }
    }

    /// helm, set up for this cluster.
    pub fn helm(&self) -> &Helm {
        &self.helm
    }

    /// The last lines of every replica of the control plane.
    pub async fn control_plane_log(&self, lines: u32) -> String {
        let tail = format!("--tail={lines}");
        let arguments = ["logs", "-n", "osm-system", "-l", "app=osm-controller", "--prefix", &tail];
        self.kubectl().output(&arguments).await.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Starts the pods of a Deployment anew, and waits until all are ready.
    ///
    /// # Errors
    /// They are not ready in time; the message describes them.
    pub async fn restart(&self, namespace: &str, deployment: &str) -> Result<()> {
        let name = format!("deployment/{deployment}");
        self.kubectl().output(&["rollout", "restart", "-n", namespace, &name]).await?;
        self.rolled_out(namespace, &name).await
    }

    /// Waits until a workload's pods are ready.
    ///
    /// # Errors
    /// Not in time; the message describes them.
    pub async fn rolled_out(&self, namespace: &str, workload: &str) -> Result<()> {
        let timeout = format!("--timeout={}s", LIMIT.as_secs());
        let waited = self.kubectl().output(&["rollout", "status", "-n", namespace, workload, &timeout]).await;
        if let Err(error) = waited {
            let pods = self.kubectl().output(&["describe", "pods", "-n", namespace]).await.unwrap_or_default();
            return Err(error.context(format!("{workload} in {namespace} is not ready\n{pods}")));
        }
        Ok(())
    }

    /// Deployments of all namespaces but those of the cluster and of the control plane, as namespace and name.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn deployments(&self) -> Result<Vec<(String, String)>> {
        let list = self.json(&["get", "deployments", "-A"]).await?;
        let names = list["items"].as_array().into_iter().flatten().map(|item| {
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
            (text("namespace"), text("name"))
        });
        Ok(names.filter(|(namespace, _)| !["kube-system", "osm-system"].contains(&namespace.as_str())).collect())
    }

    /// What kubectl gives as JSON.
    ///
    /// # Errors
    /// kubectl fails.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl().output(&[arguments, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("reading what kubectl {} says", arguments.join(" ")))
    }

    /// An application's control socket.
    pub fn control(&self, name: &str) -> ControlClient {
        ControlClient::new(self.control.join(format!("{name}.sock")))
    }

    /// Lets an application make attempts, and tells what it saw.
    ///
    /// # Errors
    /// It does not answer. That attempts fail is in the report.
    pub async fn request(&self, from: &str, request: &TryRequest) -> Result<Report> {
        self.control(from).attempt(request).await
    }

    /// Lets an application make load until the handle is finished.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn load(&self, from: &str, request: &LoadRequest) -> Result<RunningLoad> {
        self.control(from).start_load(request).await
    }

    /// Waits until an object's status is about its present spec, and its condition `type_` is true.
    ///
    /// # Errors
    /// Not in time; the message holds the status.
    pub async fn wait_condition(&self, object: &ObjectKey, type_: &str) -> Result<()> {
        eventually(&format!("{object} is {type_}"), LIMIT, || async {
            let found = self.json(&["get", &object.kind, "-n", &object.namespace, &object.name]).await?;
            ensure!(scene::is_true(&found, type_), "its status is {}", found["status"]);
            Ok(())
        })
        .await
    }
}
