//! The keeper of the roots of a replica: what it is made from, and how long a start waits for it.

use std::time::Duration;

use osm_issuer::{Clock, TrustDomain};
use osm_kubernetes::{EventRecorder, Leadership, Writer};
use tokio::sync::watch;

use super::Start;
use crate::admin::Phase;
use crate::driver::KnownPods;
use crate::gateway::GatewayState;
use crate::identity;
use crate::labels;
use crate::roots::{
    self, BuiltIn, ClusterSurroundings, Factory, Keeper, KeeperInputs, OtherReplicas, RecordConfigMap, RecordStore,
    Secrets, Surroundings,
};
use crate::written_roots::WrittenRoots;

/// How often to look for a record that another replica writes, and to try again what failed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a keeper hears of others.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// Other replicas.
    pub(super) others: watch::Sender<OtherReplicas>,
    /// Since when which roots are in the ConfigMaps of the mesh's namespaces.
    pub(super) trust_bundles: watch::Sender<WrittenRoots>,
    /// Since when which roots are in the webhook configurations.
    pub(super) webhooks: watch::Sender<WrittenRoots>,
    /// What the ingress gateway may trust and show.
    pub(super) gateway: watch::Sender<GatewayState>,
    /// The pods that are there.
    pub(super) pods: KnownPods,
}

impl Start {
    /// Takes up what is in force, or waits until there is something, for as long as that takes.
    ///
    /// # Errors
    /// The trust domain is none.
    pub(super) async fn keeper(
        &self,
        writer: &Writer,
        leadership: &watch::Receiver<Leadership>,
        events: &EventRecorder,
        heard: &Heard,
    ) -> anyhow::Result<Keeper> {
        let mut inputs = self.keeper_inputs(writer, leadership, events, heard)?;
        let mut said = String::new();
        loop {
            let objects = roots::in_cluster(&self.client).await;
            let taken_up = match objects {
                Ok(objects) => inputs.take_up(&objects).await,
                Err(error) => Err(error),
            };
            let waits_for = match taken_up {
                Ok(Some(in_force)) => return Keeper::new(inputs, in_force),
                Ok(None) => "waiting for the holder of the Lease to say which roots are in force".to_owned(),
                Err(error) => format!("waiting for the certificate authority: {error:#}"),
            };
            if waits_for != said {
                tracing::warn!("{waits_for}");
                self.readiness.enter(Phase::Starting(waits_for.clone()));
                said = waits_for;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn keeper_inputs(
        &self,
        writer: &Writer,
        leadership: &watch::Receiver<Leadership>,
        events: &EventRecorder,
        heard: &Heard,
    ) -> anyhow::Result<KeeperInputs> {
        let namespace = self.options.control_plane_namespace.to_string();
        let mesh_name = self.options.mesh_name.to_string();
        let trust_domain = TrustDomain::new(self.options.trust_domain.as_str())?;
        let secrets =
            Secrets::Cluster { writer: writer.clone(), leadership: leadership.clone(), mesh_name: mesh_name.clone() };
        let control_plane = identity::control_plane_identity(&trust_domain, &namespace)?;
        Ok(KeeperInputs {
            trust_domain: trust_domain.to_string(),
            factory: Factory { secrets: secrets.clone(), control_plane },
            built_in: BuiltIn::in_secret(&namespace, self.args.ca_bundle_secret_name.clone(), secrets),
            record: RecordStore::ConfigMap(RecordConfigMap::new(
                writer.clone(),
                namespace.clone(),
                labels::of_mesh(&mesh_name),
            )),
            surroundings: Surroundings::Cluster(ClusterSurroundings {
                replica: self.args.replica_name.clone(),
                leadership: leadership.clone(),
                others: heard.others.subscribe(),
                report: self.report.clone(),
                trust_bundles: heard.trust_bundles.subscribe(),
                webhooks: heard.webhooks.subscribe(),
                gateway: heard.gateway.subscribe(),
                pods: heard.pods.clone(),
                events: events.clone(),
            }),
            timing: self.args.roots_timing(),
            clock: Clock::system(),
            namespace,
        })
    }
}
