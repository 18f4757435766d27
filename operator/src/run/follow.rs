//! What the process itself takes from the MeshConfig, and what it tells of one that is deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use osm_api::Object;
use osm_kubernetes::{EventRecorder, EventType, Leadership};
use osm_source::SourceEvent;
use tokio::sync::watch;

use crate::admin::DebugAccess;
use crate::logging::Logs;
use crate::mesh::{MESH_CONFIG_DELETED, Observer, is_mesh_config};

/// The log level and who may see `/debug` follow the MeshConfig, and it is noted that there is one.
pub(super) fn mesh_config(logs: Arc<Logs>, debug: DebugAccess, seen: Arc<AtomicBool>) -> Observer {
    let mut level = String::new();
    Box::new(move |event| {
        let SourceEvent::Changes(changes) = event else { return };
        for (name, object) in changes.iter().filter(|(name, _)| is_mesh_config(name)) {
            if let Some(Object::MeshConfig(config)) = object {
                tracing::debug!(%name, "read");
                seen.store(true, Ordering::Relaxed);
                let observability = &config.spec.observability;
                debug.set(observability.enable_debug_server());
                let wanted = observability.osm_log_level();
                if level != wanted {
                    wanted.clone_into(&mut level);
                    logs.follow(wanted);
                }
            }
        }
    })
}

/// The holder of the Lease records an event when the MeshConfig is deleted.
pub(super) fn deletion(events: EventRecorder, leadership: watch::Receiver<Leadership>) -> Observer {
    Box::new(move |event| {
        let SourceEvent::Changes(changes) = event else { return };
        let deleted = changes.iter().filter(|(name, object)| is_mesh_config(name) && object.is_none());
        for (name, _) in deleted.filter(|_| *leadership.borrow() == Leadership::Leader) {
            events.record(name, EventType::Warning, "Deleted", MESH_CONFIG_DELETED);
        }
    })
}
