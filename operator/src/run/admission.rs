//! The admission webhooks of a replica: what they are told, and the certificate they show.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use osm_admission::{InjectorConfig, InjectorDefaults, Touched, World, injection_version};
use osm_issuer::{CertificateStore, Change, PeerIdentity};
use osm_kubernetes::{Leadership, RequestError, WebhookConfiguration, Writer, Written};
use osm_source::SourceEvent;
use tokio::sync::watch;

use super::behind::InjectionVersion;
use crate::mesh::Observer;
use crate::webhooks::WebhookTls;

/// How often the configurations are looked at while nothing is known to have changed: whoever installs them anew leaves the roots
/// as they are, unless he deletes them first.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How long to wait for configurations that are not there yet, and after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Keeps what admission knows of the mesh, and tells it from the moment when everything was read.
pub(super) fn world(mesh_name: &str, namespace: &str) -> (Observer, watch::Receiver<Option<Arc<World>>>) {
    let (told, follows) = watch::channel(None);
    let mut world = World::new(mesh_name, namespace);
    let mut synced = false;
    let observer = Box::new(move |event: &SourceEvent| {
        let touched = match event {
            SourceEvent::Changes(changes) => {
                let touches =
                    changes.iter().filter(|(name, object)| world.apply(name, object.as_ref()) == Touched::Yes);
                touches.count() > 0
            }
            SourceEvent::Synced => {
                synced = true;
                true
            }
            SourceEvent::Problems(_) => false,
        };
        if synced && touched {
            // Nobody listens only when the process ends.
            let _ = told.send(Some(Arc::new(world.clone())));
        }
    });
    (observer, follows)
}

/// What a new pod would be injected with, as a version.
pub(super) fn version(defaults: InjectorDefaults) -> InjectionVersion {
    Box::new(move |config| injection_version(&InjectorConfig::new(defaults.clone(), config)))
}

/// Keeps the certificate that the webhooks show current, for ever.
pub(super) async fn renew(store: Arc<CertificateStore>, control_plane: PeerIdentity, tls: WebhookTls) -> Infallible {
    let mut changes = store.subscribe();
    loop {
        let concerned = match changes.next().await {
            Change::TrustBundle => true,
            Change::Leaf(identity) => identity == control_plane,
        };
        if !concerned {
            continue;
        }
        let (Ok(bundle), Some(leaf)) = (store.trust_bundle().await, store.cached(&control_plane)) else { continue };
        if let Err(error) = tls.replace(&leaf, &bundle).context("take a new certificate into use") {
            tracing::error!(error = format!("{error:#}"), "the webhooks keep their former certificate");
        }
    }
}

/// Makes the webhook configurations trust the roots of the mesh.
#[derive(Debug, Clone)]
pub(super) struct CaBundles {
    /// Writes.
    pub(super) writer: Writer,
    /// Where the roots come from.
    pub(super) store: Arc<CertificateStore>,
    /// The configurations by name.
    pub(super) configurations: [(WebhookConfiguration, String); 2],
}

impl CaBundles {
    /// Keeps them current while this replica holds the Lease, for ever.
    pub(super) async fn run(self, mut leadership: watch::Receiver<Leadership>) -> Infallible {
        loop {
            if leadership.wait_for(|held| *held == Leadership::Leader).await.is_err() {
                return std::future::pending().await;
            }
            tokio::select! {
                never = self.keep() => match never {},
                _ = leadership.wait_for(|held| *held == Leadership::Follower) => {}
            }
        }
    }

    async fn keep(&self) -> Infallible {
        let mut changes = self.store.subscribe();
        loop {
            let wait = match self.write().await {
                Ok(true) => LOOK_EVERY,
                Ok(false) => RETRY_AFTER,
                Err(error) => {
                    tracing::warn!(%error, "cannot write the roots into the webhook configurations; trying again");
                    RETRY_AFTER
                }
            };
            let roots_change = async { while changes.next().await != Change::TrustBundle {} };
            // Whichever comes first: both lead to another look.
            let _ = tokio::time::timeout(wait, roots_change).await;
        }
    }

    /// Whether all configurations are there, and trust the roots.
    async fn write(&self) -> Result<bool, RequestError> {
        let Ok(bundle) = self.store.trust_bundle().await else { return Ok(false) };
        let mut there = true;
        for (kind, name) in &self.configurations {
            match self.writer.set_ca_bundle(*kind, name, &bundle.pem()).await? {
                Written::Written => tracing::info!(name, "the webhook configuration trusts the roots of the mesh"),
                Written::Unchanged => {}
                Written::Gone => there = false,
            }
        }
        Ok(there)
    }
}
