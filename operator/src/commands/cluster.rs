//! The cluster that a command is about.

use std::path::PathBuf;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use osm_api::{Kind, Object, ObjectRef};
use osm_engine::{MeshEngine, Options};

use crate::listing::list;

/// Which cluster, and which mesh in it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ClusterArgs {
    /// File that says how to reach the cluster; without it $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it the current one
    #[arg(long, global = true)]
    context: Option<String>,
    /// Namespace of the control plane
    #[arg(long, default_value = "osm-system", env = "OSM_NAMESPACE", global = true)]
    pub(crate) osm_namespace: String,
    /// Name of the mesh
    #[arg(long, default_value = "osm", global = true)]
    pub(crate) mesh_name: String,
}

impl ClusterArgs {
    /// A client.
    ///
    /// # Errors
    /// There is no kubeconfig, or it has no such context.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(file) => {
                let kubeconfig =
                    Kubeconfig::read_from(file).with_context(|| format!("read {} (--kubeconfig)", file.display()))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await.context("read the kubeconfig")?,
            None => Config::infer().await.context("find a cluster; name a kubeconfig with --kubeconfig")?,
        };
        Client::try_from(config).context("use the kubeconfig")
    }

    /// The same, for helm.
    pub(crate) fn helm_arguments(&self) -> impl Iterator<Item = String> + use<> {
        let kubeconfig =
            self.kubeconfig.as_ref().map(|file| ["--kubeconfig".to_owned(), file.to_string_lossy().into_owned()]);
        let context = self.context.as_ref().map(|context| ["--kube-context".to_owned(), context.clone()]);
        kubeconfig.into_iter().chain(context).flatten()
    }

    /// The mesh as the objects of the cluster make it, computed here. Nothing is written.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub(crate) async fn mesh(&self, client: &Client) -> anyhow::Result<MeshEngine> {
        let mut objects: Vec<(ObjectRef, Option<Object>)> = Vec::new();
        for kind in Kind::ALL.iter().copied().filter(|kind| *kind != Kind::ProxySnapshot) {
            objects.extend(list(client, kind).await?.into_iter().map(|(name, object)| (name, Some(object))));
        }
        let options = Options {
            mesh_name: self.mesh_name.as_str().into(),
            control_plane_namespace: self.osm_namespace.as_str().into(),
            // Neither decides who may talk to whom.
            trust_domain: osm_model::TrustDomain::new("cluster.local")?,
            cluster_domain: "cluster.local".into(),
            service_ranges: Vec::new(),
        };
        let mut engine = MeshEngine::new(options);
        engine.update(objects);
        Ok(engine)
    }
}
