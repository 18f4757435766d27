//! The admission webhooks of a replica: what they are told, and the certificate they show.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context;
use osm_admission::{InjectorConfig, InjectorDefaults, Touched, World, injection_version};
use osm_issuer::{CertificateStore, Change, PeerIdentity};
use osm_source::SourceEvent;
use tokio::sync::watch;

use super::behind::InjectionVersion;
use crate::mesh::Observer;
use crate::webhooks::WebhookTls;

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
